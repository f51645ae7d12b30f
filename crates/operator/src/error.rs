//! What can go wrong with what answers the API server.

use std::path::PathBuf;

/// Why the operator's part cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that tells what to do cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// A file that the webhook keeps cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// Nothing is locked, so that every pod would be refused.
    #[error("the lock {lock:?} has no images: a webhook of it would refuse every pod")]
    NothingLocked {
        /// The lock's name.
        lock: String,
    },
    /// What the webhook reads does not fit into a ConfigMap.
    #[error(
        "the locks are {bytes} bytes without their layers, and a ConfigMap holds {most}: give fewer locks"
    )]
    LongLock {
        /// Bytes of the shortened locks.
        bytes: usize,
        /// The most that the API server takes.
        most: usize,
    },
    /// Gantry's own image is in no lock.
    #[error("{image} is in no lock given here, so the site has no image to run the webhook from")]
    NoImage {
        /// The image that was looked for.
        image: String,
    },
    /// A word on the command line is no name or address.
    #[error("{text:?} is no {what}: {reason}")]
    Invalid {
        /// What it should have been.
        what: &'static str,
        /// The text.
        text: String,
        /// Why it is none, and what to write.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Something of the lock, the site or a receipt.
    #[error(transparent)]
    Types(#[from] types::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether it is the input that has to change: another try is of no use.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Read { .. }
            | Self::NothingLocked { .. }
            | Self::LongLock { .. }
            | Self::NoImage { .. }
            | Self::Invalid { .. }
            | Self::Types(_)
            | Self::Cluster(
                cluster::Error::NoAccess { .. }
                | cluster::Error::NoContext { .. }
                | cluster::Error::MissingRights { .. }
                | cluster::Error::NoObject { .. }
                | cluster::Error::NotOurs { .. },
            ) => true,
            Self::Write { .. } | Self::Certificate(_) | Self::Cluster(_) => false,
        }
    }
}
