//! Real images without a container engine: Debian packages as layers, written as OCI layouts, kept
//! below the cache folder, and placed into registries.
//!
//! ```text
//!  recipe ──debian──▶ .deb files ──layer──▶ blobs ──build──▶ layouts ──storage──▶ a registry's disk
//! ```

pub(crate) mod blobs;
mod build;
mod cluster;
mod companions;
mod compiled;
mod debian;
mod layer;
pub(crate) mod python;
mod recipes;
mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use types::{Digest, Reference};

use crate::tools;

/// A set of images on disk.
#[derive(Debug, Clone)]
pub struct TestImages {
    folder: PathBuf,
    images: Vec<TestImage>,
    /// Of a set that is not kept; the folder goes with the last copy of the set.
    _temporary: Option<Arc<TempDir>>,
}

/// One image of a set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestImage {
    /// Its name: `docker.io/library/nginx:1.22`.
    pub reference: Reference,
    /// The digest of its index, or of its manifest where it has one platform.
    pub digest: Digest,
    /// Its platforms, as `linux/amd64`.
    pub platforms: Vec<String>,
    /// Whether a cosign signature and an SBOM speak of it.
    pub is_signed: bool,
    /// All documents of its repository: what the tags point at first, then what they need.
    pub manifests: Vec<TestManifest>,
    /// All other blobs, with their sizes in bytes: configs, layers, payloads of the companions.
    pub blobs: BTreeMap<Digest, u64>,
}

/// A manifest or an index in a repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// The tag that points at it, if one does.
    pub tag: Option<String>,
}

impl TestImages {
    /// The small set (under 40 MB, eight images of three hosts), made once and kept: what tests
    /// that run often and the demo use.
    pub fn fast() -> Self {
        build::build_cached(&recipes::fast_recipe())
    }

    /// The large set (about 1 GB, ten images of three hosts), made once and kept: for the slow
    /// suite and the benchmark.
    pub fn slow() -> Self {
        build::build_cached(&recipes::slow_recipe())
    }

    /// The images of the cluster tests, made once and kept: servers that really answer
    /// (llama.cpp, embeddings, Ollama, PostgreSQL, Redis) and a busybox. Their names are in
    /// [`crate::workloads`]. Compiles two of them, which takes five minutes of one core.
    pub fn cluster() -> Self {
        build::build_cached(&cluster::cluster_recipe())
    }

    /// Tiny but real images under any names, made in a moment and kept nowhere: for charts, whose
    /// images are many and not ours to ship. Each has a digest of its own, about every
    /// third is for linux/amd64 and linux/arm64, the others for linux/amd64. `redis` is
    /// `docker.io/library/redis:latest`, as docker has it; a name given twice is one image.
    ///
    /// # Panics
    /// When a name is none, or has a digest: no stand-in can have the digest of another image. Let
    /// the values of the test take the digest away (`image.digest: ""`) or set the stand-in's
    /// own ([`TestImages::get`]). And when two hosts have one repository and tag: one registry stands
    /// for all hosts (see [`TestImages::place_in_storage`]).
    pub fn stand_ins<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let references: BTreeSet<String> =
            names.into_iter().map(|name| parse_stand_in_name(name.as_ref()).to_string()).collect();
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        build::build_set(
            &recipes::stand_in_recipe(references.into_iter().collect()),
            folder.path(),
        );
        let set = Self::read_set(folder.path()).expect("a set that was just made can be read");
        let set = Self { _temporary: Some(Arc::new(folder)), ..set };
        let mut taken = BTreeMap::new();
        for image in &set.images {
            if let Some(other) = taken.insert((image.repository(), image.tag()), &image.reference) {
                panic!("{other} and {} are one in a registry for all hosts", image.reference);
            }
        }
        set
    }

    /// The images.
    pub fn iter(&self) -> impl Iterator<Item = &TestImage> {
        self.images.iter()
    }

    /// The image of this name.
    ///
    /// # Panics
    /// When the set has none.
    pub fn get(&self, reference: &str) -> &TestImage {
        self.images
            .iter()
            .find(|image| image.reference.to_string() == reference)
            .unwrap_or_else(|| panic!("the set has no image {reference}"))
    }

    /// The OCI layout of one image, for `skopeo copy oci:FOLDER:TAG` and its like. Its `blobs` is a
    /// link to the set's common folder.
    pub fn layout_path(&self, reference: &str) -> PathBuf {
        self.folder.join("layouts").join(build::folder_name(&self.get(reference).reference))
    }

    /// Writes an image as `docker save` does (its amd64 side), for `images: {archive: FILE}`.
    pub fn save_archive(&self, reference: &str, archive: &Path) {
        crate::engine::save_image(self, reference, archive);
    }

    /// Where a blob or a manifest of the set is.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    /// Every blob and manifest of the set once, with its size in bytes.
    pub fn unique_blobs(&self) -> BTreeMap<Digest, u64> {
        let mut all = BTreeMap::new();
        for image in &self.images {
            all.extend(image.blobs.iter().map(|(digest, size)| (*digest, *size)));
            all.extend(image.manifests.iter().map(|document| (document.digest, document.size)));
        }
        all
    }

    /// The bytes of [`unique_blobs`](Self::unique_blobs).
    pub fn unique_bytes(&self) -> u64 {
        self.unique_blobs().values().sum()
    }

    /// Places the set into the storage folder of a docker-registry, under its repositories' paths
    /// without their hosts, by hard links where the disk allows: what a push of each would leave
    /// there, in an instant and on no space. For [`crate::TestRegistryBuilder::storage`]; a running
    /// registry finds it as well.
    pub fn place_in_storage(&self, storage: &Path) {
        for image in &self.images {
            storage::place_image(self, image, storage);
        }
    }

    /// The part of the set whose names are given.
    #[must_use]
    pub fn select(&self, references: &[&str]) -> Self {
        let images = references.iter().map(|name| self.get(name).clone()).collect();
        Self { images, ..self.clone() }
    }

    fn read_set(folder: &Path) -> Option<Self> {
        let text = fs::read(folder.join("images.json")).ok()?;
        let images = serde_json::from_slice(&text).ok()?;
        Some(Self { folder: folder.to_path_buf(), images, _temporary: None })
    }
}

impl TestImage {
    /// `nginx:1.22` of the repository's path on its host: `library/nginx`.
    pub fn repository(&self) -> &str {
        self.reference.repository()
    }

    /// The tag; all images of a set have one.
    pub fn tag(&self) -> &str {
        self.reference.tag().expect("a set's images have tags")
    }

    /// The bytes of the image and its companions: every blob and manifest once.
    pub fn bytes(&self) -> u64 {
        let manifests: BTreeMap<_, _> =
            self.manifests.iter().map(|document| (document.digest, document.size)).collect();
        self.blobs.values().sum::<u64>() + manifests.values().sum::<u64>()
    }
}

/// What a stand-in is made for.
fn parse_stand_in_name(name: &str) -> Reference {
    let reference: Reference =
        name.parse().unwrap_or_else(|error| panic!("no stand-in can be made for {name}: {error}"));
    assert!(
        reference.digest().is_none(),
        "{name} has a digest, which no stand-in can have: let the test's values take it away"
    );
    reference
}

/// The folder of all sets.
fn cache_folder() -> PathBuf {
    tools::cache_folder().join("images")
}
