//! The Hugging Face models that a source has, by id and revision.

use std::collections::BTreeMap;

use types::snapshot::Snapshot;
use types::{Commit, Manifest, Root};

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

impl Models {
    /// Adds the root if its manifest is a snapshot's.
    pub(crate) fn add(&mut self, root: &Root, manifest: &Manifest) {
        let Some(snapshot) = Snapshot::of(root, manifest) else { return };
        let (id, commit) = (&snapshot.id, &snapshot.commit);
        let model = self.0.entry(id.to_lowercase()).or_default();
        model.id.clone_from(id);
        if let Some(revision) = &snapshot.revision
            && revision.parse::<Commit>().is_err()
            && let Some(other) = model.revisions.insert(revision.clone(), commit.clone())
            && other != *commit
        {
            tracing::warn!("{id} was carried as {revision} twice; {commit} is served, not {other}");
        }
        model.snapshots.insert(commit.clone(), snapshot);
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
