//! Imports models from a cache of huggingface_hub: with its symbolic links, or with files in place
//! of the links, as `cp -rL` and copies to S3 leave it. The layout (huggingface_hub docs,
//! "Understand caching"):
//!
//! ```text
//! models--BAAI--bge-m3/refs/main                          the commit id
//!                      snapshots/<commit>/config.json  ─▶ ../../blobs/<etag>
//!                      blobs/<etag>                       sha256 of an LFS file, else its git id
//! ```

use std::path::Path;

use store::Store;
use store::progress::Progress;
use types::{Commit, Digest, GitId, ModelId};

use super::lfs::Rules;
use super::tree::{self, EntryKind, Folder, Hash, Tree, Wanted};
use crate::hub::Filter;
use crate::model::Snapshot;
use crate::{Error, Result};

/// Limit for a ref file. It has 40 hex digits, and a newline if it was written by hand.
const MAX_REF: u64 = 64;
/// Limit for a `.gitattributes` file; real ones have about 2 KB.
const MAX_ATTRIBUTES: u64 = 1 << 20;
/// Beginning of the name of a model's folder.
const PREFIX: &str = "models--";

/// Imports a model from a cache. `path` is the folder that contains `models--…`, its parent
/// (`HF_HOME`), or the model's own folder. `revision` is a branch, a tag or a commit.
pub fn model_from_cache(
    path: &Path,
    id: &ModelId,
    revision: &str,
    filter: &Filter,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Snapshot> {
    let folder = Folder::open(path.to_owned())?;
    let models = find(&folder, "")?;
    let Some(cached) = models.iter().find(|model| model.id == *id) else {
        let there: Vec<String> = models.iter().map(|model| model.id.to_string()).collect();
        return Err(Error::absent(format!("model {id} in {}", path.display()), &there));
    };
    let commit = cached.commit(&folder, revision)?;
    cached.take(&folder, revision, &commit, filter, store, progress)
}

/// A model in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) id: ModelId,
    folder: String,
}

