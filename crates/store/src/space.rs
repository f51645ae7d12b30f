//! Free disk space: checked before the first byte is written, and reported when it runs out.

use std::io;
use std::path::Path;

use crate::{Error, Result};

/// Bytes that an ordinary user may still write in the file system of `path`.
pub fn free_space(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| Error::Read { what: path.display().to_string(), cause: errno.into() })?;
    // f_bavail, not f_bfree: the blocks that are reserved for root are no help to other users.
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Fails with [`Error::NoSpace`] unless `bytes` fit. Other processes may use the space afterwards, so
/// a write can still fail: see [`lock_file_error`].
pub fn ensure_free_space(path: &Path, bytes: u64) -> Result<()> {
    let free = free_space(path)?;
    if bytes > free {
        return Err(Error::NoSpace { path: path.to_owned(), needed: bytes, free });
    }
    Ok(())
}

/// The error of a failed write: [`Error::NoSpace`] where the disk or the quota is full. `folder` is
/// the store's, `remaining` the bytes that were still to be written.
pub fn write_error(what: &Path, folder: &Path, remaining: u64, cause: io::Error) -> Error {
    // By kind, not by errno: tempfile wraps the system's error and keeps only its kind.
    if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let free = free_space(folder).unwrap_or(0);
        return Error::NoSpace { path: folder.to_owned(), needed: remaining, free };
    }
    Error::Write { what: what.display().to_string(), cause }
}
