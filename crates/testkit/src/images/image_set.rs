//! A set of images on disk, and what is known of each image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use types::{Digest, Reference};

use crate::tools;

/// A set of images on disk.
#[derive(Debug, Clone)]
pub struct TestImages {
    pub(crate) folder: PathBuf,
    pub(crate) images: Vec<TestImage>,
    /// Of a set that is not kept; the folder goes with the last copy of the set.
    pub(crate) _temporary: Option<Arc<TempDir>>,
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

    /// Copies the image's layout to the folder `to`, with blobs of its own: Gantry follows no link that
    /// leads out of a layout, as that to the blobs of the set does.
    pub fn copy_layout(&self, reference: &str, to: &Path) {
        let mut copy = Command::new("cp");
        tools::run_command(copy.arg("-RL").arg(self.layout_path(reference)).arg(to));
    }

    /// The OCI layout of one image, for `skopeo copy oci:FOLDER:TAG` and its like. Its `blobs` is a
    /// link to the set's common folder.
    pub fn layout_path(&self, reference: &str) -> PathBuf {
        self.folder.join("layouts").join(folder_name(&self.get(reference).reference))
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

    /// The part of the set whose names are given.
    #[must_use]
    pub fn select(&self, references: &[&str]) -> Self {
        let images = references.iter().map(|name| self.get(name).clone()).collect();
        Self { images, ..self.clone() }
    }

    pub(crate) fn read_set(folder: &Path) -> Option<Self> {
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

/// The folder of all sets.
pub(crate) fn cache_folder() -> PathBuf {
    tools::cache_folder().join("images")
}

/// The folder of one image's layout.
pub(crate) fn folder_name(reference: &Reference) -> String {
    reference.to_string().replace(['/', ':'], "_")
}
