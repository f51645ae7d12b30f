//! Content of a store is pushed to real registries: byte for byte, and no byte is sent twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::time::Duration;

use crate::registry::{self, Author, User, digest_of, index, servers};
use gantry_remote::Error;
use gantry_remote::oci::SparsePolicy;
use store::hash::sha256;
use store::{PutResult, Sink as _};
use testkit::faults::{FaultRepeats, WireFault};
use testkit::store_suite::{LONG_DIGESTS, add_long_digest_sample};
use testkit::{TestImages, TestRegistry};
use types::{Digest, DigestAlgorithm, Root, RootKind, annotation};

const BUSYBOX: &str = "docker.io/library/busybox:1.35";
const NGINX: &str = "docker.io/library/nginx:1.22";
const REDIS: &str = "docker.io/library/redis:7.0";
const DNS: &str = "quay.io/gantry-examples/dns:2.90";

/// A user who has fetched these images from a registry that no longer exists.
async fn user_with(names: &[&str], platforms: &str) -> User {
    let upstream = TestRegistry::start();
    TestImages::fast().place_in_storage(upstream.storage());
    let user = User::of(&upstream.url());
    user.pull(names, platforms).await;
    user
}

/// Pulls the images from the site's registry as another user; returns the digests of the roots.
async fn pulled(site: &str, names: &[&str], platforms: &str) -> (User, Vec<Digest>) {
    let other = User::of("http://127.0.0.1:1");
    let names: Vec<String> =
        names.iter().map(|name| format!("{site}/ai/{}", name.split_once('/').unwrap().1)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lock = other.pull(&names, platforms).await;
    other.assert_whole();
    (other, lock.images.iter().map(|image| image.digest).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_arrive_with_their_digests_and_shared_layers_are_mounted() {
    let user = user_with(&[REDIS, DNS], "linux/amd64").await;
    let site = TestRegistry::start();

    let puts = user.load(&user.push(site.host(), SparsePolicy::Auto)).await.unwrap();

    let (_, digests) = pulled(site.host(), &[REDIS, DNS], "linux/amd64").await;
    let images = TestImages::fast();
    assert_eq!(digests, [images.get(REDIS).digest, images.get(DNS).digest]);
    assert!(puts[DNS].contains(&PutResult::Linked), "{puts:?}");
    assert!(puts[REDIS].contains(&PutResult::Moved), "{puts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_neither_sent_nor_asked_for_again() {
    let user = user_with(&[BUSYBOX, NGINX, REDIS], "linux/amd64,linux/arm64").await;
    let site = TestRegistry::start();
    let faults = registry::faults(&site.url());
    user.load(&user.push(&faults.host(), SparsePolicy::Auto)).await.unwrap();
    faults.forget_requests();

    let puts = user.load(&user.push(&faults.host(), SparsePolicy::Auto)).await.unwrap();

    assert!(puts.values().all(Vec::is_empty), "{puts:?}");
    let asked = faults.requests();
    assert!(asked.iter().all(|r| !r.path.contains("/blobs/") && r.method != "PUT"), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_docker_registry_refuses_is_written_again_and_known_the_next_time() {
    let user = user_with(&[BUSYBOX, NGINX], "linux/amd64").await;
    let site = TestRegistry::start();
    let from = user.root(BUSYBOX).descriptor.digest;

    let refused = user.load(&user.push(site.host(), SparsePolicy::Keep)).await.unwrap_err();
    let push = user.push(site.host(), SparsePolicy::Auto);
    user.load(&push).await.unwrap();
    let again = user.push(site.host(), SparsePolicy::Auto);
    let puts = user.load(&again).await.unwrap();

    assert!(matches!(refused, Error::SparseIndexRefused { .. }), "{refused}");
    let rewritten = push.rewritten_indexes();
    let busybox = rewritten.iter().find(|one| one.name.to_string() == BUSYBOX).unwrap();
    assert_eq!(busybox.from, from);
    assert_eq!(again.rewritten_indexes(), rewritten);
    assert!(puts.values().all(Vec::is_empty), "{puts:?}");
    let (other, digests) = pulled(site.host(), &[BUSYBOX], "linux/amd64").await;
    assert_eq!(digests, [busybox.to]);
    let bytes = other.document(&busybox.to);
    let manifest = types::Manifest::parse("index", &bytes).unwrap();
    assert_eq!(manifest.annotations[annotation::WRITTEN_FROM], from.to_string());
    assert_eq!(manifest.manifests.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_index_that_docker_registry_refuses_gives_its_manifests_to_the_outer_one() {
    let upstream = TestRegistry::start();
    let author = Author::at(upstream.host(), "app");
    let amd64 = author.image("amd64", b"amd64", None).await;
    let arm64 = author.image("arm64", b"arm64", None).await;
    let inner = author.document(&index(&[amd64.clone(), arm64]), None).await;
    author.document(&index(std::slice::from_ref(&inner)), Some("1")).await;
    let user = User::of("http://127.0.0.1:1");
    let name = format!("{}/app:1", upstream.host());
    user.pull(&[&name], "linux/amd64").await;
    let site = TestRegistry::start();

    let refused = user.load(&user.push(site.host(), SparsePolicy::Keep)).await.unwrap_err();
    let push = user.push(site.host(), SparsePolicy::Auto);
    user.load(&push).await.unwrap();
    let again = user.push(site.host(), SparsePolicy::Auto);
    let puts = user.load(&again).await.unwrap();

    assert!(refused.to_string().contains("404") || refused.to_string().contains("UNKNOWN"));
    let rewritten = push.rewritten_indexes();
    assert!(rewritten[0].flattened);
    assert_eq!(again.rewritten_indexes(), rewritten);
    assert!(puts.values().all(Vec::is_empty), "{puts:?}");
    let other = User::of("http://127.0.0.1:1");
    let lock = other.pull(&[&format!("{}/ai/app:1", site.host())], "linux/amd64").await;
    other.assert_whole();
    assert_eq!(lock.images[0].digest, rewritten[0].to);
    assert_eq!(lock.images[0].manifests[0].digest, digest_of(&amd64));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_platforms_of_the_same_index_are_put_beside_those_that_are_there() {
    let site = TestRegistry::start();
    let user = user_with(&[BUSYBOX], "linux/amd64").await;
    user.load(&user.push(site.host(), SparsePolicy::Auto)).await.unwrap();
    let both = user_with(&[BUSYBOX], "linux/amd64,linux/arm64").await;

    let push = both.push(site.host(), SparsePolicy::Auto);
    both.load(&push).await.unwrap();

    assert_eq!(push.rewritten_indexes(), []);
    let (_, digests) = pulled(site.host(), &[BUSYBOX], "linux/amd64,linux/arm64").await;
    assert_eq!(digests, [TestImages::fast().get(BUSYBOX).digest]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_sparse_indexes_gets_them_as_they_are() {
    let user = user_with(&[NGINX], "linux/amd64").await;
    let site = servers::conformant();

    let push = user.push(&site.host, SparsePolicy::Auto);
    user.load(&push).await.unwrap();

    assert_eq!(push.rewritten_indexes(), []);
    let (other, digests) = pulled(&site.host, &[NGINX], "linux/amd64").await;
    assert_eq!(digests, [TestImages::fast().get(NGINX).digest]);
    // The referrers API lists the signature, so the same one under cosign's tag is not asked for.
    assert_eq!(other.store.roots().unwrap().len(), 3, "the image, its signature and its SBOM");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_and_sboms_are_found_at_a_registry_without_the_referrers_api() {
    let user = user_with(&[NGINX], "linux/amd64,linux/arm64").await;
    let site = TestRegistry::start();

    user.load(&user.push(site.host(), SparsePolicy::Auto)).await.unwrap();

    let (other, _) = pulled(site.host(), &[NGINX], "linux/amd64,linux/arm64").await;
    let manifests = |user: &User| -> HashSet<Digest> {
        user.store.roots().unwrap().iter().map(|root| root.descriptor.digest).collect()
    };
    assert_eq!(manifests(&other), manifests(&user));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_referrers_at_once_are_all_listed_under_the_fallback_tag() {
    let upstream = servers::conformant();
    let author = Author::at(&upstream.host, "app");
    let image = author.image("amd64", b"layer", Some("1")).await;
    for n in 0..8 {
        author.referrer(&image, "application/x-test", format!("{n}").as_bytes()).await;
    }
    let user = User::of("http://127.0.0.1:1");
    user.pull(&[&format!("{}/app:1", upstream.host)], "linux/amd64").await;
    let site = TestRegistry::start();
    let push = user.push(site.host(), SparsePolicy::Auto);

    // Blobs and manifests first, then all tags at the same time.
    let mut publish = vec![];
    for root in user.store.roots().unwrap() {
        let closure = store::find_closure(&user.store, &root).unwrap();
        push.holds_root(&root, &closure).await.unwrap();
        for blob in &closure.blobs {
            let from = std::sync::Arc::new(user.store.clone());
            push.put_blob(&root, blob, from, std::sync::Arc::new(|_| ())).await.unwrap();
        }
        let bytes = user.document(&root.descriptor.digest);
        let push = &push;
        publish.push(async move { push.publish_root(&root, bytes).await });
    }
    for published in futures::future::join_all(publish).await {
        published.unwrap();
    }

    let (other, _) = pulled(site.host(), &["x/app:1"], "linux/amd64").await;
    assert_eq!(other.store.roots().unwrap().len(), 1 + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_busy_or_broken_for_a_moment_gets_everything_in_the_end() {
    let user = user_with(&[NGINX, REDIS], "linux/amd64,linux/arm64").await;
    let site = TestRegistry::start();
    let faults = registry::faults(&site.url());
    let busy = WireFault::Status { code: 429, retry_after: Some(Duration::ZERO) };
    faults.inject("digest=", busy, FaultRepeats::Exactly(2));
    faults.inject(
        "digest=",
        WireFault::Status { code: 500, retry_after: None },
        FaultRepeats::Exactly(2),
    );
    faults.inject("digest=", WireFault::Drop, FaultRepeats::Exactly(1));
    faults.inject(
        "/blobs/uploads/",
        WireFault::Status { code: 503, retry_after: None },
        FaultRepeats::Exactly(2),
    );
    faults.inject(
        "/manifests/",
        WireFault::Status { code: 502, retry_after: None },
        FaultRepeats::Exactly(2),
    );

    user.load(&user.push(&faults.host(), SparsePolicy::Auto)).await.unwrap();

    pulled(site.host(), &[NGINX, REDIS], "linux/amd64,linux/arm64").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_with_a_password_or_tokens_refuses_clearly_and_takes_all_with_the_right_one() {
    let tokens = servers::with_tokens();
    let host = &tokens.registry.host;
    let with = |password: &str| {
        let (user, password) = ("user".to_owned(), password.to_owned());
        let credential = net::Credential::Password { user, password };
        registry::client()
            .credentials(net::Credentials::with_credential(host, credential))
            .build()
            .unwrap()
    };
    let images = [REDIS, DNS];
    let user = user_with(&images, "linux/amd64").await;

    let anyone = user.push(host, SparsePolicy::Auto).check_access().await.unwrap_err();
    let user = User { client: with("wrong"), ..user };
    let wrong = user.push(host, SparsePolicy::Auto).check_access().await.unwrap_err();
    let user = User { client: with("password"), ..user };
    let push = user.push(host, SparsePolicy::Auto);
    push.check_access().await.unwrap();
    let puts = user.load(&push).await.unwrap();
    let forbidden =
        user.push_below(host, "forbidden", SparsePolicy::Auto).check_access().await.unwrap_err();

    assert!(anyone.to_string().contains("docker login"), "{anyone}");
    assert!(wrong.to_string().contains("the credential of user"), "{wrong}");
    assert!(forbidden.to_string().contains("lacks permission"), "{forbidden}");
    assert!(puts[DNS].contains(&PutResult::Linked), "{puts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn crane_and_skopeo_read_what_was_pushed() {
    let user = user_with(&[NGINX], "linux/amd64,linux/arm64").await;
    let site = TestRegistry::start();

    user.load(&user.push(site.host(), SparsePolicy::Auto)).await.unwrap();

    let name = format!("{}/ai/library/nginx:1.22", site.host());
    let digest = testkit::tools::run_command(testkit::tools::tool_command("crane").args([
        "digest",
        "--insecure",
        &name,
    ]));
    assert_eq!(digest.trim(), TestImages::fast().get(NGINX).digest.to_string());
    let out = user.folder.path().join("out");
    testkit::tools::run_command(
        testkit::tools::tool_command("skopeo").args(["copy", "--all", "--quiet"]).args([
            "--src-tls-verify=false",
            &format!("docker://{name}"),
            &format!("oci:{}:nginx", out.display()),
        ]),
    );
}

/// What docker-registry 2.8 does: it takes blobs under a sha512 and manifests under their sha256 alone.
#[tokio::test(flavor = "multi_thread")]
async fn blobs_keep_their_sha512_and_manifests_get_another_digest_where_the_registry_knows_no_other()
 {
    const SINGLE: &str = "quay.io/long/single:1";
    let user = User::of("http://127.0.0.1:1");
    let index = add_long_digest_sample(&user.store);
    let closure = store::find_closure(&user.store, &index).unwrap();
    let manifest = closure.manifests.iter().find(|it| it.digest != index.descriptor.digest);
    let single = Root::new(registry::reference(SINGLE), RootKind::Image, manifest.unwrap().clone());
    user.store.publish_roots(std::slice::from_ref(&single)).unwrap();
    let site = TestRegistry::start();
    let push = user.push(site.host(), SparsePolicy::Auto);

    user.load(&push).await.unwrap();

    let rewritten = push.rewritten_indexes();
    assert!(rewritten.iter().all(|root| root.renamed && !root.flattened), "{rewritten:?}");
    let there = |name: &str| {
        let found = rewritten.iter().find(|root| root.name.to_string() == name).unwrap();
        (found.from, found.to)
    };
    let platforms = "linux/amd64,linux/arm64";
    let (other, digests) = pulled(site.host(), &[LONG_DIGESTS], platforms).await;
    assert_eq!(there(LONG_DIGESTS), (index.descriptor.digest, digests[0]));
    for blob in &closure.blobs {
        assert!(other.store.contains(blob).unwrap(), "{} has another name", blob.digest);
    }
    // The manifests are the same bytes.
    let bytes = user.document(&single.descriptor.digest);
    assert_eq!(there(SINGLE), (single.descriptor.digest, sha256(&bytes)));
    assert_eq!(other.document(&sha256(&bytes)), bytes);

    let again = user.push(site.host(), SparsePolicy::Auto);
    let puts = user.load(&again).await.unwrap();
    assert!(puts[SINGLE].is_empty(), "it is there: {puts:?}");
    assert!(puts[LONG_DIGESTS].iter().all(|put| *put == PutResult::Present), "{puts:?}");
    assert_eq!(again.rewritten_indexes().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_of_a_sha512_is_refused_by_the_registry_and_named() {
    let user = User::of("http://127.0.0.1:1");
    let root = add_long_digest_sample(&user.store);
    let closure = store::find_closure(&user.store, &root).unwrap();
    let long = |blob: &&types::Descriptor| blob.digest.algorithm() == DigestAlgorithm::Sha512;
    let layer = closure.blobs.iter().filter(long).max_by_key(|blob| blob.size).unwrap();
    let path = user.store.blob_path(&layer.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let site = TestRegistry::start();

    let error = user.load(&user.push(site.host(), SparsePolicy::Auto)).await.unwrap_err();

    assert!(matches!(error, Error::UploadMismatch { .. }), "{error}");
    assert!(error.to_string().contains(&layer.digest.to_string()), "{error}");
}
