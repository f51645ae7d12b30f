//! Temporary folders for helm. Only the current user can read them, and none is left behind, even
//! when Gantry is interrupted by a signal while helm runs: the signal handler of the command line
//! ends the process without running destructors, so all live folders are listed here. What a killed
//! process left (`kill -9`) is removed by the next one: a folder's owner holds a lock on a file in it
//! as long as it lives.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Error, Result};

/// All folders that exist now.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// How the names of all folders begin.
const PREFIX: &str = "gantry-";
/// The file in each folder that its process holds a lock on.
const LOCK: &str = ".gantry-scratch";
/// A younger folder may be one that another process is just making: its lock comes a moment later.
const YOUNGEST: Duration = Duration::from_secs(10);
/// Abandoned folders are removed once in a process.
static SWEEP: Once = Once::new();

/// A temporary folder that is removed when this value is dropped.
#[derive(Debug)]
pub struct ScratchFolder {
    folder: TempDir,
    /// Open as long as the folder is used; the kernel gives the lock up with the process.
    _lock: File,
}

impl ScratchFolder {
    /// Creates a folder whose name begins with `prefix` (`gantry-…-`), with mode 0700: values files
    /// contain passwords, so no other user may read them.
    pub fn new(prefix: &str) -> Result<Self> {
        let unwritten =
            |cause| Error::Write { what: std::env::temp_dir().display().to_string(), cause };
        SWEEP.call_once(|| remove_abandoned_folders(&std::env::temp_dir(), YOUNGEST));
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(unwritten)?;
        let lock = File::create_new(folder.path().join(LOCK)).map_err(unwritten)?;
        // Nobody else knows the file yet. Where a file system has no locks, its folders are never
        // taken for abandoned either.
        let _ = lock.try_lock();
        with_live_folders(|all| all.insert(folder.path().to_owned()));
        Ok(Self { folder, _lock: lock })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        with_live_folders(|all| all.remove(self.folder.path()));
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

/// Removes the folders of this user in `parent` whose processes were killed.
fn remove_abandoned_folders(parent: &Path, youngest: Duration) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            // Not following links: this is the entry's own metadata.
            && entry.metadata().is_ok_and(|metadata| {
                let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
                metadata.is_dir()
                    && metadata.uid() == user
                    && age.is_some_and(|age| age >= youngest)
            });
        let lock = if is_ours { File::open(entry.path().join(LOCK)).ok() } else { None };
        if lock.is_some_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
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

    #[test]
    fn only_what_a_killed_process_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            File::create(path.join(LOCK)).unwrap();
            path
        };
        let (dead, foreign) = (folder("gantry-helm-a"), folder("other-a"));
        let (young, used) = (folder("gantry-helm-b"), folder("gantry-helm-c"));
        let no_lock = parent.path().join("gantry-helm-d");
        fs::create_dir(&no_lock).unwrap();
        let lock = File::open(used.join(LOCK)).unwrap();
        lock.try_lock().unwrap();

        remove_abandoned_folders(parent.path(), YOUNGEST);
        assert!(dead.exists() && young.exists());
        fs::remove_dir_all(&young).unwrap();
        remove_abandoned_folders(parent.path(), Duration::ZERO);

        assert!(!dead.exists());
        assert!(foreign.exists() && used.exists() && no_lock.exists());
    }
}
