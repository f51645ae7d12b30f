//! Stand-ins for the images of charts: tiny, under any names, and as real as others to clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use gantry_testkit::{TestImages, TestRegistry, tools};

#[test]
fn fifty_names_become_images_of_their_own_in_a_running_registry() {
    let registry = TestRegistry::start();
    let names: Vec<String> = (0..48).map(|n| format!("quay.io/some/image-{n}:v{n}")).collect();
    let names = names.iter().map(String::as_str).chain(["redis", "nvcr.io/nvidia/cuda:12"]);

    let images = TestImages::stand_ins(names);
    images.place_in_storage(registry.storage());

    let digests: BTreeSet<_> = images.iter().map(|image| image.digest).collect();
    assert_eq!(digests.len(), 50);
    assert!(images.unique_bytes() < 200_000, "{} bytes", images.unique_bytes());
    let platforms: BTreeSet<_> = images.iter().map(|image| image.platforms.len()).collect();
    assert_eq!(platforms, [1, 2].into());
    for name in ["docker.io/library/redis:latest", "quay.io/some/image-7:v7"] {
        let image = images.get(name);
        let name = format!("{}/{}:{}", registry.host(), image.repository(), image.tag());
        let digest = tools::run_command(tools::tool_command("crane").args(["digest", &name]));
        assert_eq!(digest.trim(), image.digest.to_string());
        tools::run_command(tools::tool_command("crane").args(["validate", "--remote", &name]));
    }
}

#[test]
fn the_same_name_is_the_same_image_every_time() {
    let one = TestImages::stand_ins(["quay.io/a/b:1"]);
    let two = TestImages::stand_ins(["a/a:1", "quay.io/a/b:1", "quay.io/a/b:1"])
        .select(&["quay.io/a/b:1"]);

    assert_eq!(one.unique_blobs(), two.unique_blobs());
}

#[test]
#[should_panic(expected = "let the test's values take it away")]
fn a_digest_cannot_be_stood_in_for() {
    let digest = "0".repeat(64);
    TestImages::stand_ins([format!("quay.io/a/b@sha256:{digest}")]);
}

#[test]
#[should_panic(expected = "one in a registry for all hosts")]
fn two_hosts_with_one_name_are_refused() {
    TestImages::stand_ins(["quay.io/a/b:1", "ghcr.io/a/b:1"]);
}
