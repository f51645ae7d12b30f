//! Images whose manifests, configs and layers are named by sha512, alone or beside sha256: they are
//! carried under the same digests all the way, and damage is found wherever it is with sha256.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use crate::story::{self, alone, text};
use store::Store;
use testkit::gantry::RunningGantry;
use testkit::store_suite::add_long_digest_sample;
use testkit::{Gantry, TestRegistry, tools};
use types::{Descriptor, DigestAlgorithm, Root};

/// A registry with the sample image (Gantry's own, of a store: docker-registry takes no manifest under a
/// sha512), and a user who has locked and fetched it from there.
struct LongDigests {
    home: tempfile::TempDir,
    gantry: Gantry,
    origin: Option<RunningGantry>,
    host: String,
    root: Root,
    content: Vec<Descriptor>,
}

impl LongDigests {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path().join("origin")).unwrap();
        let root = add_long_digest_sample(&store);
        let content: Vec<Descriptor> =
            store::find_closure(&store, &root).unwrap().descriptors().cloned().collect();
        let gantry = alone(home.path());
        let mut origin = gantry.start(["serve", &text(store.path()), "--listen", "127.0.0.1:0"]);
        let url = origin.wait_for_word_after(" on ");
        let host = url.trim_start_matches("http://").to_owned();
        let (name, digest) = ("quay.io/long/digests", root.descriptor.digest);
        gantry.write_file(
            "gantry.yaml",
            &format!(
                "version: 1\nname: long\nplatforms: [linux/amd64, linux/arm64]\n\
                 images: ['{host}/{name}:1', '{host}/{name}@{digest}']\n"
            ),
        );
        gantry.run(["lock"]).assert_success();
        gantry.run(["fetch"]).assert_success();
        Self { home, gantry, origin: Some(origin), host, root, content }
    }

    /// Asserts that a layout has all content, under the digests that it has at its origin.
    fn assert_in(&self, layout: &Path) {
        for blob in &self.content {
            let bytes = fs::read(layout.join(blob.digest.layout_path())).unwrap();
            assert!(store::hash::has_digest(&bytes, &blob.digest), "{}", blob.digest);
        }
    }

    /// The largest layer that is named by sha512.
    fn layer(&self) -> &Descriptor {
        let long = |blob: &&Descriptor| blob.digest.algorithm() == DigestAlgorithm::Sha512;
        self.content.iter().filter(long).max_by_key(|blob| blob.size).unwrap()
    }
}

