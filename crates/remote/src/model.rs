//! A snapshot of a Hugging Face repository as a CNCF `ModelPack` manifest with one uncompressed
//! layer for each file. [`crate::hub`] and [`crate::local`] find the files and build a
//! [`LockedSnapshot`]; this module turns it into a manifest for the store. The manifest depends on
//! the content of the lock only, so the same lock always gives the same digest.
//!
//! The annotations ([`types::annotation`]) hold what the depot needs to answer requests as the Hub
//! does:
//!
//! | where | key | value |
//! |---|---|---|
//! | manifest | `MODEL_ID` | the id as the Hub writes it, `BAAI/bge-m3` |
//! | manifest | `MODEL_COMMIT` | the 40 hex digits of the commit (`X-Repo-Commit`) |
//! | manifest | `MODEL_REVISION` | the branch or tag that was asked for, `main` |
//! | manifest | `SOURCE`, `REVISION` | `https://huggingface.co/<id>`, the commit; for other tools |
//! | layer | `MODEL_FILEPATH`, `TITLE` | the file's path in the repository |
//! | layer | `GIT_ID` | git's id of the file; of the *pointer* for an LFS file (a tree's top-level `oid`) |
//! | layer | `LFS` | `true` on an LFS file, absent on all others |
//!
//! A layer's digest is the sha256 of the file, which for an LFS file is its LFS oid and its `ETag`;
//! for the others the `ETag` is `GIT_ID`. An LFS pointer's size is not stored: it is the length of
//! [`lfs_pointer`].

use std::collections::BTreeMap;

use serde_json::json;
use types::lock::{Blob, LockedModelFile};
use types::snapshot::check_model_path;
use types::{CommitId, Descriptor, Digest, GitId, Manifest, ModelId, Reference, Root};
use types::{annotation, media_type};

use crate::{Error, Result};

/// The host in the references of models: `huggingface.co/<id in lower case>:<commit>`.
const HOST: &str = "huggingface.co";
/// The Hub's limit is 25,000 files in a folder (docs, "Repository limitations"); more than this in
/// total would need a manifest above [`Manifest::MAX_SIZE`].
const MAX_FILES: usize = 30_000;

/// A snapshot as a lock describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedSnapshot {
    /// `org/name`.
    pub id: ModelId,
    /// The commit.
    pub commit: CommitId,
    /// The branch or tag that the input names, or the commit.
    pub revision: String,
    /// The files, in any order.
    pub files: Vec<LockedModelFile>,
}

/// A snapshot's artifact: its manifest and config, and the root to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelArtifact {
    /// The reference: `huggingface.co/<id in lower case>:<commit>`.
    pub reference: Reference,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The config's digest and length.
    pub config_blob: Blob,
    /// The root to publish, with the manifest's digest and the annotations of its entry in
    /// `index.json`.
    pub root: Root,
}

