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
use types::{CommitId, Digest, GitId, ModelId};

use super::lfs::LfsRules;
use super::tree::{self, DiskFolder, FileImport, FileTree, FolderEntryKind, RequiredHash};
use crate::hub::ModelFileFilter;
use crate::model::LockedSnapshot;
use crate::{Error, Result};

/// Limit for a ref file. It has 40 hex digits, and a newline if it was written by hand.
const MAX_REF: u64 = 64;
/// Limit for a `.gitattributes` file; real ones have about 2 KB.
const MAX_ATTRIBUTES: u64 = 1 << 20;
/// Beginning of the name of a model's folder.
const PREFIX: &str = "models--";

/// Imports a model from a cache. `path` is the folder that contains `models--…`, its parent
/// (`HF_HOME`), or the model's own folder. `revision` is a branch, a tag or a commit.
pub fn import_model_from_cache(
    path: &Path,
    id: &ModelId,
    revision: &str,
    filter: &ModelFileFilter,
    store: &Store,
    progress: &dyn Progress,
) -> Result<LockedSnapshot> {
    let folder = DiskFolder::open(path.to_owned())?;
    let models = find_cached_models(&folder, "")?;
    let Some(cached) = models.iter().find(|model| model.id == *id) else {
        let there: Vec<String> = models.iter().map(|model| model.id.to_string()).collect();
        return Err(Error::not_found_among(format!("model {id} in {}", path.display()), &there));
    };
    let commit = cached.resolve_commit(&folder, revision)?;
    cached.import_snapshot(&folder, revision, &commit, filter, store, progress)
}

/// A model in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CachedModel {
    pub(super) id: ModelId,
    folder: String,
}

