//! How much room the disk has, asked before the first byte and told when it is used up.

use std::io;
use std::path::Path;

use crate::{Error, Result};

/// Bytes that an ordinary user may still write in the file system of `path`.
pub(crate) fn free(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| Error::Read { what: path.display().to_string(), cause: errno.into() })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Fails with [`Error::NoSpace`] unless `bytes` fit.
pub fn need(path: &Path, bytes: u64) -> Result<()> {
    let free = free(path)?;
    if bytes > free {
        return Err(Error::NoSpace { path: path.to_owned(), needed: bytes, free });
    }
    Ok(())
}

/// The error of a failed write: [`Error::NoSpace`] where disk or quota are full. `folder` is the
/// store, `remaining` what was still to be written.
pub fn write_error(what: &Path, folder: &Path, remaining: u64, cause: io::Error) -> Error {
    // By kind, not by code: tempfile wraps the system's error, which keeps only its kind.
    if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let free = free(folder).unwrap_or(0);
        return Error::NoSpace { path: folder.to_owned(), needed: remaining, free };
    }
    Error::Write { what: what.display().to_string(), cause }
}
