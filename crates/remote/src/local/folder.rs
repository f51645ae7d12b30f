//! Imports a model from a plain folder. Its files are hashed while they are copied to the store; a
//! commit id is computed from them ([`crate::look_up_model::compute_pseudo_commit`]), since a folder has
//! none.

use std::path::Path;

use store::Store;
use store::progress::Progress;
use types::ModelId;

use super::lfs::LfsRules;
use super::tree::{self, DiskFolder, FileImport, FileTree, RequiredHash};
use crate::hub::ModelFileFilter;
use crate::model::{self, LockedSnapshot};
use crate::{Error, Result};

/// Limit for a `.gitattributes` file; real ones have about 2 KB.
const MAX_ATTRIBUTES: u64 = 1 << 20;

/// Imports the files of a folder as a snapshot, and writes its manifest to the store. Git's own
/// folder and the bookkeeping of `hf download --local-dir` (`.cache/huggingface`) are left out.
pub fn import_model_from_folder(
    path: &Path,
    id: &ModelId,
    revision: &str,
    filter: &ModelFileFilter,
    store: &Store,
    progress: &dyn Progress,
) -> Result<LockedSnapshot> {
    let folder = DiskFolder::open(path.to_owned())?;
    import_model_from_tree(&folder, "", id, revision, filter, store, progress)
}

/// As [`import_model_from_folder`], from any tree of files.
pub(super) fn import_model_from_tree(
    tree: &dyn FileTree,
    folder: &str,
    id: &ModelId,
    revision: &str,
    filter: &ModelFileFilter,
    store: &Store,
    progress: &dyn Progress,
) -> Result<LockedSnapshot> {
    let enter = |path: &str| path != ".git" && path != ".cache/huggingface";
    let mut found = tree::list_files(tree, folder, enter)?;
    let attributes =
        tree.read_document(&tree::join_paths(folder, ".gitattributes"), MAX_ATTRIBUTES)?;
    let attributes = attributes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let rules = LfsRules::new(attributes.as_deref());
    found.retain(|file| filter.accepts(&file.path));
    if found.is_empty() {
        return Err(Error::Model {
            id: id.to_string(),
            reason: format!(
                "there are no files for it in {}; check the path, include and exclude",
                tree.describe_path(folder)
            ),
        });
    }
    let wanted: Vec<FileImport> = found
        .iter()
        .map(|file| FileImport {
            path: tree::join_paths(folder, &file.path),
            size: file.size,
            hash: if rules.is_lfs(&file.path, file.size) {
                RequiredHash::Sha256
            } else {
                RequiredHash::Git
            },
        })
        .collect();
    let taken = tree.import_files(&wanted, store, progress)?;
    let files = found
        .into_iter()
        .zip(taken)
        .map(|(file, taken)| tree::to_model_file(file.path, file.size, taken))
        .collect::<Result<Vec<_>>>()?;
    let commit = model::compute_pseudo_commit(&files)?;
    let snapshot = LockedSnapshot { id: id.clone(), commit, revision: revision.to_owned(), files };
    snapshot.write_to_store(store)?;
    Ok(snapshot)
}
