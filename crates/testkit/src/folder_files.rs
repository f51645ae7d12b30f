//! What is below a folder.

use std::path::{Path, PathBuf};

/// The paths of all files and links below a folder, seen from it, sorted.
pub(crate) fn list_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in next.read_dir().expect("a folder can be read").filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    let mut files: Vec<PathBuf> = found
        .into_iter()
        .filter_map(|file| file.strip_prefix(folder).map(Path::to_path_buf).ok())
        .collect();
    files.sort();
    files
}
