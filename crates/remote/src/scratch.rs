//! Temporary folders for helm. Only the current user can read them, and none is left behind, even
//! when Gantry is interrupted by a signal while helm runs: the signal handler of the command line
//! ends the process without running destructors, so all live folders are listed here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::{Error, Result};

/// All folders that exist now.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A temporary folder that is removed when this value is dropped.
#[derive(Debug)]
pub struct ScratchFolder(TempDir);

impl ScratchFolder {
    /// Creates a folder whose name begins with `prefix`, with mode 0700: values files contain
    /// passwords, so no other user may read them.
    pub fn new(prefix: &str) -> Result<Self> {
        let unwritten =
            |cause| Error::Write { what: std::env::temp_dir().display().to_string(), cause };
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(unwritten)?;
        with_live_folders(|all| all.insert(folder.path().to_owned()));
        Ok(Self(folder))
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        with_live_folders(|all| all.remove(self.0.path()));
    }
}

/// Removes all live folders, for a process that ends without dropping them (on a signal).
pub fn remove_scratch_folders() {
    // A helm that still runs may create files in a folder that is being removed; that makes
    // `remove_dir_all` fail with "directory not empty".
    const TRIES: usize = 3;
    for folder in with_live_folders(std::mem::take) {
        let _ = (0..TRIES).find(|_| fs::remove_dir_all(&folder).is_ok());
    }
}

fn with_live_folders<T>(change: impl FnOnce(&mut BTreeSet<PathBuf>) -> T) -> T {
    change(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_its_user_s_alone_and_goes_when_it_is_dropped() {
        let scratch = ScratchFolder::new("gantry-test-").unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);

        drop(scratch);

        assert!(!path.exists());
        assert!(!LIVE.lock().unwrap().contains(&path));
    }
}
