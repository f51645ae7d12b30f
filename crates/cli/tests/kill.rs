//! The story of kill -9: at whatever instant a fetch is killed, the next one goes on from what is
//! on the disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod story;

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};

use story::{INPUT, user};
use testkit::{Faults, Gantry, World};
use types::lock::{Content, Lock, Origin};

/// How often a fetch is killed before it may end.
const KILLS: u64 = 20;

#[test]
fn a_fetch_killed_at_twenty_random_instants_ends_whole_and_asks_for_nothing_twice() {
    let world = World::fast();
    let gantry = user(&world, INPUT);
    gantry.run(["lock"]).success();

    let lost = fetch_with_kills(&world, &gantry);

    gantry.run(["store", "verify"]).success();
    assert!(lost.there > 10 << 20, "the kills fell into the fetch: {lost:?}");
    assert_eq!(lost.again, 0, "{lost:?}");
}

mod slow {
    use super::*;

    #[test]
    fn of_a_gigabyte_less_than_a_hundredth_comes_again_after_twenty_kills() {
        let world = World::slow();
        let names: Vec<String> =
            world.images().iter().map(|image| image.reference.to_string()).collect();
        let list = names.join(", ");
        let gantry = user(&world, &format!("version: 1\nname: slow\nimages: [{list}]\n"));
        gantry.run(["lock"]).success();

        let lost = fetch_with_kills(&world, &gantry);

        gantry.run(["store", "verify"]).success();
        assert!(lost.again < lost.there / 100, "{lost:?}");
    }
}

/// What the kills cost.
#[derive(Debug, Default)]
struct Lost {
    /// What was on the disk at all kills together, each time what had come since the one before.
    there: u64,
    /// Of it, what was asked for again. What a killed process held in its memory and its sockets
    /// was not there yet, and does not count.
    again: u64,
}

/// Fetches to the end, killed on the way at random counts of bytes that came.
fn fetch_with_kills(world: &World, gantry: &Gantry) -> Lost {
    let names = names(gantry);
    // Each std hasher has new random keys; no crate is needed for twenty instants.
    let random = RandomState::new();
    let mut lost = Lost::default();
    let mut there = on_disk(gantry);
    let mut missing: u64 = names.values().map(|(_, size)| size).sum();
    for kill in 0..=KILLS {
        // New ones each time: what a killed run had sent may still be on its way to the old ones.
        let (registry, hub) =
            (Faults::before(&world.upstream().url()), Faults::before(&world.hub().url()));
        world.lead_to(&registry.url(), &hub.url());
        let mut running = gantry.start(["fetch", "--quiet"]);
        if kill < KILLS {
            // At most twice a fair part of what is still to come, so that all of them fall into it.
            let most = 2 * missing / (KILLS - kill);
            let instant = random.hash_one(kill) % most.max(1);
            while running.is_running() && registry.sent("") + hub.sent("") < instant {
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
            lost.again += length.saturating_sub(request.start());
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

/// What the paths by which all blobs are asked for end in, with the blobs' digests (in hex) and
/// sizes.
fn names(gantry: &Gantry) -> HashMap<String, (String, u64)> {
    let lock = Lock::parse("gantry.lock", &gantry.read("gantry.lock")).unwrap();
    let named = |content: &Content<'_>| match content.origin {
        Origin::Hub { file, .. } => file.path.clone(),
        _ => content.blob.digest.to_string(),
    };
    lock.content()
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

/// The bytes of each blob, whole or partial, by its digest in hex.
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
