//! What can go wrong with content on a disk.

use std::io;
use std::path::PathBuf;

use types::{Digest, Reference};

/// An error of the store or of a [`crate::Source`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The blob is not here.
    #[error("blob {digest} is not here")]
    BlobMissing {
        /// The blob.
        digest: Digest,
    },
    /// The range does not lie within the blob.
    #[error("range {start}..{end} does not lie within blob {digest} of {size} bytes")]
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
    /// A document is larger than is read into memory.
    #[error("{digest} has {size} bytes, more than the {most} that such a document may have")]
    TooLarge {
        /// The document.
        digest: Digest,
        /// Its length.
        size: u64,
        /// The limit.
        most: u64,
    },
    /// The bytes that came are not those that were promised.
    #[error("{digest} was promised, but the bytes that came are {actual}; they were thrown away")]
    DigestMismatch {
        /// What was promised.
        digest: Digest,
        /// What came.
        actual: Digest,
    },
    /// More or fewer bytes came than were promised.
    #[error("{digest} was promised with {expected} bytes, but {actual} came")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The length that was promised.
        expected: u64,
        /// The length that came.
        actual: u64,
    },
    /// No root has that name.
    #[error("{} holds nothing named {name}; `gantry store ls` tells what it holds", path.display())]
    RootMissing {
        /// The name.
        name: Box<Reference>,
        /// The store.
        path: PathBuf,
    },
    /// A root lacks a manifest, so nobody knows what else it needs.
    #[error(
        "{name} is not whole ({cause}); fetch or load it again, or take it away with `gantry store rm {name}`"
    )]
    Broken {
        /// The root.
        name: Box<Reference>,
        /// What is missing.
        #[source]
        cause: Box<Error>,
    },
    /// An entry of another tool has a digest that Gantry cannot follow.
    #[error("{} names {digest}, and only sha256 is known here: what it needs cannot be told from garbage", path.display())]
    ForeignDigest {
        /// The store.
        path: PathBuf,
        /// The digest as it stands in `index.json`.
        digest: String,
    },
    /// This process uses the store, so it cannot have it alone.
    #[error("{} is in use by this process", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// Indexes stand in indexes, too many of them.
    #[error("{digest} stands more than {most} indexes deep")]
    TooDeep {
        /// The manifest that is too deep.
        digest: Digest,
        /// How deep one may stand.
        most: usize,
    },
    /// The disk has no room.
    #[error("no room in {}: {needed} more bytes are needed, {free} are free; make room and run the same command again, what is there is kept", path.display())]
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
    /// The folder is no store, or one of a newer Gantry.
    #[error("{} is no store: {reason}", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// Why.
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
