//! The Hugging Face models of a depot by id and revision, for the Hugging Face endpoint.

use std::collections::BTreeMap;

use types::snapshot::Snapshot;
use types::{CommitId, Manifest, Root, RootKind};

/// All models, keyed by their id in lower case.
#[derive(Default)]
pub(crate) struct ServedModels {
    models: BTreeMap<String, ServedModel>,
    /// Models of which a snapshot cannot be read, with the reason.
    damaged: BTreeMap<String, String>,
}

/// One model with all its snapshots.
#[derive(Default)]
pub(crate) struct ServedModel {
    pub(crate) id: String,
    /// The branches and tags that were locked, with their commits.
    pub(crate) revisions: BTreeMap<String, CommitId>,
    pub(crate) snapshots: BTreeMap<CommitId, Snapshot>,
}

impl ServedModels {
    /// Adds the root if its manifest is that of a model snapshot.
    pub(crate) fn add_root(&mut self, root: &Root, manifest: &Manifest) {
        let Some(snapshot) = Snapshot::from_root(root, manifest) else { return };
        let (id, commit) = (&snapshot.id, &snapshot.commit);
        let model = self.models.entry(id.to_lowercase()).or_default();
        model.id.clone_from(id);
        // A model that was locked by its commit has the commit as its revision: that is no branch.
        if let Some(revision) = &snapshot.revision
            && revision.parse::<CommitId>().is_err()
            && let Some(other) = model.revisions.insert(revision.clone(), commit.clone())
            && other != *commit
        {
            tracing::warn!("{id} has two snapshots of {revision}; {commit} is served, not {other}");
        }
        model.snapshots.insert(commit.clone(), snapshot);
    }

    /// Remembers a model whose manifest cannot be read, so that clients are told so, and not that it is
    /// unknown.
    pub(crate) fn add_damaged_root(&mut self, root: &Root, reason: String) {
        if root.kind == RootKind::Model {
            self.damaged.insert(root.name.repository().to_lowercase(), reason);
        }
    }

    /// Why a snapshot of this model cannot be served; `None` when all can.
    pub(crate) fn find_damage(&self, id: &str) -> Option<&str> {
        self.damaged.get(&id.to_lowercase()).map(String::as_str)
    }

    /// Gives models that were locked by commit alone the branch `main`, which clients request by
    /// default. With several commits there is no way to choose one.
    pub(crate) fn add_default_branches(&mut self) {
        for model in self.models.values_mut() {
            if model.revisions.is_empty()
                && let (1, Some(only)) = (model.snapshots.len(), model.snapshots.keys().next())
            {
                model.revisions.insert("main".to_owned(), only.clone());
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.models.len()
    }

    /// A model by its id. As on the Hub, case does not matter.
    pub(crate) fn get(&self, id: &str) -> Option<&ServedModel> {
        self.models.get(&id.to_lowercase())
    }
}

impl ServedModel {
    /// The commit and the files of a branch, a tag or a commit.
    pub(crate) fn resolve_revision(&self, revision: &str) -> Option<(&CommitId, &Snapshot)> {
        let commit = match self.revisions.get(revision) {
            Some(commit) => commit.clone(),
            None => revision.parse().ok()?,
        };
        self.snapshots.get_key_value(&commit)
    }

    /// The revisions that can be requested: branches and tags, then commits.
    pub(crate) fn revision_names(&self) -> Vec<String> {
        let commits = self.snapshots.keys().map(CommitId::to_string);
        self.revisions.keys().cloned().chain(commits).collect()
    }

    /// The revision for requests that name none: `main`, or the first branch if there is no `main`.
    pub(crate) fn default_revision(&self) -> &str {
        match self.revisions.keys().next() {
            Some(first) if !self.revisions.contains_key("main") => first,
            _ => "main",
        }
    }
}
