//! Temporary folders for helm: only this user reads them, and none is left behind, also when the
//! process is told to stop while helm is at work.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::{Error, Result};

/// The folders that are there now.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A temporary folder that goes when this is dropped.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// A new folder whose name begins so. Values have passwords in them and charts may be cached,
    /// so nobody else may look inside.
    pub fn new(prefix: &str) -> Result<Self> {
        let unwritten =
            |cause| Error::Write { what: std::env::temp_dir().display().to_string(), cause };
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(unwritten)?;
        live(|all| all.insert(folder.path().to_owned()));
        Ok(Self(folder))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        live(|all| all.remove(self.0.path()));
    }
}

/// Removes all folders that are there, for a process that ends without dropping them.
pub fn remove_all() {
    // A helm that is still running may put something into a folder that is just being removed.
    const TRIES: usize = 3;
    for folder in live(std::mem::take) {
        let _ = (0..TRIES).find(|_| fs::remove_dir_all(&folder).is_ok());
    }
}

fn live<T>(change: impl FnOnce(&mut BTreeSet<PathBuf>) -> T) -> T {
    change(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_its_user_s_alone_and_goes_when_it_is_dropped() {
        let scratch = Scratch::new("gantry-test-").unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);

        drop(scratch);

        assert!(!path.exists());
        assert!(!LIVE.lock().unwrap().contains(&path));
    }
}
