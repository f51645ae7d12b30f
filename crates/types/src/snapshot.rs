//! A Hugging Face snapshot, read from its ModelPack manifest: the annotations of each layer hold the
//! file's path and git's id ([`crate::annotation`]), and the layer's digest is the file's sha256. So
//! the depot can answer as the Hub does without any other database.

use std::collections::BTreeMap;

use crate::annotation::{GIT_ID, LFS, MODEL_COMMIT, MODEL_FILEPATH, MODEL_ID, MODEL_REVISION};
use crate::{CommitId, Descriptor, Digest, GitId, Manifest, Root};

/// The longest path of a file in a model, in bytes: object stores allow no longer names (S3: 1024).
const MAX_PATH: usize = 1024;

/// The files of a model at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The model's id as the Hub writes it.
    pub id: String,
    /// The commit.
    pub commit: CommitId,
    /// The branch or tag that was asked for.
    pub revision: Option<String>,
    /// The files by path.
    pub files: BTreeMap<String, SnapshotFile>,
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its length in bytes.
    pub size: u64,
    /// Its sha256.
    pub digest: Digest,
    /// Git's id: of the content, or of the LFS pointer.
    pub git: GitId,
    /// Where the Hub keeps it.
    pub storage: HubStorage,
}

/// Where the Hub keeps a file, which decides its `ETag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubStorage {
    /// In git.
    Git,
    /// In LFS.
    Lfs,
}

impl Snapshot {
    /// The snapshot of a root, or `None` when the root is not a model. A layer whose path would leave
    /// the model's folder is left out.
    pub fn from_root(root: &Root, manifest: &Manifest) -> Option<Self> {
        let annotation = |key: &str| find_annotation(root, manifest, key);
        let (id, commit) = (annotation(MODEL_ID)?, annotation(MODEL_COMMIT)?);
        Some(Self {
            id: id.to_owned(),
            commit: commit.parse().ok()?,
            revision: annotation(MODEL_REVISION).map(str::to_owned),
            files: manifest.layers.iter().filter_map(parse_layer_file).collect(),
        })
    }
}

impl SnapshotFile {
    /// The `ETag` that the Hub sends, which is also the blob's file name in a Hugging Face cache: git's
    /// id, or the sha256 for LFS.
    pub fn etag(&self) -> String {
        match self.storage {
            HubStorage::Git => self.git.to_string(),
            HubStorage::Lfs => self.digest.hex(),
        }
    }

    /// The LFS pointer's text (git-lfs specification v1).
    pub fn lfs_pointer(&self) -> String {
        let (oid, size) = (self.digest.hex(), self.size);
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
    }
}

/// An annotation of the entry in the index, else of the manifest.
pub fn find_annotation<'a>(root: &'a Root, manifest: &'a Manifest, key: &str) -> Option<&'a str> {
    let of_entry = root.descriptor.annotations.get(key);
    of_entry.or_else(|| manifest.annotations.get(key)).map(String::as_str)
}

/// Checks that a file of a model may have this path. The error completes "the path … ".
pub fn check_model_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > MAX_PATH {
        return Err("is empty or longer than 1024 bytes");
    }
    // Also refuses an absolute path, whose first segment is empty. Manifests come from registries
    // that anybody may write to, so this guards every folder that models are written into.
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err("leaves the repository");
    }
    if path.contains(|c: char| c.is_control() || c == '\\') {
        return Err("has a backslash or a control character");
    }
    Ok(())
}

/// The file of a layer, if the layer is a model's file.
fn parse_layer_file(layer: &Descriptor) -> Option<(String, SnapshotFile)> {
    let annotation = |key: &str| layer.annotations.get(key);
    let path = annotation(MODEL_FILEPATH)?.clone();
    // No error: the rest of a hostile or unusual manifest can still be served as an OCI artifact.
    check_model_path(&path).ok()?;
    let git = annotation(GIT_ID)?.parse().ok()?;
    let storage = match annotation(LFS).map(String::as_str) {
        Some("true") => HubStorage::Lfs,
        _ => HubStorage::Git,
    };
    Some((path, SnapshotFile { size: layer.size, digest: layer.digest, git, storage }))
}
