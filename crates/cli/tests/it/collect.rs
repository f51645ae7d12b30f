//! `gantry store gc` beside other commands and after stopped ones: it takes only what nobody wants.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::story::{INPUT, SMALL, user};
use testkit::faults::{FaultRepeats, WireFault};
use testkit::{FaultProxy, Gantry, TestEnvironment, TestRegistry, wait_until};

/// How many fetches have garbage collected beside them all the time.
const FETCHES: usize = 5;

#[test]
fn garbage_that_is_collected_without_a_pause_beside_fetches_takes_nothing_away() {
    let world = TestEnvironment::fast();
    for fetch in 0..FETCHES {
        let store = world.home().join(format!("store-{fetch}"));
        let gantry = user(&world, INPUT).with_store(&store);
        gantry.run(["lock"]).assert_success();

        let mut fetch = gantry.start(["fetch"]);
        std::thread::scope(|scope| {
            let collect = || gantry.run(["store", "gc", "--older-than", "0s"]).assert_success();
            while fetch.is_running() {
                // Two at once, so that one of them waits for the store at every moment.
                let other = scope.spawn(collect);
                collect();
                other.join().unwrap();
            }
        });

        assert_eq!(fetch.wait(), Some(0));
        gantry.run(["store", "verify"]).assert_success();
        let again = gantry.run(["fetch", "--output", "json"]).assert_success().parse_json();
        assert_eq!(again["fetchedBlobCount"], 0, "{again}");
    }
}

#[test]
fn what_a_load_reads_stays_until_it_has_ended() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, INPUT);
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    let all = blobs(&gantry);
    let site = TestRegistry::start();
    let source = gantry.store().display().to_string();
    // It would take half an hour.
    let arguments = ["load", &source, "--to", site.host(), "--bandwidth", "64KiB"];
    let mut load = gantry.start(arguments);
    wait_until("the load has begun", || site.storage_bytes() > 0);
    for name in ["docker.io/library/nginx:1.22", "docker.io/library/redis:7.0"] {
        gantry.run(["store", "rm", name]).assert_success();
    }

    let collect = gantry.start(["store", "gc", "--older-than", "0s"]);
    wait_until("the garbage collection waits", || {
        collect.printed_text().contains("waiting for other gantry processes")
    });

    assert!(load.is_running() && blobs(&gantry) == all);
    load.kill();
    assert_eq!(collect.wait(), Some(0));
    let kept = blobs(&gantry);
    assert!(kept.len() < all.len() && !kept.is_empty(), "{} of {}", kept.len(), all.len());
}

#[test]
fn after_ctrl_c_garbage_collection_keeps_what_came_and_nothing_of_it_is_fetched_again() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, INPUT);
    gantry.run(["lock"]).assert_success();
    let locked = blobs(&gantry);
    let hub = FaultProxy::in_front_of(&world.hub().url());
    hub.inject("/resolve/", WireFault::Stall { after: 4 << 20 }, FaultRepeats::Always);
    world.set_mirrors(&world.upstream().url(), &hub.url());
    let running = gantry.start(["fetch"]);
    wait_until("some blobs are there and the model hangs", || {
        blobs(&gantry).len() > locked.len() + 3 && hub.sent_bytes("/resolve/") >= 4 << 20
    });
    assert_eq!(running.interrupt(), Some(4));
    let came = blobs(&gantry);

    let report = gantry.run(["store", "gc", "--output", "json"]).assert_success().parse_json();

    assert_eq!((&report["blobCount"], &report["bytes"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(report["keptBlobCount"], came.len(), "{report}");
    assert_eq!(report["keptBlobBytes"], came.values().sum::<u64>(), "{report}");
    assert!(report["keptPartialBytes"].as_u64().unwrap() > 1 << 20, "{report}");
    assert_eq!(blobs(&gantry), came);
    let registry = FaultProxy::in_front_of(&world.upstream().url());
    world.set_mirrors(&registry.url(), &world.hub().url());
    gantry.run(["fetch"]).assert_success();
    for request in registry.requests() {
        let name = request.path.rsplit(':').next().unwrap();
        assert!(!came.contains_key(name), "{} is asked for again", request.path);
    }
    gantry.run(["store", "verify"]).assert_success();
}

#[test]
fn what_is_removed_by_name_is_freed_at_once_when_told_so_and_the_report_says_why() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    let all = blobs(&gantry);
    gantry.run(["store", "rm", "ghcr.io/gantry-examples/tools:1.0"]).assert_success();

    let young = gantry.run(["store", "gc"]).assert_success();

    assert_eq!(blobs(&gantry), all);
    for part in ["deleted: 0 blobs", "younger than 14 days", "gantry store gc --older-than 0s"] {
        assert!(young.stdout.contains(part), "{part}: {}", young.stdout);
    }
    let planned = gantry.run(["store", "gc", "--dry-run", "--older-than", "0s"]).assert_success();
    let count = format!("would be deleted: {} blobs that nothing in the store needs", all.len());
    assert!(planned.stdout.contains(&count), "{}", planned.stdout);
    assert_eq!(blobs(&gantry), all);
    let old = ["store", "gc", "--older-than", "30d"];
    gantry.run(old).assert_success();
    assert_eq!(blobs(&gantry), all);
    gantry.run(["store", "gc", "--older-than", "0s"]).assert_success();
    assert!(blobs(&gantry).is_empty());
}

/// The names and lengths of the complete blobs in the store.
fn blobs(gantry: &Gantry) -> BTreeMap<String, u64> {
    let folder: PathBuf = gantry.store().join("blobs/sha256");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect()
}
