//! Killed fetches: whenever a fetch is killed, the next one continues from what is on the disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};

use crate::story::{INPUT, user};
use testkit::{FaultProxy, Gantry, TestEnvironment};
use types::lock::{BlobOrigin, Lock, LockedBlob};

/// How often the fetch is killed before it may finish.
const KILLS: u64 = 20;

#[test]
fn a_fetch_killed_at_twenty_random_instants_ends_whole_and_asks_for_nothing_twice() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, INPUT);
    gantry.run(["lock"]).assert_success();

    let lost = fetch_with_kills(&world, &gantry);

    gantry.run(["store", "verify"]).assert_success();
    assert!(lost.there > 10 << 20, "the kills fell into the fetch: {lost:?}");
    assert_eq!(lost.again, 0, "{lost:?}");
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
    let names = names(gantry);
    // Each std hasher has new random keys; no crate is needed for twenty instants.
    let random = RandomState::new();
    let mut lost = Lost::default();
    let mut there = on_disk(gantry);
    let mut missing: u64 = names.values().map(|(_, size)| size).sum();
    for kill in 0..=KILLS {
        // New proxies each time: requests of the killed run may still be on their way to the old ones.
        let (registry, hub) = (
            FaultProxy::in_front_of(&world.upstream().url()),
            FaultProxy::in_front_of(&world.hub().url()),
        );
        world.set_mirrors(&registry.url(), &hub.url());
        let mut running = gantry.start(["fetch", "--quiet"]);
        if kill < KILLS {
            // At most twice the fair share of the rest, so that all kills happen during the fetch.
            let most = 2 * missing / (KILLS - kill);
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
        if kill < KILLS {
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
    let mut found = HashMap::new();
    for folder in ["gantry/partial", "blobs/sha256"] {
        for entry in fs::read_dir(gantry.store().join(folder)).into_iter().flatten() {
            let entry = entry.unwrap();
            let length = entry.metadata().unwrap().len();
            found.insert(entry.file_name().into_string().unwrap(), length);
        }
    }
    found
}
