//! Killed commands: whenever one is killed, the next run continues from what is there, and nothing is
//! lost. `make test-hard` kills far more often (`GANTRY_TEST_KILLS`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::story::{INPUT, alone, fetched, pack, text, user, volumes};
use store::Store;
use testkit::{FaultProxy, Gantry, TestEnvironment, TestRegistry};
use types::lock::{BlobOrigin, Lock, LockedBlob};
use types::{Descriptor, Root, RootKind, media_type};

/// How often a fetch is killed before it may finish, and each of the others, unless
/// `GANTRY_TEST_KILLS` says otherwise.
const FETCH_KILLS: u64 = 20;
const OTHER_KILLS: u64 = 5;
/// The longest piece of an upload, which a registry may not have kept when its sender is killed.
const LONGEST_PIECE: u64 = 64 << 20;

#[test]
fn a_fetch_killed_at_random_instants_ends_whole_and_asks_for_nothing_twice() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, INPUT);
    gantry.run(["lock"]).assert_success();

    let lost = fetch_with_kills(&world, &gantry);

    println!("fetch: {lost:?} of bytes on the disk");
    gantry.run(["store", "verify"]).assert_success();
    assert!(lost.there > 10 << 20, "the kills fell into the fetch: {lost:?}");
    assert_eq!(lost.again, 0, "{lost:?}");
}

#[test]
fn a_killed_pack_keeps_its_finished_files_and_ends_with_the_same_bundle() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let (whole, media) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let started = Instant::now();
    let expected = pack(&gantry, whole.path(), "4MiB");
    let takes = started.elapsed();
    let arguments = ["pack", "-o", &text(media.path()), "--file-size", "4MiB"].map(str::to_owned);
    let random = RandomState::new();
    let mut again = 0;
    // Each file's inode, which a file has that was written again.
    let mut finished: BTreeMap<PathBuf, u64> = BTreeMap::new();

    for kill in 0..count_kills(OTHER_KILLS) {
        let mut running = gantry.start(&arguments);
        let instant = takes * u32::try_from(random.hash_one(kill) % 1000).unwrap() / 1000;
        let started = Instant::now();
        while running.is_running() && started.elapsed() < instant {
            std::thread::sleep(Duration::from_millis(1));
        }
        running.kill();
        let now: BTreeMap<PathBuf, u64> = volumes(media.path())
            .into_iter()
            .map(|path| (path.clone(), fs::metadata(&path).unwrap().ino()))
            .collect();
        again += finished.iter().filter(|(path, inode)| now.get(*path) != Some(*inode)).count();
        finished = now;
    }
    gantry.run(&arguments).assert_success();

    println!("pack: {again} finished files written again");
    assert_eq!(again, 0);
    let packed = volumes(media.path());
    assert_eq!(packed.len(), expected.len());
    for (path, expected) in packed.iter().zip(&expected) {
        assert_eq!(path.file_name(), expected.file_name());
        assert!(fs::read(path).unwrap() == fs::read(expected).unwrap(), "{}", path.display());
    }
    let rest = fs::read_dir(media.path()).unwrap().count();
    assert_eq!(rest, packed.len() + 1, "the manifest, and no unfinished file");
}

#[test]
fn a_killed_load_into_a_folder_continues_from_every_byte_that_was_there() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let target = world.home().join("target");
    let load = ["load", &text(gantry.store()), "--to", &text(&target)].map(str::to_owned);

    let shrunk = run_with_kills(&gantry, &load, || blob_sizes(&target), gantry.store());

    println!("load into a folder: {shrunk} bytes written again");
    assert_eq!(shrunk, 0);
    let there = alone(world.home()).with_store(&target);
    there.run(["store", "verify"]).assert_success();
    let names = |gantry: &Gantry| gantry.run(["store", "ls"]).assert_success().stdout;
    assert_eq!(names(&there), names(&gantry));
}

#[test]
fn a_killed_push_of_a_model_continues_from_every_byte_that_was_there() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let target = world.home().join("models");
    let push =
        ["models", "push", &text(gantry.store()), "--to", &text(&target), "--layout", "flat"]
            .map(str::to_owned);

    let sizes = || folder_size(&target);
    let shrunk = run_with_kills(
        &gantry,
        &push,
        || HashMap::from([(String::new(), sizes())]),
        gantry.store(),
    );

    println!("models push: {shrunk} bytes written again");
    assert_eq!(shrunk, 0);
    gantry.run(["models", "verify", &text(&target)]).assert_success();
}

