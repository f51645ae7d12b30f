//! What can go wrong with gathering and with judging evidence.

use std::path::PathBuf;

/// Why evidence cannot be gathered, or is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// Something is there that would be written over.
    #[error("{} is there already; remove it, or name another", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// A document is not what it should be.
    #[error("{document}: {reason}")]
    Document {
        /// Its name.
        document: String,
        /// What is wrong.
        reason: String,
    },
    /// There is more than one archive may have.
    #[error("there are more than {} of evidence; give fewer reports", types::ByteSize(*most))]
    TooMuch {
        /// The limit in bytes.
        most: u64,
    },
    /// A key cannot be used.
    #[error("the key is not usable: {reason}")]
    Key {
        /// Why not, and what to do.
        reason: String,
    },
    /// The archive was changed, or is not whole.
    #[error("{what}: {reason}")]
    Altered {
        /// Which part.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is signed by nobody who is trusted.
    #[error("the signature is not good: {reason}")]
    Untrusted {
        /// Why not.
        reason: String,
    },
    /// The store or the volumes.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A lock, a site or a name.
    #[error(transparent)]
    Types(#[from] types::Error),
}

/// `Result` with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the archive is not what was signed.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Altered { .. } | Self::Untrusted { .. })
    }

    /// Whether the input has to change; nothing was written.
    pub fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::Read { .. }
                | Self::Taken { .. }
                | Self::Document { .. }
                | Self::TooMuch { .. }
                | Self::Key { .. }
                | Self::Types(_)
        )
    }
}
