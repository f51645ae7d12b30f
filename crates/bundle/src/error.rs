//! What can go wrong with bundle files. Every message names the file, the cause and the next step.

use std::io;
use std::path::PathBuf;

use types::{ByteSize, Cause, Digest};

/// An error of writing or reading a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read as a bundle file, and why.
    #[error("{} {fault}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        fault: BundleFileFault,
    },
    /// Some files of the bundle were not given.
    #[error(
        "bundle {name} has {count} files, and {} missing: {}; give all files of the bundle",
        format_missing_count(numbers),
        format_file_names(name, numbers)
    )]
    Missing {
        /// The bundle's name and version, as in file names.
        name: String,
        /// How many files it has.
        count: u32,
        /// The numbers of those that are missing.
        numbers: Vec<u32>,
    },
    /// A file of another bundle was given with the others.
    #[error("{} belongs to another bundle (id {}) than {} (id {}); give files of one bundle only", path.display(), short_id(*id), other.display(), short_id(*expected))]
    OtherBundle {
        /// The file.
        path: PathBuf,
        /// The id of its bundle.
        id: crate::BundleId,
        /// The file that it was compared with.
        other: PathBuf,
        /// The id of that file's bundle.
        expected: crate::BundleId,
    },
    /// Two of the given files have the same number.
    #[error("{} and {} are both file {number} of the bundle; give each file once", path.display(), other.display())]
    Duplicate {
        /// One of the two files.
        path: PathBuf,
        /// The other one.
        other: PathBuf,
        /// Their number.
        number: u32,
    },
    /// No file was given.
    #[error("no bundle file was given; name the .gantry files of a bundle")]
    NoFiles,
    /// A document in a bundle file, or the manifest next to it, is not valid.
    #[error("{}: {document} {reason}; the file was not written completely or was changed, copy it again or pack the bundle again", path.display())]
    Document {
        /// The bundle file, or the manifest next to it.
        path: PathBuf,
        /// The document's name.
        document: String,
        /// What is wrong with it.
        #[source]
        reason: Cause,
    },
    /// Bytes of a bundle file are not those that were packed.
    #[error("{}: {entry} is damaged; copy the file again from an undamaged copy", path.display())]
    Damaged {
        /// The bundle file.
        path: PathBuf,
        /// The entry's name in the tar archive.
        entry: String,
    },
    /// The bundle's name or version cannot be part of a file name.
    #[error("{text:?} cannot be part of a file name: {reason}")]
    Name {
        /// The name or version.
        text: String,
        /// Why not.
        reason: &'static str,
    },
    /// What must be together in one bundle file does not fit into the requested size.
    #[error("a bundle file of {} is too small for {what}: it needs at least {}; choose a larger --file-size", ByteSize(*size), ByteSize(*needed))]
    FileTooSmall {
        /// The size that was asked for.
        size: u64,
        /// What does not fit.
        what: &'static str,
        /// The least size that would do.
        needed: u64,
    },
    /// The bundle would have more files than the four digits in file names can count.
    #[error("the bundle would have more than {most} files of {}; choose a larger --file-size", ByteSize(*size))]
    TooManyFiles {
        /// The size that was asked for.
        size: u64,
        /// The limit.
        most: u32,
    },
    /// The bundle is to be written to a stream, and the plan has several files.
    #[error(
        "the bundle has {count} files, and standard output takes only one; leave out --file-size"
    )]
    NotOneFile {
        /// How many files the plan has.
        count: usize,
    },
    /// A blob of the source does not have the bytes that its digest promises.
    #[error(
        "{digest} is damaged in the store: its content has the digest {actual}; run `gantry store verify`, then `gantry fetch`, then pack again"
    )]
    BlobDamaged {
        /// The blob.
        digest: Digest,
        /// The digest of the bytes that were read.
        actual: Digest,
    },
    /// Another process packs into the same folder.
    #[error("another `gantry pack` is writing to {}; wait for it or choose another folder", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The disk does not have enough free space.
    #[error("not enough space in {}: {} more are needed, {} are free; free some space and run the same command again, finished files are kept", path.display(), ByteSize(*needed), ByteSize(*free))]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes that are still needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Several folders together do not have room for all files.
    #[error("not enough space in {}: {count} bundle files ({}), from {first} on, have no room; give one more folder or free some space, and run the same command again, finished files are kept", format_folders(folders), ByteSize(*needed))]
    FoldersFull {
        /// The folders.
        folders: Vec<PathBuf>,
        /// The name of the first file that has no room.
        first: String,
        /// The number of files without room.
        count: usize,
        /// Their length together, in bytes.
        needed: u64,
    },
    /// Reading from the source failed.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// Reading failed.
    #[error("cannot read {what}: {cause}")]
    Read {
        /// The path.
        what: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {what}: {cause}")]
    Write {
        /// The path.
        what: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
}

/// Why a file cannot be read as a bundle file. Displays as the predicate of a sentence about the
/// file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleFileFault {
    /// It is some other kind of file.
    #[error("is not a Gantry bundle file; give files whose names end in .gantry")]
    NotABundleFile,
    /// The file is shorter than it was when it was packed.
    #[error("is cut off: it has {actual} of {expected} bytes; copy it again")]
    Cut {
        /// The file's length in bytes.
        actual: u64,
        /// The length that it was packed with.
        expected: u64,
    },
    /// The file is longer than it was when it was packed.
    #[error("has {actual} bytes, {} more than it was packed with; copy it again", actual - expected)]
    Longer {
        /// The file's length in bytes.
        actual: u64,
        /// The length that it was packed with.
        expected: u64,
    },
    /// There is no end record where it should be.
    #[error("has no end record: it was not written or copied completely; copy it again")]
    NoEnd,
    /// The end record's bytes do not match its hash.
    #[error("has a damaged end record; copy it again")]
    EndDamaged,
    /// The index does not match the hash in the end record.
    #[error("has a damaged index; copy it again")]
    IndexDamaged,
    /// The index is undamaged but does not describe a bundle file: its writer was faulty or
    /// hostile.
    #[error("has an invalid index: {reason}; get the bundle from its source again")]
    IndexWrong {
        /// What is wrong.
        reason: String,
    },
    /// A newer Gantry wrote it, with something that this version cannot read.
    #[error("needs {what}, which gantry {} cannot read; use a newer gantry", env!("CARGO_PKG_VERSION"))]
    Newer {
        /// The feature.
        what: String,
    },
    /// Reading failed.
    #[error("cannot be read: {reason}")]
    Unreadable {
        /// The system's reason.
        #[source]
        reason: Cause,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl BundleFileFault {
    /// Makes the fault an error of the file at `path`.
    pub(crate) fn into_error(self, path: &std::path::Path) -> Error {
        Error::InvalidFile { path: path.to_owned(), fault: self }
    }
}

fn format_folders(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn format_missing_count(numbers: &[u32]) -> String {
    match numbers.len() {
        1 => "1 is".into(),
        more => format!("{more} are"),
    }
}

/// The names of the bundle files with these numbers: the first few, then how many more there are.
fn format_file_names(name: &str, numbers: &[u32]) -> String {
    const SHOWN: usize = 10;
    let names: Vec<String> = numbers
        .iter()
        .take(SHOWN)
        .map(|number| crate::file_name::numbered_file_name(name, *number))
        .collect();
    let rest = numbers.len().saturating_sub(SHOWN);
    if rest == 0 { names.join(", ") } else { format!("{} and {rest} more", names.join(", ")) }
}

fn short_id(id: crate::BundleId) -> String {
    id.to_string().chars().take(12).collect()
}
