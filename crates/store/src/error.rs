//! The errors of reading and writing content on a disk.

use std::io;
use std::path::PathBuf;

use types::{ByteSize, Digest, Reference};

/// An error of the store or of a [`crate::Source`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source does not have the blob.
    #[error("blob {digest} is missing")]
    BlobMissing {
        /// The blob.
        digest: Digest,
    },
    /// The range reaches beyond the blob's end.
    #[error("bytes {start}..{end} are outside of blob {digest}, which has {size} bytes")]
    Range {
        /// The blob.
        digest: Digest,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
        /// The blob's length.
        size: u64,
    },
    /// A document is too large to be read into memory.
    #[error("{digest} has {size} bytes; a document of its kind may have at most {most}")]
    TooLarge {
        /// The document.
        digest: Digest,
        /// Its length.
        size: u64,
        /// The limit.
        most: u64,
    },
    /// The received bytes have another digest than expected.
    #[error("digest mismatch: expected {digest}, received {actual}; the bytes were discarded")]
    DigestMismatch {
        /// The expected digest.
        digest: Digest,
        /// The digest of the received bytes.
        actual: Digest,
    },
    /// More or fewer bytes were received than expected.
    #[error("size mismatch of {digest}: expected {expected} bytes, received {actual}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The expected length in bytes.
        expected: u64,
        /// The received length in bytes.
        actual: u64,
    },
    /// A file on a medium lacks its end.
    #[error(
        "{} was cut off: {} are there, the last {} of {} are missing; copy the file again",
        path.display(), ByteSize(*actual), ByteSize(expected.saturating_sub(*actual)), ByteSize(*expected)
    )]
    FileCut {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        actual: u64,
        /// The length in bytes that it should have.
        expected: u64,
    },
    /// A file was replaced by another one while it was in use.
    #[error("{} was replaced by another file; start the command again to use that one", path.display())]
    FileReplaced {
        /// The file.
        path: PathBuf,
    },
    /// A file that was there when it was opened cannot be reached or read any more.
    #[error("{} cannot be read any more: {cause}; connect or mount its medium again", path.display())]
    MediumGone {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// No root has that name.
    #[error("{} has nothing named {name}; run `gantry store ls` to list what it has", path.display())]
    RootMissing {
        /// The name.
        name: Box<Reference>,
        /// The store.
        path: PathBuf,
    },
    /// A manifest of a root is missing or damaged, so it is not known what else the root needs.
    #[error(
        "{name} is incomplete ({cause}); fetch or load it again, or remove it with `gantry store rm {name}`"
    )]
    Broken {
        /// The root.
        name: Box<Reference>,
        /// What is missing.
        #[source]
        cause: Box<Error>,
    },
    /// An entry that another tool wrote has a digest that is neither sha256 nor sha512. Its blobs cannot be told from
    /// garbage, so none is collected.
    #[error(
        "index.json of {} lists {digest}, but only sha256 and sha512 are supported; \
         remove this entry to collect garbage",
        path.display()
    )]
    ForeignDigest {
        /// The store.
        path: PathBuf,
        /// The digest as `index.json` has it.
        digest: String,
    },
    /// This process has a session of the store, so it cannot lock the store exclusively.
    #[error("{} is in use by this process", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// Indexes are nested too deep.
    #[error("{digest} is nested more than {most} indexes deep")]
    TooDeep {
        /// The manifest that is too deep.
        digest: Digest,
        /// How deep a manifest may be nested.
        most: usize,
    },
    /// The disk or the quota is full.
    #[error(
        "not enough space in {}: {} more are needed, {} are free; \
         free some space and run the same command again, what was written is kept",
        path.display(), ByteSize(*needed), ByteSize(*free)
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes that are still needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A document of the store or of a bundle does not parse.
    #[error(transparent)]
    Document(#[from] types::Error),
    /// The folder is not a store, or one that a newer Gantry wrote.
    #[error("{} is not a store: {reason}", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// Why it is not one.
        reason: String,
    },
    /// Reading failed.
    #[error("cannot read {what}: {cause}")]
    Read {
        /// The path or blob.
        what: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {what}: {cause}")]
    Write {
        /// The path or blob.
        what: String,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
