//! Locks between threads and between processes.
//!
//! Three kinds of locks, all flock(2) on files under `gantry/`, so the system frees them when a
//! process is killed:
//! - `gantry/lock`, shared: a [`StoreSession`]. While one lives, content that no root names yet is
//!   safe. Exclusive: the garbage collection.
//! - `gantry/index.lock`, exclusive: one change of `index.json`.
//! - each partial, exclusive: its one writer (`writer.rs`).
//!
//! Code that takes several takes them in this order, so that no two processes wait for each other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{Error, Result};

/// While a session lives, in any process, no garbage is collected. Everything that writes holds one;
/// a program that first writes blobs and publishes them later holds one over both.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreSession {
    /// `None` on read-only media, where no process can collect garbage.
    _lock: Option<Arc<File>>,
}

/// The lock that all sessions of one open store share; freed with the last of them.
#[derive(Debug, Default)]
pub(crate) struct SharedSession(Mutex<Weak<File>>);

impl SharedSession {
    pub(crate) fn is_held(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).strong_count() > 0
    }

    pub(crate) fn open_session(&self, path: &Path) -> Result<StoreSession> {
        // One open file for all sessions, so that `is_held` knows of all of them: garbage collection
        // would wait for ever for a session of its own process.
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = current.upgrade() {
            return Ok(StoreSession { _lock: Some(lock) });
        }
        let file = match open_lock_file(path) {
            Ok(file) => file,
            Err(error) if is_read_only(&error) => return Ok(StoreSession { _lock: None }),
            Err(cause) => return Err(lock_file_error(path, cause)),
        };
        file.lock_shared().map_err(|cause| lock_file_error(path, cause))?;
        let lock = Arc::new(file);
        *current = Arc::downgrade(&lock);
        Ok(StoreSession { _lock: Some(lock) })
    }
}

/// An exclusive lock; freed when dropped.
#[derive(Debug)]
pub(crate) struct ExclusiveLock {
    _file: File,
}

impl ExclusiveLock {
    /// Waits until the lock is free; `waiting` is called once when it is not free at once.
    pub(crate) fn acquire_lock(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        let file = open_lock_file(path).map_err(|cause| lock_file_error(path, cause))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(|cause| lock_file_error(path, cause))?;
            }
            Err(TryLockError::Error(cause)) => return Err(lock_file_error(path, cause)),
        }
        Ok(Self { _file: file })
    }
}

/// Opens a lock file. It is never removed: a process that locks a removed file would lock alone.
fn open_lock_file(path: &Path) -> io::Result<File> {
    // The folder exists nearly always, so it is created only when opening fails.
    let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
    match options().open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            options().open(path)
        }
        result => result,
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn lock_file_error(path: &Path, cause: io::Error) -> Error {
    Error::Write { what: path.display().to_string(), cause }
}
