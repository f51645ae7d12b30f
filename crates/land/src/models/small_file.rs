//! Writes small files of a folder of models: records, and what points at a model.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::error::{Result, disk_error};
use super::record::OWN;

/// Writes a small file: readers see the old content or the new, never a part.
pub(super) fn put_small_file(root: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    create_parent_folder(path)?;
    let part = root.join(OWN).join("parts").join("small");
    let mut file = File::create(&part).map_err(disk_error(&part))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|cause| store::space::write_error(&part, root, bytes.len() as u64, cause))?;
    fs::rename(&part, path).map_err(disk_error(path))
}

pub(super) fn create_parent_folder(file: &Path) -> Result<()> {
    match file.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(disk_error(folder)),
        None => Ok(()),
    }
}
