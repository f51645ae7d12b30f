//! Imports a model from a plain folder. Its files are hashed while they are copied to the store; a
//! commit id is computed from them ([`crate::model::compute_pseudo_commit`]), since a folder has
//! none.

use std::path::Path;

use store::Store;
use store::progress::Progress;
use types::ModelId;

use super::lfs::Rules;
use super::tree::{self, Folder, Hash, Tree, Wanted};
use crate::hub::Filter;
use crate::model::{self, Snapshot};
use crate::{Error, Result};

/// Limit for a `.gitattributes` file; real ones have about 2 KB.
const MAX_ATTRIBUTES: u64 = 1 << 20;

/// Imports the files of a folder as a snapshot, and writes its manifest to the store. Git's own
/// folder and the bookkeeping of `hf download --local-dir` (`.cache/huggingface`) are left out.
pub fn model_from_folder(
    path: &Path,
    id: &ModelId,
    revision: &str,
    filter: &Filter,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Snapshot> {
    let folder = Folder::open(path.to_owned())?;
    from_tree(&folder, "", id, revision, filter, store, progress)
}

/// As [`import_model_from_folder`], from any tree of files.
pub(super) fn from_tree(
    tree: &dyn Tree,
    folder: &str,
    id: &ModelId,
    revision: &str,
    filter: &Filter,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Snapshot> {
    let enter = |path: &str| path != ".git" && path != ".cache/huggingface";
    let mut found = tree::files(tree, folder, enter)?;
    let attributes = tree.document(&tree::join(folder, ".gitattributes"), MAX_ATTRIBUTES)?;
    let attributes = attributes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let rules = Rules::new(attributes.as_deref());
    found.retain(|file| filter.takes(&file.path));
    if found.is_empty() {
        return Err(Error::Model {
            id: id.to_string(),
            reason: format!(
                "there are no files for it in {}; check the path, include and exclude",
                tree.shown(folder)
            ),
        });
    }
    let wanted: Vec<Wanted> = found
        .iter()
        .map(|file| Wanted {
            path: tree::join(folder, &file.path),
            size: file.size,
            hash: if rules.is_lfs(&file.path, file.size) { Hash::Sha256 } else { Hash::Git },
        })
        .collect();
    let taken = tree.take(&wanted, store, progress)?;
    let files = found
        .into_iter()
        .zip(taken)
        .map(|(file, taken)| tree::model_file(file.path, file.size, taken))
        .collect::<Result<Vec<_>>>()?;
    let commit = model::pseudo_commit(&files)?;
    let snapshot = Snapshot { id: id.clone(), commit, revision: revision.to_owned(), files };
    snapshot.put(store)?;
    Ok(snapshot)
}