#[test]
fn a_killed_load_into_a_registry_sends_at_most_a_piece_of_each_blob_again() {
    const LAYER: usize = 150 << 20;
    let folder = tempfile::tempdir().unwrap();
    let gantry = alone(folder.path());
    let size = fill_with_noise(gantry.store(), LAYER);
    let site = TestRegistry::start();
    let random = RandomState::new();
    let kills = count_kills(OTHER_KILLS);
    // One for all runs: the registry's name is part of what is kept of an upload.
    let proxy = FaultProxy::in_front_of(&site.url());
    let load = ["load", &text(gantry.store()), "--to", &proxy.host()].map(str::to_owned);
    for kill in 0..=kills {
        let received = proxy.received_bytes("/uploads/");
        let mut running = gantry.start(&load);
        if kill < kills {
            // Far enough for some pieces to be finished, however many kills there are.
            let instant = received + random.hash_one(kill) % (2 * size / (kills + 1)).max(48 << 20);
            while running.is_running() && proxy.received_bytes("/uploads/") < instant {
                std::thread::sleep(Duration::from_millis(1));
            }
            running.kill();
        } else {
            assert_eq!(running.wait(), Some(0));
        }
    }

    let again = proxy.received_bytes("/uploads/").saturating_sub(size);
    println!("load into a registry: {again} of {size} bytes sent again by {kills} kills");
    assert!(again <= kills * 2 * LONGEST_PIECE, "{again} bytes");
    let pulled = folder.path().join("pulled");
    let from = format!("{}/team/noise:1", site.host());
    let layout = format!("oci:{}:1", pulled.display());
    testkit::tools::run_command(testkit::tools::tool_command("skopeo").args([
        "copy",
        "--src-tls-verify=false",
        &format!("docker://{from}"),
        &layout,
    ]));
}

mod slow {
    use super::*;

    #[test]
    fn of_a_gigabyte_less_than_a_hundredth_comes_again_after_twenty_kills() {
        let world = TestEnvironment::slow();
        let names: Vec<String> =
            world.images().iter().map(|image| image.reference.to_string()).collect();
        let list = names.join(", ");
        let gantry = user(&world, &format!("version: 1\nname: slow\nimages: [{list}]\n"));
        gantry.run(["lock"]).assert_success();

        let lost = fetch_with_kills(&world, &gantry);

        gantry.run(["store", "verify"]).assert_success();
        assert!(lost.again < lost.there / 100, "{lost:?}");
    }
}

/// What was downloaded again because of the kills.
#[derive(Debug, Default)]
struct Lost {
    /// The bytes on the disk at each kill that were new since the previous one, all together.
    there: u64,
    /// How many of them were requested again. What a killed process had in memory and in its sockets was
    /// not on the disk and does not count.
    again: u64,
}

/// Fetches to the end; on the way the process is killed after random numbers of received bytes.
fn fetch_with_kills(world: &TestEnvironment, gantry: &Gantry) -> Lost {
    let kills = count_kills(FETCH_KILLS);
    let names = names(gantry);
    // Each std hasher has new random keys; no crate is needed for twenty instants.
    let random = RandomState::new();
    let mut lost = Lost::default();
    let mut there = on_disk(gantry);
    let mut missing: u64 = names.values().map(|(_, size)| size).sum();
    for kill in 0..=kills {
        // New proxies each time: requests of the killed run may still be on their way to the old ones.
        let (registry, hub) = (
            FaultProxy::in_front_of(&world.upstream().url()),
            FaultProxy::in_front_of(&world.hub().url()),
        );
        world.set_mirrors(&registry.url(), &hub.url());
        let mut running = gantry.start(["fetch", "--quiet"]);
        if kill < kills {
            // At most twice the fair share of the rest, so that all kills happen during the fetch.
            let most = 2 * missing / (kills - kill);
            let instant = random.hash_one(kill) % most.max(1);
            while running.is_running() && registry.sent_bytes("") + hub.sent_bytes("") < instant {
                std::thread::yield_now();
            }
            running.kill();
        } else {
            assert_eq!(running.wait(), Some(0));
        }
        for request in registry.requests().into_iter().chain(hub.requests()) {
            let Some((digest, _)) = names.get(name(&request.path)) else { continue };
            let Some(length) = there.get(digest).filter(|_| request.method == "GET") else {
                continue;
            };
            lost.again += length.saturating_sub(request.range_start());
        }
        let now = on_disk(gantry);
        let (before, after) = (there.values().sum::<u64>(), now.values().sum());
        if kill < kills {
            lost.there += u64::saturating_sub(after, before);
        }
        missing = missing.saturating_sub(after - before.min(after));
        there = now;
    }
    lost
}

