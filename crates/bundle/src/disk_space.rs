//! Free disk space: how much a folder has, and reserving it before it is used.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::Error;

/// The bytes that an ordinary user may still write in the file system of `path`.
pub(crate) fn free_space(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Reserves space for the whole file at once, so that the file is contiguous on a disk and a full
/// disk is noticed before anything is written. Only an optimisation: where the file system cannot
/// do it (FAT), nothing happens.
pub(crate) fn preallocate_file(file: &File, length: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(file, FallocateFlags::empty(), 0, length) {
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(errno.into()),
            _ => Ok(()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, length);
        Ok(())
    }
}

/// The error of a failed write: [`Error::NoSpace`] where the disk or a quota is full. `remaining`
/// is how many bytes are still to be written.
pub(crate) fn write_error(what: &Path, remaining: u64, cause: io::Error) -> Error {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    if matches!(cause.kind(), StorageFull | QuotaExceeded) {
        let folder = what.parent().unwrap_or(what);
        let free = free_space(folder).unwrap_or(0);
        return Error::NoSpace { path: folder.to_owned(), needed: remaining, free };
    }
    Error::Write { what: what.display().to_string(), cause }
}
