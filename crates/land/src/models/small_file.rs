//! Writes small files of a folder of models: records, and what points at a model.

use std::io::Write;
use std::path::Path;

use store::confined::ConfinedFolder;

use super::error::{Result, disk_error};
use super::record::OWN;

/// Writes a small file: readers see the old content or the new, never a part.
pub(super) fn put_small_file(root: &ConfinedFolder, path: &Path, bytes: &[u8]) -> Result<()> {
    create_parent_folder(root, path)?;
    let part = Path::new(OWN).join("parts").join("small");
    let shown = root.path().join(&part);
    let mut file = root.open_writable_file(&part).map_err(disk_error(&shown))?;
    // A killed run may have left a longer one.
    file.set_len(0).and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all()).map_err(
        |cause| store::space::write_error(&shown, root.path(), bytes.len() as u64, cause),
    )?;
    root.rename(&part, path).map_err(disk_error(&root.path().join(path)))
}

pub(super) fn create_parent_folder(root: &ConfinedFolder, file: &Path) -> Result<()> {
    match file.parent() {
        Some(folder) => root.create_folders(folder).map_err(disk_error(&root.path().join(folder))),
        None => Ok(()),
    }
}
