//! Registries that refuse a part of a push: the rest arrives, and what was refused is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::registry::{self, Author, User, digest_of, index, servers};
use gantry_remote::Error;
use gantry_remote::oci::SparsePolicy;
use serde_json::json;
use store::PutResult;
use testkit::TestRegistry;
use testkit::faults::{FaultRepeats, WireFault};

fn refusal(code: u16) -> WireFault {
    WireFault::Status { code, retry_after: None }
}

/// Two images with the same layer in two repositories.
async fn user_with_a_shared_layer() -> User {
    let upstream = TestRegistry::start();
    let user = User::of("http://127.0.0.1:1");
    let names = ["a", "b"].map(|name| format!("{}/{name}:1", upstream.host()));
    for name in ["a", "b"] {
        let author = Author::at(upstream.host(), name);
        author.image("amd64", b"shared", Some("1")).await;
    }
    user.pull(&[&names[0], &names[1]], "linux/amd64").await;
    user
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_is_refused_with_whatever_status_becomes_an_upload() {
    let user = user_with_a_shared_layer().await;
    for code in [400, 401, 403, 404, 405, 500, 501] {
        let site = TestRegistry::start();
        let faults = registry::faults(&site.url());
        faults.inject("mount=", refusal(code), FaultRepeats::Always);

        let puts = user.load(&user.push(&faults.host(), SparsePolicy::Auto)).await.unwrap();

        let all: Vec<PutResult> = puts.into_values().flatten().collect();
        assert_eq!(all, [PutResult::Moved; 4], "{code}");
        let mounts = faults.requests().iter().filter(|r| r.path.contains("mount=")).count();
        assert!(mounts <= 2, "each is tried once: {mounts} for {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_repositories_that_refuse_are_named_before_a_byte_is_sent() {
    let user = user_with_a_shared_layer().await;
    let site = TestRegistry::start();
    let faults = registry::faults(&site.url());
    faults.inject("/ai/a/blobs/uploads/", refusal(404), FaultRepeats::Always);
    faults.inject("/ai/b/blobs/uploads/", refusal(404), FaultRepeats::Always);

    let error = user.push(&faults.host(), SparsePolicy::Auto).check_access().await.unwrap_err();

    let Error::PushRefused { repositories, .. } = &error else { panic!("{error}") };
    assert_eq!(repositories, &["ai/a", "ai/b"]);
    let text = error.to_string();
    assert!(text.contains("2 repositories") && text.contains("ai/a, ai/b"), "{text}");
    assert!(faults.requests().iter().all(|request| !request.path.contains("digest=")));
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_that_have_everything_are_not_asked_whether_they_can_be_written() {
    let user = user_with_a_shared_layer().await;
    let site = TestRegistry::start();
    user.load(&user.push(site.host(), SparsePolicy::Auto)).await.unwrap();
    let faults = registry::faults(&site.url());

    let push = user.push(&faults.host(), SparsePolicy::Auto);
    push.check_access().await.unwrap();
    let puts = user.load(&push).await.unwrap();

    assert!(puts.values().all(Vec::is_empty), "{puts:?}");
    let count = |method: &str| faults.requests().iter().filter(|r| r.method == method).count();
    assert_eq!((count("POST"), count("HEAD")), (1, 2), "{:?}", faults.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_arrives_without_the_attestation_that_the_registry_refuses() {
    let upstream = servers::conformant();
    let author = Author::at(&upstream.host, "app");
    let amd64 = author.image("amd64", b"layer", None).await;
    let mut attestation = author.image("unknown", b"in-toto", None).await;
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": amd64["digest"]});
    let top = author.document(&index(&[amd64.clone(), attestation.clone()]), Some("1")).await;
    let user = User::of("http://127.0.0.1:1");
    user.pull(&[&format!("{}/app:1", upstream.host)], "linux/amd64").await;
    let site = TestRegistry::start();
    let faults = registry::faults(&site.url());
    let path = format!("/manifests/{}", digest_of(&attestation));
    faults.inject(&path, refusal(400), FaultRepeats::Always);

    let push = user.push(&faults.host(), SparsePolicy::Auto);
    user.load(&push).await.unwrap();

    let left_out = push.left_out_manifests();
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].digest, digest_of(&attestation));
    let rewritten = push.rewritten_indexes();
    assert_eq!(rewritten[0].from, digest_of(&top));
    let other = User::of("http://127.0.0.1:1");
    let lock = other.pull(&[&format!("{}/ai/app:1", site.host())], "linux/amd64").await;
    other.assert_whole();
    assert_eq!(lock.images[0].digest, rewritten[0].to);
    let kept = user.push(&faults.host(), SparsePolicy::Keep);
    let error = user.load(&kept).await.unwrap_err().to_string();
    assert!(error.contains("400"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_attached_and_refused_is_left_out_alone() {
    let upstream = servers::conformant();
    let author = Author::at(&upstream.host, "app");
    let image = author.image("amd64", b"layer", Some("1")).await;
    let sbom = author.referrer(&image, "application/x-sbom", b"sbom").await;
    let user = User::of("http://127.0.0.1:1");
    user.pull(&[&format!("{}/app:1", upstream.host)], "linux/amd64").await;
    let site = TestRegistry::start();
    let faults = registry::faults(&site.url());
    let path = format!("/manifests/{}", digest_of(&sbom));
    faults.inject(&path, refusal(422), FaultRepeats::Always);

    let push = user.push(&faults.host(), SparsePolicy::Auto);
    user.load(&push).await.unwrap();

    let left_out = push.left_out_manifests();
    assert_eq!((left_out.len(), left_out[0].digest), (1, digest_of(&sbom)));
    let other = User::of("http://127.0.0.1:1");
    other.pull(&[&format!("{}/ai/app:1", site.host())], "linux/amd64").await;
    other.assert_whole();
}
