//! A user who locks, fetches and pushes images between two real registries.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test takes what it needs")]

pub mod cutter;
pub mod servers;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gantry_remote::fetch::{self, FetchJob, FetchReport};
use gantry_remote::oci::{
    self, ImageQuery, PlatformRequirement, RegistryClient, RegistrySink, SparsePolicy,
};
use net::{Client, HttpRequest, Mirrors, RepeatPolicy, RequestBody, RetryPolicy};
use serde_json::{Value, json};
use store::progress::SilentProgress;
use store::{DamagePolicy, PutResult, Sink as _, Store};
use types::input::AttachedContent;
use types::lock::{BlobOrigin, Lock, LockedImage};
use types::naming::{NamingRule, RegistryPrefix};
use types::{Digest, Platform, Reference, Root};

/// A user with a store of their own. One registry is the mirror of all hosts.
pub struct User {
    pub folder: tempfile::TempDir,
    pub client: Client,
    pub mirrors: Mirrors,
    pub store: Store,
}

impl User {
    /// A user with an empty store, for whom docker.io, ghcr.io and quay.io are at this address.
    pub fn of(url: &str) -> Self {
        Self::with(url, client().build().unwrap())
    }

    pub fn with(url: &str, client: Client) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        Self { folder, client, mirrors: mirrors(url), store }
    }

    pub fn registry(&self, reference: &Reference) -> RegistryClient {
        RegistryClient::new(&self.client, &self.mirrors, reference.registry())
    }

    pub async fn inspect(&self, name: &str, platforms: &str) -> gantry_remote::Result<LockedImage> {
        let (name, platforms) = (reference(name), self::platforms(platforms));
        let query = ImageQuery {
            reference: &name,
            platforms: &platforms,
            requirement: PlatformRequirement::All,
            attached: AttachedContent::Carried,
        };
        oci::inspect_image(&self.registry(&name), &self.store, query).await
    }

    pub async fn fetch(&self, lock: &Lock) -> gantry_remote::Result<FetchReport> {
        fetch::fetch_blobs(&self.client, &self.store, self.jobs(lock), Arc::new(SilentProgress))
            .await
    }

    /// The jobs to fetch everything that a lock lists.
    pub fn jobs(&self, lock: &Lock) -> Vec<FetchJob> {
        let job = |content: &types::lock::LockedBlob<'_>| {
            let digest = &content.blob.digest;
            let (name, request) = match &content.origin {
                BlobOrigin::Manifest(name) => {
                    (*name, self.registry(name).manifest_request(&name.with_digest(*digest)))
                }
                BlobOrigin::Blob(name) => {
                    (*name, self.registry(name).blob_request(name.repository(), digest))
                }
                _ => panic!("an image has manifests and blobs"),
            };
            FetchJob {
                blob: content.blob,
                name: name.to_string(),
                request: request.unwrap(),
                alternatives: vec![],
            }
        };
        lock.blobs().iter().map(job).collect()
    }

    /// Looks up the images, fetches all of them and publishes their roots.
    pub async fn pull(&self, names: &[&str], platforms: &str) -> Lock {
        let mut images = vec![];
        for name in names {
            images.push(self.inspect(name, platforms).await.unwrap());
        }
        let lock = lock(images);
        let report = self.fetch(&lock).await.unwrap();
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        self.store.publish_roots(&lock.roots()).unwrap();
        lock
    }

    pub fn push(&self, site: &str, policy: SparsePolicy) -> RegistrySink {
        self.push_below(site, "ai", policy)
    }

    pub fn push_below(&self, site: &str, path: &str, policy: SparsePolicy) -> RegistrySink {
        let prefix: RegistryPrefix = format!("{site}/{path}").parse().unwrap();
        let roots = self.store.roots().unwrap();
        let targets =
            prefix.site_references(NamingRule::Path, roots.iter().map(|root| &root.name)).unwrap();
        RegistrySink::new(&self.client, &self.mirrors, &prefix, targets, policy)
    }

    /// Pushes every root as a load does, one after the other. Returns for each root what was done
    /// with its blobs.
    pub async fn load(
        &self,
        push: &RegistrySink,
    ) -> gantry_remote::Result<BTreeMap<String, Vec<PutResult>>> {
        let mut puts: BTreeMap<String, Vec<PutResult>> = BTreeMap::new();
        for root in self.store.roots().unwrap() {
            let own = puts.entry(root.name.to_string()).or_default();
            let closure = store::find_closure(&self.store, &root).unwrap();
            if push.holds_root(&root, &closure).await? {
                continue;
            }
            for blob in &closure.blobs {
                let from = Arc::new(self.store.clone());
                own.push(push.put_blob(&root, blob, from, Arc::new(|_| ())).await?);
            }
            for manifest in &closure.manifests {
                let bytes = self.document(&manifest.digest);
                if manifest.digest == root.descriptor.digest {
                    push.publish_root(&root, bytes).await?;
                } else {
                    push.put_manifest(&root, manifest, bytes).await?;
                }
            }
        }
        Ok(puts)
    }

    /// As [`Self::load`], and counts in `moved` the bytes that are reported as progress.
    pub async fn load_counting(
        &self,
        site: &str,
        moved: &Arc<AtomicU64>,
    ) -> gantry_remote::Result<()> {
        let push = self.push(site, SparsePolicy::Auto);
        for root in self.store.roots().unwrap() {
            for blob in &store::find_closure(&self.store, &root).unwrap().blobs {
                let (from, moved, size) = (Arc::new(self.store.clone()), moved.clone(), blob.size);
                let told = move |bytes| {
                    // Only those of the large blob.
                    if size > 1 << 20 {
                        moved.fetch_add(bytes, Ordering::SeqCst);
                    }
                };
                push.put_blob(&root, blob, from, Arc::new(told)).await?;
            }
        }
        self.load(&push).await.map(|_| ())
    }

    pub fn document(&self, digest: &Digest) -> Vec<u8> {
        store::read_blob(&self.store, digest, 16 << 20).unwrap()
    }

    pub fn root(&self, name: &str) -> Root {
        let roots = self.store.roots().unwrap();
        roots.into_iter().find(|root| root.name.to_string() == name).expect("a root of this name")
    }

    /// Asserts that nothing in the store is damaged and no root lacks content.
    pub fn assert_whole(&self) {
        let verification =
            self.store.verify(DamagePolicy::Keep, NonZero::<usize>::MIN, &SilentProgress).unwrap();
        assert!(verification.is_intact(), "{verification:?}");
    }
}

