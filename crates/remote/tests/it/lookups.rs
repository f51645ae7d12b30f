//! What is looked up when a lock is made: indexes in indexes and lists in pages are followed to their
//! end, what is there is not asked for again, and what is not there is no failure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::sync::Arc;

use crate::registry::{self, Author, User, digest_of, index, lock, manifest, reference, servers};
use crate::world::web::Web;
use gantry_remote::{Error, fetch, http};
use serde_json::{Value, json};
use store::Source as _;
use store::progress::SilentProgress;
use testkit::TestImages;
use testkit::faults::{FaultRepeats, WireFault};
use types::lock::BlobOrigin;
use types::{Digest, Platform};

const NGINX: &str = "docker.io/library/nginx:1.22";

fn without_platform(mut descriptor: Value) -> Value {
    descriptor.as_object_mut().unwrap().remove("platform");
    descriptor
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_in_an_index_is_followed_and_its_platforms_are_chosen_like_others() {
    let registry = testkit::TestRegistry::start();
    let author = Author::at(registry.host(), "app");
    let amd64 = author.image("amd64", b"amd64", None).await;
    let arm64 = author.image("arm64", b"arm64", None).await;
    let other = author.image("amd64", b"another image", None).await;
    let inner = author.document(&index(&[amd64.clone(), arm64.clone()]), None).await;
    author.document(&index(std::slice::from_ref(&inner)), Some("plain")).await;
    author.document(&index(&[other.clone(), inner.clone()]), Some("mixed")).await;
    // The outer index gives the platform, the inner one none.
    let bare = author.document(&index(&[without_platform(amd64.clone())]), None).await;
    let mut named = bare.clone();
    named["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut foreign = inner.clone();
    foreign["platform"] = json!({"os": "linux", "architecture": "s390x"});
    author.document(&index(&[named.clone(), foreign]), Some("named")).await;
    let deep = author.document(&index(std::slice::from_ref(&inner)), None).await;
    author.document(&index(std::slice::from_ref(&deep)), Some("deep")).await;

    let amd64_alone = vec![digest_of(&amd64)];
    for (tag, manifests, indexes) in [
        ("plain", amd64_alone.clone(), vec![digest_of(&inner)]),
        ("mixed", vec![digest_of(&other), digest_of(&amd64)], vec![digest_of(&inner)]),
        ("named", vec![digest_of(&amd64)], vec![digest_of(&bare)]),
        ("deep", amd64_alone, vec![digest_of(&deep), digest_of(&inner)]),
    ] {
        let user = User::of("http://127.0.0.1:1");
        let name = format!("{}/app:{tag}", registry.host());
        let locked = user.pull(&[&name], "linux/amd64").await;
        user.assert_whole();
        let image = &locked.images[0];
        let digests = |all: &[types::lock::LockedManifest]| -> Vec<Digest> {
            all.iter().map(|manifest| manifest.digest).collect()
        };
        assert_eq!(digests(&image.manifests), manifests, "{tag}");
        assert_eq!(digests(&image.indexes), indexes, "{tag}");
        let platforms: Vec<_> = image.manifests.iter().map(|one| one.platform.clone()).collect();
        assert!(platforms.iter().all(|own| *own == Some(Platform::linux_amd64())), "{tag}");
        // All of it is in the closure, and comes again from the lock alone into an empty store.
        let closure = store::find_closure(&user.store, &user.root(&name)).unwrap();
        let carried: Vec<Digest> = closure.manifests.iter().map(|one| one.digest).collect();
        assert!(manifests.iter().chain(&indexes).all(|digest| carried.contains(digest)), "{tag}");
        let other = User::of("http://127.0.0.1:1");
        let report = other.fetch(&locked).await.unwrap();
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        other.store.publish_roots(&locked.roots()).unwrap();
        other.assert_whole();
    }
    let user = User::of("http://127.0.0.1:1");
    let name = format!("{}/app:named", registry.host());
    let error = user.inspect(&name, "linux/arm64").await.unwrap_err();
    assert!(matches!(error, Error::NoPlatform { .. }), "{error}");
    assert!(error.to_string().contains("linux/amd64, linux/s390x"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_are_nested_too_deep_are_refused() {
    let registry = testkit::TestRegistry::start();
    let author = Author::at(registry.host(), "app");
    let mut inner = author.image("amd64", b"amd64", None).await;
    for depth in 0..12 {
        inner = author.document(&index(&[inner]), Some(&format!("depth-{depth}"))).await;
    }
    let user = User::of("http://127.0.0.1:1");
    let name = format!("{}/app:depth-11", registry.host());

    let error = user.inspect(&name, "linux/amd64").await.unwrap_err();

    assert!(error.to_string().contains("nested more than 8 deep"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_read_to_their_last_page_and_a_list_without_end_is_an_error() {
    let registry = servers::conformant();
    let author = Author::at(&registry.host, "app");
    for tag in 0..7 {
        author.image("amd64", b"amd64", Some(&format!("1.{tag}"))).await;
    }
    let user = User::of("http://127.0.0.1:1");
    let client = user.registry(&reference(&format!("{}/app:1", registry.host)));

    let tags = client.list_tags("app").await.unwrap();
    let endless = client.list_tags("endless").await.unwrap_err();

    assert_eq!(tags, ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]);
    assert!(matches!(endless, Error::EndlessList { .. }), "{endless}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_looked_up_is_not_downloaded_again() {
    let (registry, images) = (testkit::TestRegistry::start(), TestImages::fast());
    images.place_in_storage(registry.storage());
    let faults = registry::faults(&registry.url());
    let user = User::of(&faults.url());
    let first = user.inspect(NGINX, "linux/amd64,linux/arm64").await.unwrap();
    let downloads = || -> Vec<String> {
        let manifests =
            faults.requests().into_iter().filter(|one| one.path.contains("/manifests/"));
        manifests.filter(|one| one.method == "GET").map(|one| one.path).collect()
    };
    // Nothing that is not there was asked for with a GET.
    let refused = faults.requests().into_iter().filter(|one| one.status == Some(404));
    let refused: Vec<_> =
        refused.filter(|one| one.method == "GET" && one.path.contains("/manifests/")).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(!downloads().is_empty());
    faults.forget_requests();

    let again = user.inspect(NGINX, "linux/amd64,linux/arm64").await.unwrap();

    assert_eq!(again, first);
    assert_eq!(downloads(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_what_may_be_attached_means_that_there_is_none() {
    let registry = testkit::TestRegistry::start();
    Author::at(registry.host(), "app").image("amd64", b"amd64", Some("1")).await;
    for code in [400, 401, 403] {
        let faults = registry::faults(&registry.url());
        let refusal = WireFault::Status { code, retry_after: None };
        faults.inject("/manifests/sha256-", refusal, FaultRepeats::Always);
        faults.inject("/referrers/", refusal, FaultRepeats::Always);
        let user = User::of(&faults.url());

        let image = user.inspect("docker.io/app:1", "linux/amd64").await;
        let image = match image {
            // The mirror has the repository without docker.io's `library/`.
            Err(_) => user.inspect(&format!("{}/app:1", faults.host()), "linux/amd64").await,
            found => found,
        };

        assert_eq!(image.unwrap().attached, [], "{code}");
        // Of the image itself it stays a refusal.
        faults.inject("/manifests/", refusal, FaultRepeats::Always);
        let other = User::of("http://127.0.0.1:1");
        assert!(other.inspect(&format!("{}/app:1", faults.host()), "linux/amd64").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_lies_elsewhere_is_downloaded_from_there() {
    let registry = servers::conformant();
    let author = Author::at(&registry.host, "win");
    let folder = tempfile::tempdir().unwrap();
    let bytes = registry::noise(5, 5000);
    fs::write(folder.path().join("base.tar.gz"), &bytes).unwrap();
    let web = Web::serve(folder.path());
    let digest = store::hash::sha256(&bytes);
    let base = json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest, "size": bytes.len(), "urls": [web.url("gone.tar.gz"), web.url("base.tar.gz")]});
    let config = author.blob(b"{\"os\":\"windows\",\"architecture\":\"amd64\"}").await;
    let own = author.blob(b"own layer").await;
    author.document(&manifest(&config, &[base, own]), Some("1")).await;
    let user = User::of("http://127.0.0.1:1");

    let image = user.inspect(&format!("{}/win:1", registry.host), "windows/amd64").await.unwrap();

    let locked = lock(vec![image]);
    let blobs = locked.blobs();
    let foreign = blobs.iter().find(|blob| blob.blob.digest == digest).unwrap();
    let BlobOrigin::ForeignLayer { reference, urls } = &foreign.origin else {
        panic!("{:?}", foreign.origin)
    };
    let job = fetch::FetchJob {
        blob: foreign.blob,
        name: reference.to_string(),
        request: user.registry(reference).blob_request(reference.repository(), &digest).unwrap(),
        alternatives: urls.iter().map(|url| http::build_anonymous_request(url).unwrap()).collect(),
    };
    let report = fetch::fetch_blobs(&user.client, &user.store, vec![job], Arc::new(SilentProgress))
        .await
        .unwrap();
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert_eq!(user.store.blob_size(&digest).unwrap(), Some(5000));
}
