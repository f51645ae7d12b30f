//! The error of gathering and of verifying evidence. Causes are sources, not text, so that the
//! command line decides how they are printed.

use std::io;
use std::path::PathBuf;

/// Why evidence cannot be gathered, or is not valid.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// The archive or the folder cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// The folder exists and is not empty; nothing is overwritten.
    #[error("{} already exists and is not empty; remove it, or choose another folder", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// The index does not have the expected form.
    #[error("{document} is not the index of an evidence archive")]
    Index {
        /// Its path in the archive.
        document: &'static str,
        /// What the JSON parser found.
        #[source]
        cause: serde_json::Error,
    },
    /// The index has a format version that this Gantry does not read.
    #[error(
        "{document} has the format version {found}, and this Gantry reads version {known} only"
    )]
    IndexVersion {
        /// Its path in the archive.
        document: &'static str,
        /// The version in it.
        found: u32,
        /// The version that is read.
        known: u32,
    },
    /// The content is larger than the limit.
    #[error("the evidence is larger than the limit of {}; leave out some reports", types::ByteSize(*most))]
    TooMuch {
        /// The limit in bytes.
        most: u64,
    },
    /// A key for signing or verifying cannot be used.
    #[error("the key cannot be used: {key} {reason}")]
    Key {
        /// The key: its file, or the beginning of its text.
        key: String,
        /// What is wrong with it, and the next step.
        reason: &'static str,
        /// What the library found.
        #[source]
        cause: Option<minisign::PError>,
    },
    /// The archive cannot be unpacked.
    #[error("{what} is not a readable .tar.zst archive")]
    Unreadable {
        /// The archive.
        what: String,
        /// The error of the reader.
        #[source]
        cause: io::Error,
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
        /// What is wrong with it.
        reason: String,
        /// What the library found.
        #[source]
        cause: Option<minisign::PError>,
    },
    /// The HTML page cannot be made; it is a bug.
    #[error(transparent)]
    Page(#[from] html::Error),
    /// The store or a bundle file cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A lock, a site file or a name is not valid.
    #[error(transparent)]
    Types(#[from] types::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the content is not what was signed or indexed.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Unreadable { .. } | Self::Altered { .. } | Self::Untrusted { .. })
    }

    /// Whether the user has to change the input. Nothing was written then.
    pub fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::Read { .. }
                | Self::Taken { .. }
                | Self::Index { .. }
                | Self::IndexVersion { .. }
                | Self::TooMuch { .. }
                | Self::Key { .. }
                | Self::Types(_)
        )
    }
}