/// A user whose store has one image with a layer of this many bytes.
pub async fn user_with_noise(bytes: usize) -> User {
    let upstream = testkit::TestRegistry::start();
    let author = Author::at(upstream.host(), "big");
    let amd64 = author.image("amd64", &noise(5, bytes), None).await;
    let top = author.document(&index(std::slice::from_ref(&amd64)), Some("1")).await;
    let user = User::of("http://127.0.0.1:1");
    let lock = user.pull(&[&format!("{}/big:1", upstream.host())], "linux/amd64").await;
    assert_eq!(lock.images[0].digest, digest_of(&top));
    user
}

/// A client with short waits between its attempts.
pub fn client() -> net::ClientBuilder {
    let retry = RetryPolicy { first_wait: Duration::from_millis(10), ..RetryPolicy::default() };
    Client::builder().retry(retry)
}

/// A proxy with faults before `url`. Started on another thread, since it blocks on its own runtime.
pub fn faults(url: &str) -> testkit::FaultProxy {
    let url = url.to_owned();
    std::thread::spawn(move || testkit::FaultProxy::in_front_of(&url)).join().unwrap()
}

pub fn mirrors(url: &str) -> Mirrors {
    let hosts = ["docker.io", "ghcr.io", "quay.io"];
    let map = hosts.map(|host| (host.to_owned(), url.to_owned()));
    Mirrors::new(&map.into(), &[]).unwrap()
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub fn platforms(text: &str) -> Vec<Platform> {
    text.split(',').map(|one| one.parse().unwrap()).collect()
}

pub fn lock(images: Vec<LockedImage>) -> Lock {
    let platforms = images.first().map(|image| image.platforms.clone()).unwrap_or_default();
    let (charts, models, files) = (vec![], vec![], vec![]);
    Lock {
        version: 1,
        name: "test".into(),
        platforms,
        requests: vec![],
        charts,
        manifests: vec![],
        images,
        models,
        files,
    }
}

/// Bytes that cannot be compressed; the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// Writes content to a registry with plain requests, so that a test can create what no tool
/// creates.
pub struct Author {
    pub base: String,
    client: Client,
}

impl Author {
    pub fn at(host: &str, repository: &str) -> Self {
        let base = format!("http://{host}/v2/{repository}");
        Self { base, client: client().build().unwrap() }
    }

    pub async fn blob(&self, bytes: &[u8]) -> Value {
        let digest = store::hash::sha256(bytes);
        let mut request =
            HttpRequest::new(http::Method::POST, &format!("{}/blobs/uploads/", self.base)).unwrap();
        let response = self.client.send(&request, RepeatPolicy::Never).await.unwrap();
        let location = response.header("location").unwrap().to_owned();
        request.follow_location(&location).unwrap();
        request.set_method(http::Method::PUT);
        let octets = http::HeaderValue::from_static("application/octet-stream");
        let request = request
            .query("digest", &digest.to_string())
            .header(http::header::CONTENT_TYPE, octets)
            .body(RequestBody::Bytes(bytes.to_vec().into()));
        self.client
            .send(&request, RepeatPolicy::Never)
            .await
            .unwrap()
            .require_success()
            .await
            .unwrap();
        json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len()})
    }

    /// Writes a document under the tag, or else under its digest. Returns its descriptor.
    pub async fn document(&self, document: &Value, tag: Option<&str>) -> Value {
        let bytes = serde_json::to_vec(document).unwrap();
        let digest = store::hash::sha256(&bytes);
        let media_type = document["mediaType"].as_str().unwrap();
        let version = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let size = bytes.len();
        let url = format!("{}/manifests/{version}", self.base);
        let request = HttpRequest::new(http::Method::PUT, &url)
            .unwrap()
            .header(http::header::CONTENT_TYPE, media_type.parse().unwrap())
            .body(RequestBody::Bytes(bytes.into()));
        self.client
            .send(&request, RepeatPolicy::Never)
            .await
            .unwrap()
            .require_success()
            .await
            .unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    /// Writes an image with one layer; returns its descriptor.
    pub async fn image(&self, architecture: &str, layer: &[u8], tag: Option<&str>) -> Value {
        let config = json!({"architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": []}});
        let mut config = self.blob(&serde_json::to_vec(&config).unwrap()).await;
        config["mediaType"] = json!(types::media_type::OCI_CONFIG);
        let mut layer = self.blob(layer).await;
        layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
        let mut descriptor = self.document(&manifest(&config, &[layer]), tag).await;
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    }

    /// Writes an artifact that refers to `subject`; returns its descriptor.
    pub async fn referrer(&self, subject: &Value, artifact_type: &str, content: &[u8]) -> Value {
        let config = self.blob(b"{}").await;
        let layer = self.blob(content).await;
        let mut document = manifest(&config, &[layer]);
        document["artifactType"] = json!(artifact_type);
        document["subject"] = json!({"mediaType": subject["mediaType"],
            "digest": subject["digest"], "size": subject["size"]});
        let mut descriptor = self.document(&document, None).await;
        descriptor["artifactType"] = json!(artifact_type);
        descriptor
    }
}

pub fn manifest(config: &Value, layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": types::media_type::OCI_MANIFEST,
        "config": config, "layers": layers})
}

pub fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": types::media_type::OCI_INDEX, "manifests": manifests})
}

pub fn digest_of(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}
