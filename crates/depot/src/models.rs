//! Hugging Face snapshots, rebuilt from their ModelPack manifests: a layer's annotations have the
//! file's path and git's id (`types::annotation`), its digest is the file's sha256.

use std::collections::BTreeMap;

use types::annotation::{GIT_ID, LFS, MODEL_COMMIT, MODEL_FILEPATH, MODEL_ID, MODEL_REVISION};
use types::{Commit, Descriptor, Digest, GitId, Manifest, Root};

use crate::catalogue::annotation_of;

/// All models, by id in lower case.
#[derive(Default)]
pub(crate) struct Models(BTreeMap<String, Model>);

/// One model.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) id: String,
    /// Branches and tags that were locked.
    pub(crate) revisions: BTreeMap<String, Commit>,
    pub(crate) snapshots: BTreeMap<Commit, Snapshot>,
}

/// The files of a model at a commit.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) files: BTreeMap<String, File>,
}

/// A file.
pub(crate) struct File {
    pub(crate) size: u64,
    pub(crate) digest: Digest,
    /// Git's id: of the content, or of the LFS pointer.
    pub(crate) git: GitId,
    pub(crate) storage: Storage,
}

/// Where the Hub keeps a file, which decides its ETag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    Git,
    Lfs,
}

impl Models {
    /// Adds the root if its manifest is a snapshot's.
    pub(crate) fn add(&mut self, root: &Root, manifest: &Manifest) {
        let annotation = |key: &str| annotation_of(root, manifest, key);
        let (Some(id), Some(commit)) = (annotation(MODEL_ID), annotation(MODEL_COMMIT)) else {
            return;
        };
        let Ok(commit) = commit.parse::<Commit>() else { return };
        let model = self.0.entry(id.to_lowercase()).or_default();
        id.clone_into(&mut model.id);
        if let Some(revision) = annotation(MODEL_REVISION)
            && revision.parse::<Commit>().is_err()
            && let Some(other) = model.revisions.insert(revision.to_owned(), commit.clone())
            && other != commit
        {
            tracing::warn!("{id} was carried as {revision} twice; {commit} is served, not {other}");
        }
        let files = manifest.layers.iter().filter_map(file).collect();
        model.snapshots.insert(commit, Snapshot { files });
    }

    /// Gives models that were carried by commit alone the branch that clients ask for unasked.
    pub(crate) fn settle(&mut self) {
        for model in self.0.values_mut() {
            if model.revisions.is_empty()
                && let (1, Some(only)) = (model.snapshots.len(), model.snapshots.keys().next())
            {
                model.revisions.insert("main".to_owned(), only.clone());
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A model by its id; as on the Hub, upper and lower case are the same.
    pub(crate) fn get(&self, id: &str) -> Option<&Model> {
        self.0.get(&id.to_lowercase())
    }
}

impl Model {
    /// The commit and the files of a branch, a tag or a commit.
    pub(crate) fn at(&self, revision: &str) -> Option<(&Commit, &Snapshot)> {
        let commit = match self.revisions.get(revision) {
            Some(commit) => commit.clone(),
            None => revision.parse().ok()?,
        };
        self.snapshots.get_key_value(&commit)
    }

    /// What can be asked for: branches and tags, then commits.
    pub(crate) fn names(&self) -> Vec<String> {
        let commits = self.snapshots.keys().map(Commit::to_string);
        self.revisions.keys().cloned().chain(commits).collect()
    }

    /// `main`, or the first of the names that there are.
    pub(crate) fn default_revision(&self) -> &str {
        match self.revisions.keys().next() {
            Some(first) if !self.revisions.contains_key("main") => first,
            _ => "main",
        }
    }
}

/// The file of a layer, if the layer is a model's file.
fn file(layer: &Descriptor) -> Option<(String, File)> {
    let annotation = |key: &str| layer.annotations.get(key);
    let path = annotation(MODEL_FILEPATH)?.clone();
    let git = annotation(GIT_ID)?.parse().ok()?;
    let storage = match annotation(LFS).map(String::as_str) {
        Some("true") => Storage::Lfs,
        _ => Storage::Git,
    };
    Some((path, File { size: layer.size, digest: layer.digest, git, storage }))
}

impl File {
    /// What the Hub answers as ETag: the git id, or the sha256 for LFS.
    pub(crate) fn etag(&self) -> String {
        match self.storage {
            Storage::Git => self.git.to_string(),
            Storage::Lfs => self.digest.hex(),
        }
    }

    /// The LFS pointer's text (git-lfs specification v1).
    pub(crate) fn pointer(&self) -> String {
        let (oid, size) = (self.digest.hex(), self.size);
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
    }
}
