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

use std::fs::{File, TryLockError};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::confined::ConfinedFolder;
use crate::{Error, Result};

/// While a session lives, in any process, no garbage is collected. Whoever writes holds one from the
/// first blob to the last root; whoever reads for long, such as `gantry pack`, one as long as that.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreSession {
    /// `None` where this process cannot lock: on read-only media, or in a layout of another tool.
    lock: Option<Arc<File>>,
}

/// What a session is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionUse {
    /// To write: the lock file is created where there is none.
    Write,
    /// To read: a layout that has no lock file is left as it is.
    Read,
}

/// The lock that all sessions of one open store share; freed with the last of them.
#[derive(Debug, Default)]
pub(crate) struct SharedSession(Mutex<SessionState>);

#[derive(Debug, Default)]
struct SessionState {
    current: Weak<File>,
    /// Held from the first write, or the begin of a long read, until the store is closed: what was
    /// written is not garbage before this process had the chance to name it, and what is read does not
    /// go away, whichever calls it makes in between.
    kept: Option<StoreSession>,
}

impl SharedSession {
    pub(crate) fn is_held(&self) -> bool {
        self.state().current.strong_count() > 0
    }

    pub(crate) fn open_session(
        &self,
        folder: &ConfinedFolder,
        file: &str,
        session_use: SessionUse,
    ) -> Result<StoreSession> {
        open_shared(&mut self.state(), folder, file, session_use)
    }

    /// As [`Self::open_session`]; the session also lives as long as the store is open.
    pub(crate) fn keep_session(
        &self,
        folder: &ConfinedFolder,
        file: &str,
        session_use: SessionUse,
    ) -> Result<StoreSession> {
        let mut state = self.state();
        // One that a read could not lock, since nobody had written yet, does not do for a write.
        let is_enough =
            |kept: &&StoreSession| kept.lock.is_some() || session_use == SessionUse::Read;
        if let Some(kept) = state.kept.as_ref().filter(is_enough) {
            return Ok(kept.clone());
        }
        let session = open_shared(&mut state, folder, file, session_use)?;
        state.kept = Some(session.clone());
        Ok(session)
    }

    /// Ends the session that [`Self::keep_session`] keeps.
    pub(crate) fn release_kept(&self) {
        self.state().kept = None;
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_shared(
    state: &mut SessionState,
    folder: &ConfinedFolder,
    file: &str,
    session_use: SessionUse,
) -> Result<StoreSession> {
    // One open file for all sessions, so that `is_held` knows of all of them: garbage collection
    // would wait for ever for a session of its own process.
    if let Some(lock) = state.current.upgrade() {
        return Ok(StoreSession { lock: Some(lock) });
    }
    let opened = match session_use {
        SessionUse::Write => open_lock_file(folder, file),
        SessionUse::Read => folder.open_file(file),
    };
    let lock = match (opened, session_use) {
        (Ok(lock), _) => lock,
        (Err(error), _) if is_read_only(&error) => return Ok(StoreSession { lock: None }),
        (Err(error), SessionUse::Read) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(StoreSession { lock: None });
        }
        (Err(cause), _) => return Err(lock_file_error(folder, file, cause)),
    };
    lock.lock_shared().map_err(|cause| lock_file_error(folder, file, cause))?;
    let lock = Arc::new(lock);
    state.current = Arc::downgrade(&lock);
    Ok(StoreSession { lock: Some(lock) })
}

/// An exclusive lock; freed when dropped.
#[derive(Debug)]
pub(crate) struct ExclusiveLock {
    _file: File,
}

impl ExclusiveLock {
    /// Waits until the lock is free; `waiting` is called once when it is not free at once.
    pub(crate) fn acquire_lock(
        folder: &ConfinedFolder,
        file: &str,
        waiting: impl FnOnce(),
    ) -> Result<Self> {
        let failed = |cause| lock_file_error(folder, file, cause);
        let lock = open_lock_file(folder, file).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                lock.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        Ok(Self { _file: lock })
    }
}

/// Opens a lock file. It is never removed: a process that locks a removed file would lock alone.
fn open_lock_file(folder: &ConfinedFolder, file: &str) -> io::Result<File> {
    // The folder exists nearly always, so it is created only when opening fails.
    match folder.open_writable_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some((parent, _)) = file.rsplit_once('/') {
                folder.create_folders(parent)?;
            }
            folder.open_writable_file(file)
        }
        result => result,
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn lock_file_error(folder: &ConfinedFolder, file: &str, cause: io::Error) -> Error {
    Error::Write { what: folder.path().join(file).display().to_string(), cause }
}
