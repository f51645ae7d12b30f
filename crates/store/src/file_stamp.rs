//! The state of a file on a disk, by which a later look tells whether it may have been changed.

use std::fs::Metadata;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The coarsest clock of a file system that media have: FAT keeps times in steps of two seconds. Two
/// writes within one step leave the same times.
const COARSEST_STEP: Duration = Duration::from_secs(3);

/// What the system says about a file: which one it is, its length, and when its content and its inode
/// were last changed. A file with the same stamp has the same content, provided that the stamp was
/// settled ([`Self::is_settled`]) when the content was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
    /// The time of the last change of the inode, in nanoseconds since 1970. Unlike `modified`, no
    /// program can set it.
    changed: i128,
}

/// One of the files that hold a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFile {
    /// Its path.
    pub path: PathBuf,
    /// Its state.
    pub stamp: FileStamp,
}

impl FileStamp {
    /// The stamp of a file by its metadata, which belong to the opened file or to a path.
    #[cfg(unix)]
    pub fn from_metadata(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: metadata.modified().ok(),
            changed: i128::from(metadata.ctime()) * 1_000_000_000
                + i128::from(metadata.ctime_nsec()),
        }
    }

    /// The stamp of a file by its metadata. This system has neither inodes nor their times.
    #[cfg(not(unix))]
    pub fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            device: 0,
            inode: 0,
            size: metadata.len(),
            modified: metadata.modified().ok(),
            changed: 0,
        }
    }

    /// The length of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether both stamps are of one file, changed or not.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether any write from `now` on gives the file another stamp. A file that was written just before
    /// can be written again within the same step of the file system's clock.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let since_epoch = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX))
        };
        // Times in the future, by a wrong clock or time zone, are as good: a write sets the time of now.
        let is_apart =
            |time: i128| (since_epoch(now) - time).unsigned_abs() > COARSEST_STEP.as_nanos();
        is_apart(self.changed) && self.modified.is_none_or(|time| is_apart(since_epoch(time)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_stamp_differs_after_a_write_and_is_settled_only_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        let stamp = || FileStamp::from_metadata(&std::fs::metadata(&path).unwrap());
        std::fs::write(&path, "one").unwrap();
        let first = stamp();
        assert_eq!(first, stamp());
        let now = SystemTime::now();
        assert!(!first.is_settled(now));
        assert!(first.is_settled(now + Duration::from_secs(10)));
        assert!(first.is_settled(now - Duration::from_secs(10)));

        std::fs::write(&path, "longer").unwrap();
        assert_ne!(first, stamp());
        assert!(first.is_same_file(&stamp()));
    }
}
