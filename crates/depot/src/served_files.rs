//! The plain files of a depot by their names, for the endpoint of files.

use std::collections::BTreeMap;

use types::carried_file::CarriedFile;
use types::{Manifest, Root};

/// The files of a depot, by their names.
#[derive(Default)]
pub(crate) struct ServedFiles(BTreeMap<String, Vec<CarriedFile>>);

impl ServedFiles {
    /// Adds the root if it is a file.
    pub(crate) fn add_root(&mut self, root: &Root, manifest: &Manifest) {
        let Some(file) = CarriedFile::from_root(root, manifest) else { return };
        let same_name = self.0.entry(file.title.clone()).or_default();
        if !same_name.contains(&file) {
            same_name.push(file);
        }
    }

    /// All files, sorted by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CarriedFile> {
        self.0.values().flatten()
    }

    /// The files of this name.
    pub(crate) fn list_named(&self, name: &str) -> &[CarriedFile] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}