/// Finds all models of the cache at `folder`, sorted by id; empty when it is not a cache.
pub(super) fn find(tree: &dyn Tree, folder: &str) -> Result<Vec<Cached>> {
    // `folder` may be the model's own folder; through a link its real name counts.
    let last = tree.real_path(folder).unwrap_or_default();
    let last = last.rsplit('/').next().unwrap_or_default();
    if let Some(id) = id_of(last)
        && tree.list(&tree::join(folder, "snapshots"))?.is_some()
    {
        return Ok(vec![Cached { id, folder: folder.to_owned() }]);
    }
    let mut found = Vec::new();
    for place in [folder.to_owned(), tree::join(folder, "hub")] {
        for entry in tree.list(&place)?.unwrap_or_default() {
            let path = tree::join(&place, &entry.name);
            if entry.kind == EntryKind::Folder
                && let Some(id) = id_of(&entry.name)
                && tree.list(&tree::join(&path, "snapshots"))?.is_some()
            {
                found.push(Cached { id, folder: path });
            }
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// Parses a folder's name: `models--org--name` means `org/name`. The Hub allows no `--` in an id,
/// so this is unambiguous.
fn id_of(name: &str) -> Option<ModelId> {
    name.strip_prefix(PREFIX)?.replace("--", "/").parse().ok()
}

impl Cached {
    /// Resolves a branch, tag or commit to a commit of which the cache has a snapshot.
    pub(super) fn commit(&self, tree: &dyn Tree, revision: &str) -> Result<Commit> {
        let snapshots = self.snapshots(tree)?;
        if let Ok(commit) = revision.parse::<Commit>()
            && snapshots.contains(&commit)
        {
            return Ok(commit);
        }
        let refs = self.refs(tree)?;
        if let Some((_, commit)) = refs.iter().find(|(name, _)| name == revision) {
            if snapshots.contains(commit) {
                return Ok(commit.clone());
            }
            return Err(Error::Damaged {
                what: tree.shown(&self.folder),
                reason: format!(
                    "{revision} points to commit {commit}, whose snapshot is missing; download it again"
                ),
            });
        }
        // Copies often lack refs/; with a single snapshot there is nothing to choose.
        if let ([], [only]) = (refs.as_slice(), snapshots.as_slice()) {
            return Ok(only.clone());
        }
        let there: Vec<String> = refs
            .into_iter()
            .map(|(name, _)| name)
            .chain(snapshots.into_iter().map(|commit| commit.to_string()))
            .collect();
        let what = format!("revision {revision:?} of {} in {}", self.id, tree.shown(&self.folder));
        Err(Error::absent(what, &there))
    }

    /// Lists all snapshots, each with the name of a ref that points to it, or else its commit.
    pub(super) fn revisions(&self, tree: &dyn Tree) -> Result<Vec<(String, Commit)>> {
        let refs = self.refs(tree)?;
        let mut revisions = Vec::new();
        for commit in self.snapshots(tree)? {
            let named = |name: &&(String, Commit)| name.1 == commit;
            // Several refs may point to one commit: `main`, or else the first by name.
            let name = refs
                .iter()
                .filter(named)
                .find(|(name, _)| name == "main")
                .or_else(|| refs.iter().find(named));
            let revision = name.map_or_else(|| commit.to_string(), |(name, _)| name.clone());
            revisions.push((revision, commit));
        }
        Ok(revisions)
    }

    /// Imports a snapshot into the store. The names of blobs, where there are links to them, say
    /// what the content must be; other files are hashed as those of a plain folder.
    pub(super) fn take(
        &self,
        tree: &dyn Tree,
        revision: &str,
        commit: &Commit,
        filter: &Filter,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Snapshot> {
        let folder = tree::join(&self.folder, &format!("snapshots/{commit}"));
        let attributes = tree.document(&tree::join(&folder, ".gitattributes"), MAX_ATTRIBUTES)?;
        let attributes = attributes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let rules = Rules::new(attributes.as_deref());
        let mut found = tree::files(tree, &folder, |_| true)?;
        found.retain(|file| filter.takes(&file.path));
        let mut wanted = Vec::with_capacity(found.len());
        let mut names = Vec::with_capacity(found.len());
        for file in &found {
            let path = tree::join(&folder, &file.path);
            let name = Name::of(&tree.real_path(&path)?);
            // A copy without links has no names of blobs: the rules of LFS decide, as for a folder.
            let hash = match &name {
                Name::Lfs(digest) => Hash::Known(*digest),
                Name::None if rules.is_lfs(&file.path, file.size) => Hash::Sha256,
                Name::Git(_) | Name::None => Hash::Git,
            };
            wanted.push(Wanted { path, size: file.size, hash });
            names.push(name);
        }
        let taken = tree.take(&wanted, store, progress)?;
        let mut files = Vec::with_capacity(found.len());
        for ((file, name), taken) in found.into_iter().zip(names).zip(taken) {
            if let (Name::Git(promised), Some(actual)) = (&name, &taken.git)
                && promised != actual
            {
                return Err(Error::Damaged {
                    what: tree.shown(&tree::join(&folder, &file.path)),
                    reason: format!(
                        "its git id is {actual}, but its name in the cache is {promised}; download it again"
                    ),
                });
            }
            files.push(tree::model_file(file.path, file.size, taken)?);
        }
        let snapshot = Snapshot {
            id: self.id.clone(),
            commit: commit.clone(),
            revision: revision.to_owned(),
            files,
        };
        snapshot.put(store)?;
        Ok(snapshot)
    }

    fn snapshots(&self, tree: &dyn Tree) -> Result<Vec<Commit>> {
        let entries = tree.list(&tree::join(&self.folder, "snapshots"))?.unwrap_or_default();
        Ok(entries
            .into_iter()
            .filter(|entry| entry.kind == EntryKind::Folder)
            .filter_map(|entry| entry.name.parse().ok())
            .collect())
    }

    /// Lists all refs, sorted by name; a name may contain slashes (`refs/pr/1`).
    fn refs(&self, tree: &dyn Tree) -> Result<Vec<(String, Commit)>> {
        let folder = tree::join(&self.folder, "refs");
        let mut refs = Vec::new();
        for file in tree::files(tree, &folder, |_| true)? {
            let text = tree.document(&tree::join(&folder, &file.path), MAX_REF)?;
            let text = String::from_utf8_lossy(&text.unwrap_or_default()).trim().to_owned();
            if let Ok(commit) = text.parse() {
                refs.push((file.path, commit));
            }
        }
        Ok(refs)
    }
}

/// What the name of a blob says about its content. It is the file's `ETag`: the sha256 of an LFS
/// file, the git id of another one.
enum Name {
    Lfs(Digest),
    Git(GitId),
    /// Not a link to a blob.
    None,
}

impl Name {
    fn of(real_path: &str) -> Self {
        let mut segments = real_path.rsplit('/');
        let (Some(name), Some("blobs")) = (segments.next(), segments.next()) else {
            return Self::None;
        };
        match (Digest::from_hex(name), name.parse()) {
            (Ok(digest), _) => Self::Lfs(digest),
            (_, Ok(git)) => Self::Git(git),
            _ => Self::None,
        }
    }
}