/// The last part of the request path of each blob, with the blob's digest (in hex) and size.
fn names(gantry: &Gantry) -> HashMap<String, (String, u64)> {
    let lock = Lock::parse("gantry.lock", &gantry.read_file("gantry.lock")).unwrap();
    let named = |content: &LockedBlob<'_>| match content.origin {
        BlobOrigin::Hub { file, .. } => file.path.clone(),
        _ => content.blob.digest.to_string(),
    };
    lock.blobs()
        .iter()
        .map(|content| (named(content), (content.blob.digest.hex(), content.blob.size)))
        .collect()
}

/// `config.json` of `/org/name/resolve/COMMIT/config.json`, `sha256:…` of `/v2/…/blobs/sha256:…`.
fn name(path: &str) -> &str {
    if let Some((_, of_a_model)) = path.split_once("/resolve/") {
        return of_a_model.split_once('/').unwrap_or_default().1;
    }
    path.rsplit('/').next().unwrap_or_default()
}

/// The bytes on the disk of each blob, complete or partial, by its digest in hex.
fn on_disk(gantry: &Gantry) -> HashMap<String, u64> {
    blob_sizes(gantry.store())
}

/// As [`on_disk`], of any store's folder.
fn blob_sizes(store: &Path) -> HashMap<String, u64> {
    let mut found = HashMap::new();
    for folder in ["gantry/partial", "blobs/sha256"] {
        for entry in fs::read_dir(store.join(folder)).into_iter().flatten() {
            let entry = entry.unwrap();
            // A temporary file may be renamed while the folder is read.
            let Ok(metadata) = entry.metadata() else { continue };
            found.insert(entry.file_name().into_string().unwrap(), metadata.len());
        }
    }
    found.retain(|name, _| !name.starts_with("tmp-"));
    found
}

fn count_kills(otherwise: u64) -> u64 {
    std::env::var("GANTRY_TEST_KILLS").map_or(otherwise, |text| text.parse().unwrap())
}

/// Runs a command to its end; on the way it is killed after random numbers of bytes that it wrote.
/// Returns how many bytes were there at a kill and not any more at the next one.
fn run_with_kills(
    gantry: &Gantry,
    arguments: &[String],
    sizes: impl Fn() -> HashMap<String, u64>,
    source: &Path,
) -> u64 {
    let kills = count_kills(OTHER_KILLS);
    let all = folder_size(source);
    let random = RandomState::new();
    let mut there = sizes();
    let mut shrunk = 0;
    for kill in 0..kills {
        let before: u64 = there.values().sum();
        let instant = before + random.hash_one(kill) % (2 * all / (kills + 1)).max(1);
        let mut running = gantry.start(arguments);
        while running.is_running() && sizes().values().sum::<u64>() < instant {
            std::thread::sleep(Duration::from_millis(1));
        }
        running.kill();
        let now = sizes();
        shrunk += there
            .iter()
            .map(|(name, size)| size.saturating_sub(now.get(name).copied().unwrap_or(0)))
            .sum::<u64>();
        there = now;
    }
    gantry.run(arguments).assert_success();
    shrunk
}

/// The lengths of all files below a folder.
fn folder_size(folder: &Path) -> u64 {
    // What is renamed or removed while the folder is read has no length.
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
            metadata => metadata.map_or(0, |metadata| metadata.len()),
        })
        .sum()
}

/// A store with one image of two layers of random bytes; how many bytes they have.
fn fill_with_noise(folder: &Path, layer: usize) -> u64 {
    let store = Store::open(folder).unwrap();
    let layers: Vec<Descriptor> = (0..2)
        .map(|_| {
            let noise = std::io::Read::take(fs::File::open("/dev/urandom").unwrap(), layer as u64);
            let (digest, size) = store.add_reader(noise).unwrap();
            Descriptor::new(media_type::OCI_LAYER_TAR, digest, size)
        })
        .collect();
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": {
        "type": "layers", "diff_ids": layers.iter().map(|layer| layer.digest).collect::<Vec<_>>() } });
    let config = config.to_string();
    let config_digest = store.put_bytes(config.as_bytes()).unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor::new(media_type::OCI_CONFIG, config_digest, config.len() as u64),
        "layers": layers,
    })
    .to_string();
    let digest = store.put_bytes(manifest.as_bytes()).unwrap();
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
    let root =
        Root::new("registry.example/team/noise:1".parse().unwrap(), RootKind::Image, descriptor);
    store.publish_roots(&[root]).unwrap();
    2 * layer as u64
}