impl LockedSnapshot {
    /// Builds the manifest and the config; the same bytes for the same snapshot. Fails when a path
    /// leaves the repository or occurs twice, or when there are too many files.
    pub fn build_artifact(&self) -> Result<ModelArtifact> {
        let files = self.sorted_files()?;
        let config = self.build_config(&files)?;
        let config_blob = Blob { digest: compute_digest(&config), size: config.len() as u64 };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: Some(media_type::MODEL_MANIFEST.to_owned()),
            config: Some(Descriptor::new(
                media_type::MODEL_CONFIG,
                config_blob.digest,
                config_blob.size,
            )),
            layers: files.iter().map(|file| build_layer(file)).collect(),
            manifests: vec![],
            subject: None,
            annotations: self.build_annotations(),
        };
        let manifest = to_json(&manifest)?;
        let reference = snapshot_reference(&self.id, &self.commit)?;
        let blob = Blob { digest: compute_digest(&manifest), size: manifest.len() as u64 };
        let root = Root::for_model(&reference, blob, &self.id, &self.commit, &self.revision);
        Ok(ModelArtifact { reference, manifest, config, config_blob, root })
    }

    /// Writes the manifest and the config to the store. The files are written by the caller, before
    /// or after this.
    pub fn write_to_store(&self, store: &store::Store) -> Result<ModelArtifact> {
        let documents = self.build_artifact()?;
        store.put_bytes(&documents.config)?;
        store.put_bytes(&documents.manifest)?;
        Ok(documents)
    }

    fn sorted_files(&self) -> Result<Vec<&LockedModelFile>> {
        let invalid = |reason: String| Error::Model { id: self.id.to_string(), reason };
        if self.files.is_empty() {
            return Err(invalid(
                "no file is left after include and exclude; check these patterns".into(),
            ));
        }
        if self.files.len() > MAX_FILES {
            let count = self.files.len();
            return Err(invalid(format!(
                "it has {count} files, more than the {MAX_FILES} that fit into a manifest; leave some out with include and exclude"
            )));
        }
        // The order of layers is part of the digest, and sources list files in any order.
        let mut files: Vec<&LockedModelFile> = self.files.iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        // Paths come from the Hub, and become paths on the other side.
        for file in &files {
            check_model_path(&file.path)
                .map_err(|reason| invalid(format!("the path {:?} {reason}", file.path)))?;
        }
        if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(invalid(format!("the path {:?} occurs twice", pair[0].path)));
        }
        Ok(files)
    }

    /// model-spec v0.0.7, config.md: `descriptor`, `config` and `modelfs` are required.
    fn build_config(&self, files: &[&LockedModelFile]) -> Result<Vec<u8>> {
        let diff_ids: Vec<&Digest> = files.iter().map(|file| &file.digest).collect();
        to_json(&json!({
            "descriptor": {
                "name": self.id.as_str(),
                "sourceURL": source_url(&self.id),
                "revision": self.commit.as_str(),
            },
            "modelfs": { "type": "layers", "diffIds": diff_ids },
            "config": {},
        }))
    }

    fn build_annotations(&self) -> BTreeMap<String, String> {
        [
            (annotation::MODEL_ID, self.id.to_string()),
            (annotation::MODEL_COMMIT, self.commit.to_string()),
            (annotation::MODEL_REVISION, self.revision.clone()),
            (annotation::SOURCE, source_url(&self.id)),
            (annotation::REVISION, self.commit.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

/// The reference of a model's snapshot in a store and a registry.
pub fn snapshot_reference(id: &ModelId, commit: &CommitId) -> Result<Reference> {
    Ok(Reference::new(HOST, &id.repository(), Some(commit.as_str()), None)?)
}

/// The text of an LFS pointer, which git stores in place of the file's content (git-lfs,
/// docs/spec.md, "The Pointer").
pub fn lfs_pointer(digest: &Digest, size: u64) -> String {
    format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n",
        digest.hex()
    )
}

/// Git's blob id of an LFS file's [`lfs_pointer`]. The Hub's tree API gives it as the entry's
/// top-level `oid`.
pub fn lfs_pointer_id(digest: &Digest, size: u64) -> Result<GitId> {
    compute_git_id(lfs_pointer(digest, size).as_bytes())
}

/// Git's blob id of a file that is in memory.
pub(crate) fn compute_git_id(bytes: &[u8]) -> Result<GitId> {
    let mut id = store::hash::GitBlobHasher::new(bytes.len() as u64);
    id.update(bytes);
    Ok(id.finish()?)
}

/// A commit id for a folder without git history: clients of the Hub expect one. It is the sha1 of
/// one line for each file, `<path>\0<git id>\n`, sorted by path, so the same files give the same id
/// on any machine.
pub fn compute_pseudo_commit(files: &[LockedModelFile]) -> Result<CommitId> {
    use sha1::Digest as _;
    use std::fmt::Write as _;
    let mut sorted: Vec<&LockedModelFile> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hash = sha1::Sha1::new();
    for file in sorted {
        hash.update(file.path.as_bytes());
        hash.update(b"\0");
        hash.update(file.git.as_str().as_bytes());
        hash.update(b"\n");
    }
    let mut hex = String::with_capacity(40);
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex.parse()?)
}

fn build_layer(file: &LockedModelFile) -> Descriptor {
    let mut layer = Descriptor::new(media_type::for_model_file(&file.path), file.digest, file.size);
    let mut annotate = |key: &str, value: &str| {
        layer.annotations.insert(key.to_owned(), value.to_owned());
    };
    annotate(annotation::MODEL_FILEPATH, &file.path);
    annotate(annotation::TITLE, &file.path);
    annotate(annotation::GIT_ID, file.git.as_str());
    if file.lfs {
        annotate(annotation::LFS, "true");
    }
    layer
}

fn source_url(id: &ModelId) -> String {
    format!("https://{HOST}/{id}")
}

fn compute_digest(bytes: &[u8]) -> Digest {
    store::hash::sha256(bytes)
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::invalid_document("a model's manifest", error))
}
