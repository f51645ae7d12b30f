//! A snapshot of a Hugging Face repository as a CNCF `ModelPack` manifest: one raw layer a file.
//! Stands between what was found out about the files (on the Hub, in a cache, in a folder) and the
//! store; the bytes that it makes are a pure function of what a lock says.
//!
//! What the depot needs to give the Hub's answers back stands in annotations
//! ([`types::annotation`]):
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
//! [`pointer`].

use std::collections::BTreeMap;

use serde_json::json;
use types::lock::{Blob, ModelFile};
use types::snapshot::check_path;
use types::{Commit, Descriptor, Digest, GitId, Manifest, ModelId, Reference, Root};
use types::{annotation, media_type};

use crate::{Error, Result};

/// The host in the names of models: `huggingface.co/<id in lower case>:<commit>`.
const HOST: &str = "huggingface.co";
/// The Hub's limit is 25,000 files in a folder (docs, "Repository limitations"); more than this in
/// all would need a manifest above [`Manifest::MAX_SIZE`].
const MAX_FILES: usize = 30_000;

/// What a snapshot is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `org/name`.
    pub id: ModelId,
    /// The commit.
    pub commit: Commit,
    /// The branch or tag that was asked for, or the commit.
    pub revision: String,
    /// The files, in any order.
    pub files: Vec<ModelFile>,
}

/// The documents of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// The name: `huggingface.co/<id in lower case>:<commit>`.
    pub reference: Reference,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The config as a blob.
    pub config_blob: Blob,
    /// The root, with the manifest's digest and the annotations of its `index.json` entry.
    pub root: Root,
}

impl Snapshot {
    /// The manifest and the config, the same bytes for the same snapshot. Fails when a path leaves
    /// the repository, stands there twice, or when there are too many files.
    pub fn documents(&self) -> Result<Documents> {
        let files = self.sorted()?;
        let config = self.config(&files)?;
        let config_blob = Blob { digest: digest_of(&config), size: config.len() as u64 };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: Some(media_type::MODEL_MANIFEST.to_owned()),
            config: Some(Descriptor::new(
                media_type::MODEL_CONFIG,
                config_blob.digest,
                config_blob.size,
            )),
            layers: files.iter().map(|file| layer(file)).collect(),
            manifests: vec![],
            subject: None,
            annotations: self.annotations(),
        };
        let manifest = to_json(&manifest)?;
        let reference = reference(&self.id, &self.commit)?;
        let blob = Blob { digest: digest_of(&manifest), size: manifest.len() as u64 };
        let root = Root::model(&reference, blob, &self.id, &self.commit, &self.revision);
        Ok(Documents { reference, manifest, config, config_blob, root })
    }

    /// Puts the manifest and the config into the store; the files must be there or come later.
    pub fn put(&self, store: &store::Store) -> Result<Documents> {
        let documents = self.documents()?;
        store.put_bytes(&documents.config)?;
        store.put_bytes(&documents.manifest)?;
        Ok(documents)
    }

    fn sorted(&self) -> Result<Vec<&ModelFile>> {
        let invalid = |reason: String| Error::Model { id: self.id.to_string(), reason };
        if self.files.is_empty() {
            return Err(invalid("no file is left; check include and exclude".into()));
        }
        if self.files.len() > MAX_FILES {
            let count = self.files.len();
            return Err(invalid(format!(
                "it has {count} files, more than the {MAX_FILES} that a manifest takes; leave some out with include and exclude"
            )));
        }
        let mut files: Vec<&ModelFile> = self.files.iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for file in &files {
            check_path(&file.path)
                .map_err(|reason| invalid(format!("the path {:?} {reason}", file.path)))?;
        }
        if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(invalid(format!("the path {:?} stands there twice", pair[0].path)));
        }
        Ok(files)
    }

    /// model-spec v0.0.7, config.md: `descriptor`, `config` and `modelfs` are required.
    fn config(&self, files: &[&ModelFile]) -> Result<Vec<u8>> {
        let diff_ids: Vec<&Digest> = files.iter().map(|file| &file.digest).collect();
        to_json(&json!({
            "descriptor": {
                "name": self.id.as_str(),
                "sourceURL": source(&self.id),
                "revision": self.commit.as_str(),
            },
            "modelfs": { "type": "layers", "diffIds": diff_ids },
            "config": {},
        }))
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        [
            (annotation::MODEL_ID, self.id.to_string()),
            (annotation::MODEL_COMMIT, self.commit.to_string()),
            (annotation::MODEL_REVISION, self.revision.clone()),
            (annotation::SOURCE, source(&self.id)),
            (annotation::REVISION, self.commit.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

/// The name of a model's snapshot in a store and a registry.
pub fn reference(id: &ModelId, commit: &Commit) -> Result<Reference> {
    Ok(Reference::new(HOST, &id.repository(), Some(commit.as_str()), None)?)
}

/// The text that git keeps in the place of an LFS file (git-lfs, docs/spec.md, "The Pointer").
pub fn pointer(digest: &Digest, size: u64) -> String {
    format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n",
        digest.hex()
    )
}

/// Git's id of an LFS file's [`pointer`]: the top-level `oid` of a tree's entry.
pub fn pointer_id(digest: &Digest, size: u64) -> Result<GitId> {
    git_id(pointer(digest, size).as_bytes())
}

/// Git's id of a file that is in memory.
pub(crate) fn git_id(bytes: &[u8]) -> Result<GitId> {
    let mut id = store::hash::GitBlob::new(bytes.len() as u64);
    id.update(bytes);
    Ok(id.finish()?)
}

/// The commit of a folder that has none: the sha1 of one line a file, `<path>\0<git id>\n`, sorted
/// by path. The same files give the same commit, wherever and whenever they are looked at.
pub fn pseudo_commit(files: &[ModelFile]) -> Result<Commit> {
    use sha1::Digest as _;
    use std::fmt::Write as _;
    let mut sorted: Vec<&ModelFile> = files.iter().collect();
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
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex.parse()?)
}

fn layer(file: &ModelFile) -> Descriptor {
    let mut layer = Descriptor::new(media_type::of_model_file(&file.path), file.digest, file.size);
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

fn source(id: &ModelId) -> String {
    format!("https://{HOST}/{id}")
}

fn digest_of(bytes: &[u8]) -> Digest {
    store::hash::sha256(bytes)
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::document("a model's manifest", error))
}