/// Finds all models of the cache at `folder`, sorted by id; empty when it is not a cache.
pub(super) fn find_cached_models(tree: &dyn FileTree, folder: &str) -> Result<Vec<CachedModel>> {
    // `folder` may be the model's own folder; through a link its real name counts.
    let last = tree.real_path(folder).unwrap_or_default();
    let last = last.rsplit('/').next().unwrap_or_default();
    if let Some(id) = parse_folder_name(last)
        && tree.list_folder(&tree::join_paths(folder, "snapshots"))?.is_some()
    {
        return Ok(vec![CachedModel { id, folder: folder.to_owned() }]);
    }
    let mut found = Vec::new();
    for place in [folder.to_owned(), tree::join_paths(folder, "hub")] {
        for entry in tree.list_folder(&place)?.unwrap_or_default() {
            let path = tree::join_paths(&place, &entry.name);
            if entry.kind == FolderEntryKind::Folder
                && let Some(id) = parse_folder_name(&entry.name)
                && tree.list_folder(&tree::join_paths(&path, "snapshots"))?.is_some()
            {
                found.push(CachedModel { id, folder: path });
            }
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// Parses a folder's name: `models--org--name` means `org/name`. The Hub allows no `--` in an id,
/// so this is unambiguous.
fn parse_folder_name(name: &str) -> Option<ModelId> {
    name.strip_prefix(PREFIX)?.replace("--", "/").parse().ok()
}

impl CachedModel {
    /// Resolves a branch, tag or commit to a commit of which the cache has a snapshot.
    pub(super) fn resolve_commit(&self, tree: &dyn FileTree, revision: &str) -> Result<CommitId> {
        let snapshots = self.list_snapshots(tree)?;
        if let Ok(commit) = revision.parse::<CommitId>()
            && snapshots.contains(&commit)
        {
            return Ok(commit);
        }
        let refs = self.list_refs(tree)?;
        if let Some((_, commit)) = refs.iter().find(|(name, _)| name == revision) {
            if snapshots.contains(commit) {
                return Ok(commit.clone());
            }
            return Err(Error::Damaged {
                what: tree.describe_path(&self.folder),
                reason: format!(
                    "{revision} points to commit {commit}, whose snapshot is missing; download it again"
                ).into(),
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
        let what =
            format!("revision {revision:?} of {} in {}", self.id, tree.describe_path(&self.folder));
        Err(Error::not_found_among(what, &there))
    }

    /// Lists all snapshots, each with the name of a ref that points to it, or else its commit.
    pub(super) fn list_revisions(&self, tree: &dyn FileTree) -> Result<Vec<(String, CommitId)>> {
        let refs = self.list_refs(tree)?;
        let mut revisions = Vec::new();
        for commit in self.list_snapshots(tree)? {
            let named = |name: &&(String, CommitId)| name.1 == commit;
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
    pub(super) fn import_snapshot(
        &self,
        tree: &dyn FileTree,
        revision: &str,
        commit: &CommitId,
        filter: &ModelFileFilter,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<LockedSnapshot> {
        let folder = tree::join_paths(&self.folder, &format!("snapshots/{commit}"));
        let attributes =
            tree.read_document(&tree::join_paths(&folder, ".gitattributes"), MAX_ATTRIBUTES)?;
        let attributes = attributes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let rules = LfsRules::new(attributes.as_deref());
        let mut found = tree::list_files(tree, &folder, |_| true)?;
        found.retain(|file| filter.accepts(&file.path));
        let mut wanted = Vec::with_capacity(found.len());
        let mut names = Vec::with_capacity(found.len());
        for file in &found {
            let path = tree::join_paths(&folder, &file.path);
            let name = CacheBlobName::from_path(&tree.real_path(&path)?);
            // A copy without links has no names of blobs: the rules of LFS decide, as for a folder.
            let hash = match &name {
                CacheBlobName::Lfs(digest) => RequiredHash::Known(*digest),
                CacheBlobName::None if rules.is_lfs(&file.path, file.size) => RequiredHash::Sha256,
                CacheBlobName::Git(_) | CacheBlobName::None => RequiredHash::Git,
            };
            wanted.push(FileImport { path, size: file.size, hash });
            names.push(name);
        }
        let taken = tree.import_files(&wanted, store, progress)?;
        let mut files = Vec::with_capacity(found.len());
        for ((file, name), taken) in found.into_iter().zip(names).zip(taken) {
            if let (CacheBlobName::Git(promised), Some(actual)) = (&name, &taken.git)
                && promised != actual
            {
                return Err(Error::Damaged {
                    what: tree.describe_path(&tree::join_paths(&folder, &file.path)),
                    reason: format!(
                        "its git id is {actual}, but its name in the cache is {promised}; download it again"
                    ).into(),
                });
            }
            files.push(tree::to_model_file(file.path, file.size, taken)?);
        }
        let snapshot = LockedSnapshot {
            id: self.id.clone(),
            commit: commit.clone(),
            revision: revision.to_owned(),
            files,
        };
        snapshot.write_to_store(store)?;
        Ok(snapshot)
    }

    fn list_snapshots(&self, tree: &dyn FileTree) -> Result<Vec<CommitId>> {
        let entries =
            tree.list_folder(&tree::join_paths(&self.folder, "snapshots"))?.unwrap_or_default();
        Ok(entries
            .into_iter()
            .filter(|entry| entry.kind == FolderEntryKind::Folder)
            .filter_map(|entry| entry.name.parse().ok())
            .collect())
    }

    /// Lists all refs, sorted by name; a name may contain slashes (`refs/pr/1`).
    fn list_refs(&self, tree: &dyn FileTree) -> Result<Vec<(String, CommitId)>> {
        let folder = tree::join_paths(&self.folder, "refs");
        let mut refs = Vec::new();
        for file in tree::list_files(tree, &folder, |_| true)? {
            let text = tree.read_document(&tree::join_paths(&folder, &file.path), MAX_REF)?;
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
enum CacheBlobName {
    Lfs(Digest),
    Git(GitId),
    /// Not a link to a blob.
    None,
}

impl CacheBlobName {
    fn from_path(real_path: &str) -> Self {
        let mut segments = real_path.rsplit('/');
        let (Some(name), Some("blobs")) = (segments.next(), segments.next()) else {
            return Self::None;
        };
        match (Digest::from_sha256_hex(name), name.parse()) {
            (Ok(digest), _) => Self::Lfs(digest),
            (_, Ok(git)) => Self::Git(git),
            _ => Self::None,
        }
    }
}
