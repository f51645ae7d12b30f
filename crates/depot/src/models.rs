//! Hugging Face snapshots, rebuilt from their ModelPack manifests: a layer's annotations have the
//! file's path and git's id (`types::annotation`), its digest is the file's sha256.

use std::collections::BTreeMap;

use store::{Source, document};
use types::annotation::{GIT_ID, LFS, MODEL_COMMIT, MODEL_FILEPATH, MODEL_ID, MODEL_REVISION};
use types::{Commit, Digest, GitId, Manifest};

use crate::Result;
use crate::catalogue::Catalogue;

/// All models, by id.
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
    pub(crate) fn read(source: &dyn Source, catalogue: &Catalogue) -> Result<Self> {
        let mut models = Self::default();
        for root in catalogue.models() {
            let annotation = |key: &str| root.descriptor.annotations.get(key);
            let (Some(id), Some(commit)) = (annotation(MODEL_ID), annotation(MODEL_COMMIT)) else {
                continue;
            };
            let Ok(commit) = commit.parse::<Commit>() else { continue };
            let bytes = document(source, &root.descriptor.digest, Manifest::MAX_SIZE)?;
            let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
            let model = models.0.entry(id.clone()).or_default();
            model.id.clone_from(id);
            if let Some(revision) = annotation(MODEL_REVISION)
                && revision.parse::<Commit>().is_err()
            {
                model.revisions.insert(revision.clone(), commit.clone());
            }
            let files = manifest.layers.iter().filter_map(|layer| {
                let annotation = |key: &str| layer.annotations.get(key);
                let file = File {
                    size: layer.size,
                    digest: layer.digest,
                    git: annotation(GIT_ID)?.parse().ok()?,
                    storage: match annotation(LFS).map(String::as_str) {
                        Some("true") => Storage::Lfs,
                        _ => Storage::Git,
                    },
                };
                Some((annotation(MODEL_FILEPATH)?.clone(), file))
            });
            let files = files.collect();
            model.snapshots.insert(commit, Snapshot { files });
        }
        for model in models.0.values_mut() {
            // Locked by commit alone: clients that ask for the default branch mean it.
            if model.revisions.is_empty()
                && let (1, Some(only)) = (model.snapshots.len(), model.snapshots.keys().next())
            {
                model.revisions.insert("main".to_owned(), only.clone());
            }
        }
        Ok(models)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Model> {
        self.0.get(id)
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

    /// The commit that `main` is, or the newest name there is.
    pub(crate) fn default_revision(&self) -> &str {
        match self.revisions.keys().next() {
            Some(first) if !self.revisions.contains_key("main") => first,
            _ => "main",
        }
    }
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