fn flip_bit(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn content_of_sha512_keeps_its_digests_from_registry_to_store_bundle_folder_and_registry() {
    let mut world = LongDigests::new();
    let origin = world.origin.take();
    let gantry = &world.gantry;
    let digest = world.root.descriptor.digest.to_string();
    assert!(gantry.read_file("gantry.lock").contains(&digest));
    world.assert_in(gantry.store());
    gantry.run(["store", "verify"]).assert_success();
    let media = tempfile::tempdir().unwrap();
    story::pack(gantry, media.path(), "1MiB");
    let media = text(media.path());
    gantry.run(["verify", &media]).assert_success();
    let listed = gantry.run(["inspect", &media, "--output", "json"]).parse_json();
    assert!(listed.to_string().contains(&digest), "{listed}");
    // Nothing else is asked for there.
    drop(origin);

    // A folder.
    let folder = world.home.path().join("folder");
    gantry.run(["load", &media, "--to", &text(&folder)]).assert_success();
    world.assert_in(&folder);
    let name = format!("oci:{}:{}/quay.io/long/digests:1", folder.display(), world.host);
    let raw = tools::run_command(tools::tool_command("skopeo").args(["inspect", "--raw", &name]));
    assert!(store::hash::has_digest(raw.as_bytes(), &world.root.descriptor.digest), "{raw}");

    // A registry: blobs keep their names, and the receipt has the digest that manifests have there.
    let site = TestRegistry::start();
    let to = format!("{}/ai", site.host());
    let load = ["load", &media, "--to", &to, "--output", "json"];
    let loaded = gantry.run(load).assert_success();
    assert!(loaded.stderr.contains("under their sha256 alone"), "{}", loaded.stderr);
    let summary = loaded.parse_json();
    let rows = summary["roots"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "by tag and by digest: {summary}");
    assert!(rows.iter().all(|row| row["digest"] == digest.as_str()), "{summary}");
    let is_tagged = |row: &&serde_json::Value| !row["target"].as_str().unwrap().contains('@');
    let row = rows.iter().find(is_tagged).unwrap();
    let there = row["rewritten"].as_str().unwrap();
    let target = row["target"].as_str().unwrap().to_owned();
    let at = tools::run_command(tools::tool_command("crane").args(["digest", &target]));
    assert_eq!(at.trim(), there);
    let again = gantry.run(load).assert_success().parse_json();
    assert_eq!(again["transferredBytes"], 0, "{again}");

    // From that registry to the store of somebody else.
    let home = tempfile::tempdir().unwrap();
    let other = alone(home.path());
    other.write_file(
        "gantry.yaml",
        &format!(
            "version: 1\nname: other\nplatforms: [linux/amd64, linux/arm64]\nimages: ['{target}']\n"
        ),
    );
    other.run(["lock"]).assert_success();
    other.run(["fetch"]).assert_success();
    other.run(["store", "verify"]).assert_success();
    let layer = world.layer();
    assert!(other.store().join(layer.digest.layout_path()).exists());

    // An archive for other tools.
    let out = world.home.path().join("out");
    gantry.run(["extract", &media, "-o", &text(&out)]).assert_success();
    let archive = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let archive = archive.filter(|path| path.extension().is_some_and(|end| end == "tar"));
    for archive in archive {
        let unpacked = tempfile::tempdir().unwrap();
        let tar = ["-xf", &text(&archive), "-C", &text(unpacked.path())].map(str::to_owned);
        tools::run_command(std::process::Command::new("tar").args(tar));
        world.assert_in(unpacked.path());
    }
}

#[test]
fn damage_of_sha512_content_is_found_by_every_verb() {
    let world = LongDigests::new();
    let gantry = &world.gantry;
    let layer = world.layer();
    let digest = layer.digest.to_string();
    let media = tempfile::tempdir().unwrap();
    let [bundle] = &story::pack(gantry, media.path(), "1GiB")[..] else { panic!("one file") };
    let (bundle, media) = (bundle.clone(), text(media.path()));

    flip_bit(&gantry.store().join(layer.digest.layout_path()), layer.size / 2);
    let found = gantry.run(["store", "verify"]).assert_exit_code(3);
    assert!(found.stdout.contains(&layer.digest.short_hex()), "{}", found.stdout);
    let packed = gantry.run(["pack", "-o", &text(&world.home.path().join("again"))]);
    assert_eq!(packed.code, Some(3), "{}", packed.stderr);
    assert!(packed.stderr.contains(&digest), "{}", packed.stderr);
    // As with sha256: what is damaged is removed and fetched again.
    gantry.run(["store", "verify", "--remove"]);
    gantry.run(["fetch"]).assert_success();
    gantry.run(["store", "verify"]).assert_success();

    let opened = bundle::BundleFile::open(&bundle).unwrap();
    let entry = opened.index().entries.iter().find(|entry| entry.blob == layer.digest).unwrap();
    flip_bit(&bundle, entry.offset + 11);
    let found = gantry.run(["verify", &media]).assert_exit_code(3);
    assert!(found.stdout.contains(&layer.digest.hex()), "{}", found.stdout);
    let folder = text(&world.home.path().join("folder"));
    let refused = gantry.run(["load", &media, "--to", &folder]);
    assert!(!refused.stderr.is_empty() && refused.code != Some(0), "{}", refused.stderr);
    assert!(!Path::new(&folder).join(layer.digest.layout_path()).exists());
}

#[test]
fn a_digest_of_an_algorithm_that_is_not_known_is_refused_by_name() {
    let world = LongDigests::new();
    let pin = format!("sha384:{}", "a".repeat(96));
    let input = format!("version: 1\nname: x\nimages: ['{}/a/b@{pin}']\n", world.host);
    world.gantry.write_file("gantry.yaml", &input);

    let refused = world.gantry.run(["lock"]).assert_exit_code(2);

    assert!(refused.stderr.contains("algorithm sha384 is not supported"), "{}", refused.stderr);
}
