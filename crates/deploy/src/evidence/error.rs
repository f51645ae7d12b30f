//! The errors of gathering and of verifying evidence, grouped for the exit code of the command
//! line.

use std::path::PathBuf;

/// Why evidence cannot be gathered, or is not valid.
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
    /// The archive or the folder cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The folder exists and is not empty; nothing is overwritten.
    #[error("{} already exists and is not empty; remove it, or choose another folder", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// A document does not have the expected form.
    #[error("{document}: {reason}")]
    Document {
        /// Its name.
        document: String,
        /// What is wrong.
        reason: String,
    },
    /// The content is larger than the limit.
    #[error("the evidence is larger than the limit of {}; leave out some reports", types::ByteSize(*most))]
    TooMuch {
        /// The limit in bytes.
        most: u64,
    },
    /// A key for signing or verifying cannot be used.
    #[error("the key cannot be used: {reason}")]
    Key {
        /// Why not, and the next step.
        reason: String,
    },
    /// The archive was changed, or is incomplete.
    #[error("{what}: {reason}")]
    Altered {
        /// The file in the archive, or the archive.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The signature is missing, wrong, or of a key that is not trusted.
    #[error("the signature is not valid: {reason}")]
    Untrusted {
        /// Why not.
        reason: String,
    },
    /// The store or a bundle file cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A lock, a site file or a name is not valid.
    #[error(transparent)]
    Types(#[from] types::Error),
}

/// `Result` with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the content is not what was signed or indexed.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Altered { .. } | Self::Untrusted { .. })
    }

    /// Whether the user has to change the input. Nothing was written then.
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
