//! Reflinks: sharing a file's blocks instead of copying them, where the file system can.
//!
//! The only module of this crate that calls one operating system directly.

use std::fs::File;
use std::io;

/// Makes `target`, which is empty, a clone of `source` (ioctl FICLONE). Fails and changes nothing
/// where the two are not on one file system with reflinks (btrfs, xfs, bcachefs); then the caller
/// copies.
#[cfg(target_os = "linux")]
pub(crate) fn clone_file(source: &File, target: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(target, source)?)
}

/// macOS clones a file to a new name only (fclonefileat(2)); the caller copies.
#[cfg(not(target_os = "linux"))]
pub(crate) fn clone_file(_: &File, _: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
