//! Images are fetched completely from real registries, with their signatures and SBOMs, despite
//! network faults of every kind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use crate::registry::{self, Author, User, client, digest_of, index, lock, noise, servers};
use gantry_remote::fetch;
use store::Source as _;
use store::progress::SilentProgress;
use testkit::faults::{FaultRepeats, WireFault};
use testkit::{TestImages, TestLogin, Tmpfs};
use types::Digest;

const BUSYBOX: &str = "docker.io/library/busybox:1.35";
const NGINX: &str = "docker.io/library/nginx:1.22";
const REDIS: &str = "docker.io/library/redis:7.0";

fn upstream() -> (testkit::TestRegistry, TestImages) {
    let (registry, images) = (testkit::TestRegistry::start(), TestImages::fast());
    images.place_in_storage(registry.storage());
    (registry, images)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_kept_byte_for_byte_with_the_chosen_platforms_blobs_only() {
    let (registry, images) = upstream();
    let user = User::of(&registry.url());

    let lock = user.pull(&[BUSYBOX, REDIS], "linux/amd64").await;

    user.assert_whole();
    let busybox = images.get(BUSYBOX);
    assert_eq!(lock.images[0].digest, busybox.digest);
    assert_eq!(
        user.document(&busybox.digest),
        std::fs::read(images.blob_path(&busybox.digest)).unwrap()
    );
    assert_eq!(lock.images[0].manifests.len(), 1);
    let closure = store::find_closure(&user.store, &user.root(BUSYBOX)).unwrap();
    assert_eq!(closure.sparse.len(), 1, "the arm64 side stays where it is");
    let redis = images.get(REDIS);
    assert_eq!(lock.images[1].digest, redis.digest, "docker's form is kept as it is");
    assert!(lock.images[1].media_type.contains("docker"));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_platforms_come_when_both_are_wanted() {
    let (registry, images) = upstream();
    let user = User::of(&registry.url());

    let lock = user.pull(&[BUSYBOX], "linux/amd64,linux/arm64").await;

    user.assert_whole();
    assert_eq!(lock.images[0].manifests.len(), 2);
    for digest in images.get(BUSYBOX).blobs.keys() {
        assert!(user.store.blob_size(digest).unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_platforms_make_an_index_that_every_registry_takes_as_it_is() {
    let (registry, images) = upstream();
    let user = User::of(&registry.url());

    let lock = user.pull(&[BUSYBOX], "all").await;

    user.assert_whole();
    assert!(lock.images[0].is_whole());
    assert_eq!(lock.images[0].platforms[0].to_string(), "all");
    let site = testkit::TestRegistry::start();
    let push = user.push(site.host(), gantry_remote::oci::SparsePolicy::Keep);
    user.load(&push).await.unwrap();
    let other = User::of("http://127.0.0.1:1");
    let name = format!("{}/ai/library/busybox:1.35", site.host());
    let there = other.pull(&[&name], "linux/amd64").await;
    assert_eq!(there.images[0].digest, images.get(BUSYBOX).digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn cosigns_tag_and_the_referrers_of_the_fallback_tag_come_along() {
    let (registry, images) = upstream();
    let user = User::of(&registry.url());

    let lock = user.pull(&[NGINX], "linux/amd64").await;

    user.assert_whole();
    let hex = images.get(NGINX).digest.hex();
    let attached = &lock.images[0].attached;
    let names: Vec<String> = attached.iter().map(|one| one.reference.to_string()).collect();
    assert!(names.contains(&format!("docker.io/library/nginx:sha256-{hex}.sig")), "{names:?}");
    let types: Vec<_> = attached.iter().filter_map(|one| one.artifact_type.as_deref()).collect();
    assert!(types.contains(&"application/spdx+json"), "{types:?}");
    assert_eq!(attached.len(), 3, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_of_an_sbom_of_a_platform_comes_by_the_referrers_api() {
    let registry = servers::conformant();
    let author = Author::at(&registry.host, "app");
    let amd64 = author.image("amd64", b"amd64", None).await;
    let arm64 = author.image("arm64", b"arm64", None).await;
    author.document(&index(&[amd64.clone(), arm64.clone()]), Some("1")).await;
    let sbom = author.referrer(&amd64, "application/spdx+json", b"an SBOM").await;
    let signature = author.referrer(&sbom, "application/x-signature", b"a signature").await;
    let other = author.referrer(&arm64, "application/spdx+json", b"another SBOM").await;
    let user = User::of("http://127.0.0.1:1");

    let lock = user.pull(&[&format!("{}/app:1", registry.host)], "linux/amd64").await;

    user.assert_whole();
    let found: Vec<Digest> = lock.images[0].attached.iter().map(|a| a.manifest.digest).collect();
    assert_eq!(found, [digest_of(&sbom), digest_of(&signature)]);
    assert!(!found.contains(&digest_of(&other)), "of a platform that is not carried");
}

#[tokio::test(flavor = "multi_thread")]
async fn buildkits_attestations_come_with_the_platform_that_they_speak_of() {
    let registry = testkit::TestRegistry::start();
    let author = Author::at(registry.host(), "app");
    let mut entries = vec![];
    for architecture in ["amd64", "arm64"] {
        let image = author.image(architecture, architecture.as_bytes(), None).await;
        let config = author.blob(b"{}").await;
        let layer = author.blob(format!("provenance of {architecture}").as_bytes()).await;
        let mut attestation = author.document(&registry::manifest(&config, &[layer]), None).await;
        attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = serde_json::json!({
            "vnd.docker.reference.digest": image["digest"],
            "vnd.docker.reference.type": "attestation-manifest"});
        entries.extend([image, attestation]);
    }
    author.document(&index(&entries), Some("1")).await;
    let user = User::of("http://127.0.0.1:1");

    let lock = user.pull(&[&format!("{}/app:1", registry.host())], "linux/arm64").await;

    user.assert_whole();
    let found: Vec<Digest> = lock.images[0].manifests.iter().map(|m| m.digest).collect();
    assert_eq!(found, [digest_of(&entries[2]), digest_of(&entries[3])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_with_what_is_near() {
    let (registry, _images) = upstream();
    let user = User::of(&registry.url());
    let error = async |name: &str, platform: &str| {
        let error = user.inspect(name, platform).await.unwrap_err();
        assert!(error.is_input(), "{error}");
        error.to_string()
    };

    let no_tag = error("nginx:1.23", "linux/amd64").await;
    assert!(no_tag.contains("docker.io/library/nginx:1.23 does not exist"), "{no_tag}");
    assert!(no_tag.contains("has the tags 1.22"), "{no_tag}");
    let no_image = error("docker.io/library/ngnix:1.22", "linux/amd64").await;
    assert!(no_image.contains("docker.io is read from the mirror http"), "{no_image}");
    let digest = Digest::Sha256([7; 32]);
    let no_digest = error(&format!("nginx@{digest}"), "linux/amd64").await;
    assert!(no_digest.contains("check the digest"), "{no_digest}");
    let no_platform = error(NGINX, "linux/s390x").await;
    assert!(no_platform.contains("not available for linux/s390x"), "{no_platform}");
    assert!(no_platform.contains("linux/amd64, linux/arm64"), "{no_platform}");
    let single = error(REDIS, "linux/arm64").await;
    assert!(
        single.contains("not available for linux/arm64; it is available for linux/amd64"),
        "{single}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_registry_is_named_with_the_reason() {
    let user = User::of("http://127.0.0.1:1");

    let error = user.inspect(NGINX, "linux/amd64").await.unwrap_err();

    // Trying again may help, so it is no mistake in the input.
    assert!(!error.is_input(), "{error}");
    let text = error.to_string();
    assert!(text.contains("nginx:1.22") && text.contains("127.0.0.1:1"), "{text}");
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_opens_a_registry_over_tls_and_a_wrong_one_is_told() {
    let login = TestLogin::new("robot", "right");
    let registry = testkit::TestRegistry::builder().login(login).tls().start();
    TestImages::fast().place_in_storage(registry.storage());
    let with = |password: Option<&str>| {
        let mut builder = client().ca_files(registry.ca_file());
        if let Some(password) = password {
            let (user, password) = ("robot".to_owned(), password.to_owned());
            let credential = net::Credential::Password { user, password };
            builder =
                builder.credentials(net::Credentials::with_credential(registry.host(), credential));
        }
        User::with(&registry.url(), builder.build().unwrap())
    };

    let user = with(Some("right"));
    user.pull(&[BUSYBOX], "linux/amd64").await;
    user.assert_whole();
    let wrong = with(Some("wrong")).inspect(BUSYBOX, "linux/amd64").await.unwrap_err();
    let none = with(None).inspect(BUSYBOX, "linux/amd64").await.unwrap_err();

    assert!(wrong.is_input() && none.is_input());
    let wrong = wrong.to_string();
    assert!(wrong.contains("robot") && wrong.contains("docker login"), "{wrong}");
    assert!(none.to_string().contains("no credential was found"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_for_each_repository_with_and_without_a_password() {
    let servers = servers::with_tokens();
    let host = &servers.registry.host;
    let password =
        || net::Credential::Password { user: "user".into(), password: "password".into() };
    let known =
        client().credentials(net::Credentials::with_credential(host, password())).build().unwrap();
    let author = User::with(&format!("http://{host}"), known);
    let (upstream, _images) = upstream();
    {
        let from = User::of(&upstream.url());
        from.pull(&[REDIS], "linux/amd64").await;
        for prefix in ["public", "private"] {
            let to = User {
                folder: tempfile::tempdir().unwrap(),
                client: author.client.clone(),
                mirrors: author.mirrors.clone(),
                store: from.store.clone(),
            };
            let push = to.push_below(host, prefix, gantry_remote::oci::SparsePolicy::Auto);
            to.load(&push).await.unwrap();
        }
    }
    let anyone = User::of("http://127.0.0.1:1");

    anyone.pull(&[&format!("{host}/public/library/redis:7.0")], "linux/amd64").await;
    let private = format!("{host}/private/library/redis:7.0");
    author.pull(&[&private], "linux/amd64").await;
    let refused = anyone.inspect(&private, "linux/amd64").await.unwrap_err();
    let forbidden =
        author.inspect(&format!("{host}/forbidden/x:1"), "linux/amd64").await.unwrap_err();

    anyone.assert_whole();
    author.assert_whole();
    assert!(refused.to_string().contains("no credential was found"), "{refused}");
    assert!(forbidden.to_string().contains("user"), "{forbidden}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_about_a_digest_is_told_and_nothing_of_it_is_kept() {
    let (registry, images) = upstream();
    let faults = registry::faults(&registry.url());
    let user = User::of(&faults.url());
    let image = user.inspect(BUSYBOX, "linux/amd64").await.unwrap();
    let layer = image.manifests[0].layers[0].digest;
    faults.inject(&format!("/blobs/{layer}"), WireFault::Flip { at: 1000 }, FaultRepeats::Always);

    let report = user.fetch(&lock(vec![image])).await.unwrap();

    assert_eq!(report.failed.len(), 1);
    let error = &report.failed[0].error;
    assert!(error.is_integrity(), "{error}");
    assert!(error.to_string().contains(&layer.to_string()), "{error}");
    assert_eq!(user.store.blob_size(&layer).unwrap(), None);
    user.assert_whole();

    let manifest = images.get(BUSYBOX).digest;
    faults.inject("/manifests/", WireFault::Flip { at: 10 }, FaultRepeats::Always);
    // Another user, whose store does not have the manifest yet.
    let other = User::of(&faults.url());
    let error = other.inspect(&format!("busybox@{manifest}"), "linux/amd64").await.unwrap_err();
    assert!(error.is_integrity(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_are_gone_on_from_and_nothing_comes_twice() {
    let (registry, _images) = upstream();
    let faults = registry::faults(&registry.url());
    let user = User::of(&faults.url());
    let image = user.inspect(NGINX, "linux/amd64").await.unwrap();
    let all = lock(vec![image]);
    faults.forget_requests();
    faults.inject("/blobs/", WireFault::Cut { after: 300_000 }, FaultRepeats::Exactly(5));

    let report = user.fetch(&all).await.unwrap();

    assert!(report.failed.is_empty(), "{:?}", report.failed);
    user.assert_whole();
    assert!(faults.requests().iter().filter(|request| request.range_start() > 0).count() >= 2);
    let size: u64 = all.blobs().iter().map(|content| content.blob.size).sum();
    assert!(faults.sent_bytes("/blobs/") <= size, "nothing comes twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_was_given_up_goes_on_where_it_was() {
    let (registry, _images) = upstream();
    let faults = registry::faults(&registry.url());
    let user = User::of(&faults.url());
    let all = lock(vec![user.inspect(NGINX, "linux/amd64").await.unwrap()]);
    let largest = *all.blobs().iter().map(|content| &content.blob).max_by_key(|b| b.size).unwrap();
    let path = format!("/blobs/{}", largest.digest);
    faults.inject(&path, WireFault::Stall { after: largest.size / 2 }, FaultRepeats::Exactly(1));

    let partial = user.store.path().join("gantry/partial").join(largest.digest.hex());
    let came = || std::fs::metadata(&partial).map_or(0, |metadata| metadata.len());
    // All bytes that were sent are on the disk, except for the writer's buffer.
    let is_stalled = async {
        while came() < largest.size / 2 - (256 << 10) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        report = user.fetch(&all) => panic!("a stalled fetch ended: {report:?}"),
        () = is_stalled => {}
    }

    let report = user.fetch(&all).await.unwrap();

    assert!(report.failed.is_empty(), "{:?}", report.failed);
    user.assert_whole();
    let sent = faults.sent_bytes(&path);
    assert!(sent <= largest.size + largest.size / 50, "{sent} of {}", largest.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_busy_or_broken_for_a_moment_is_asked_again() {
    let (registry, _images) = upstream();
    let faults = registry::faults(&registry.url());
    let user = User::of(&faults.url());
    let wait = Some(Duration::from_secs(0));
    faults.inject(
        "/manifests/1.22",
        WireFault::Status { code: 429, retry_after: wait },
        FaultRepeats::Exactly(2),
    );
    faults.inject("/manifests/sha256:", WireFault::Drop, FaultRepeats::Exactly(1));
    faults.inject(
        "/blobs/",
        WireFault::Status { code: 500, retry_after: None },
        FaultRepeats::Exactly(4),
    );

    user.pull(&[NGINX], "linux/amd64").await;

    user.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_blob_that_does_not_come_leaves_the_others_alone() {
    let (registry, _images) = upstream();
    let faults = registry::faults(&registry.url());
    let user = User::of(&faults.url());
    let mut images = vec![];
    for name in [BUSYBOX, NGINX, REDIS] {
        images.push(user.inspect(name, "linux/amd64").await.unwrap());
    }
    let all = lock(images);
    let bad = all.images[1].manifests[0].layers[1].digest;
    faults.inject(
        &bad.to_string(),
        WireFault::Status { code: 404, retry_after: None },
        FaultRepeats::Always,
    );

    let report = user.fetch(&all).await.unwrap();

    let failed: Vec<Digest> = report.failed.iter().map(|failure| failure.blob.digest).collect();
    assert_eq!(failed, [bad]);
    assert!(report.failed[0].name.contains("nginx"));
    faults.remove_faults();
    let again = user.fetch(&all).await.unwrap();
    assert_eq!((again.fetched, again.failed.len()), (1, 0));
    user.store.publish_roots(&all.roots()).unwrap();
    user.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fetches_at_once_on_one_store_share_the_work() {
    let (registry, _images) = upstream();
    let faults = registry::faults(&registry.url());
    let user = User::of(&faults.url());
    let all = lock(vec![user.inspect(NGINX, "linux/amd64").await.unwrap()]);
    let jobs = user.jobs(&all);
    let other = client().build().unwrap();
    faults.forget_requests();

    let (one, two) = tokio::join!(
        fetch::fetch_blobs(&user.client, &user.store, jobs.clone(), Arc::new(SilentProgress)),
        fetch::fetch_blobs(&other, &user.store, jobs.clone(), Arc::new(SilentProgress)),
    );

    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.failed.is_empty() && two.failed.is_empty());
    let size: u64 = all.blobs().iter().map(|content| content.blob.size).sum();
    let blobs = faults.sent_bytes("/blobs/");
    assert_eq!(one.moved + two.moved, blobs);
    assert!(blobs <= size);
    user.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_is_told_before_the_first_byte_and_a_partial_counts_as_there() {
    let registry = testkit::TestRegistry::start();
    let author = Author::at(registry.host(), "big");
    author.image("amd64", &noise(3, 12 << 20), Some("1")).await;
    let policy = net::RetryPolicy { attempts: 1, ..net::RetryPolicy::default() };
    let no_second_try = client().retry(policy).build().unwrap();
    let faults = registry::faults(&registry.url());
    let disk = Tmpfs::new(16 << 20);
    let name = format!("{}/big:1", faults.host());
    let user = User {
        store: store::Store::open(disk.path().join("store")).unwrap(),
        ..User::with("http://127.0.0.1:1", no_second_try)
    };
    let all = lock(vec![user.inspect(&name, "linux/amd64").await.unwrap()]);
    let layer = format!("/blobs/{}", all.images[0].manifests[0].layers[0].digest);
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![0; 6 << 20]).unwrap();
    faults.forget_requests();

    let error = user.fetch(&all).await.unwrap_err();

    assert!(error.to_string().contains("free"), "{error}");
    assert_eq!(faults.sent_bytes("/blobs/"), 0);
    std::fs::remove_file(&filler).unwrap();
    // 10 of 12 MB are received; the rest fits into the space that is free then.
    faults.inject(&layer, WireFault::Cut { after: 10 << 20 }, FaultRepeats::Exactly(1));
    let cut = user.fetch(&all).await.unwrap();
    assert_eq!(cut.failed.len(), 1);
    let rest = user.fetch(&all).await.unwrap();
    assert!(rest.failed.is_empty(), "{:?}", rest.failed);
    assert!(rest.moved < 3 << 20, "{}", rest.moved);
    user.store.publish_roots(&all.roots()).unwrap();
    user.assert_whole();
}
