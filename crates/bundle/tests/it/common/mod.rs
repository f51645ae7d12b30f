//! A store with something of every kind in it, and a folder for bundle files.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of this")]

use std::path::{Path, PathBuf};

use gantry_bundle::{BundleContents, BundleFileSize, BundleName, PackPlan, PackReport, Recheck};
use store::Store;
use store::progress::SilentProgress;
use tempfile::TempDir;
use types::ByteSize;

/// Used as the lock: a bundle carries its bytes as they are and never parses them.
pub(crate) const LOCK: &[u8] = b"version: 1\nname: test\n";
/// The sample makes some fifty bundle files of this size.
pub(crate) const SMALL: BundleFileSize = BundleFileSize::Below(ByteSize(64 << 10));

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        testkit::store_suite::fill_with_sample(&store);
        Self { folder, store }
    }

    pub(crate) fn plan(&self, size: BundleFileSize) -> PackPlan {
        self.plan_as("test", "1.0", size)
    }

    pub(crate) fn plan_as(&self, name: &str, version: &str, size: BundleFileSize) -> PackPlan {
        let contents = BundleContents { roots: self.store.roots().unwrap(), lock: LOCK.to_vec() };
        let naming = BundleName::new(name, version).unwrap();
        gantry_bundle::plan_files(&self.store, contents, naming, size).unwrap()
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub(crate) fn pack(&self, size: BundleFileSize) -> PackReport {
        self.pack_to(size, &self.out())
    }

    pub(crate) fn pack_to(&self, size: BundleFileSize, out: &Path) -> PackReport {
        gantry_bundle::pack_to_folder(
            &self.store,
            &self.plan(size),
            out,
            Recheck::Index,
            &SilentProgress,
        )
        .unwrap()
    }

    /// All bundle files, sorted.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        volumes(&self.out())
    }
}

/// All bundle files of a folder, sorted.
pub(crate) fn volumes(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "gantry"))
        .collect();
    paths.sort();
    paths
}

/// Changes one byte of a file.
pub(crate) fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}
