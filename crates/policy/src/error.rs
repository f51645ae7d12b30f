//! The error type of this crate. All errors are found before anything is written.

/// Why a policy cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name or an address on the command line is not valid.
    #[error("{text:?} is not a valid {what}: {reason}")]
    Invalid {
        /// What it should be: "namespace name", "label", "destination".
        what: &'static str,
        /// The text, shortened to 200 characters.
        text: String,
        /// Why it is not valid, and what to write instead.
        reason: String,
    },
    /// The lock has no images, so its policy would refuse everything.
    #[error(
        "the lock {lock:?} has no images, so its policy would refuse every pod; add images to \
         gantry.yaml and run `gantry lock`"
    )]
    NothingLocked {
        /// The lock's name.
        lock: String,
    },
    /// The list is too large for one object of Kubernetes.
    #[error(
        "the list of {images} repositories is too large for one policy: {bytes} bytes, and at most \
         {most} fit into an object of Kubernetes"
    )]
    LongList {
        /// The number of repositories.
        images: usize,
        /// The size of the list in bytes.
        bytes: usize,
        /// The largest list that fits, in bytes.
        most: usize,
    },
    /// A name in the lock or the site is not valid.
    #[error(transparent)]
    Types(#[from] types::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error about a text from the command line.
    pub(crate) fn invalid(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        const SHOWN: usize = 200;
        Self::Invalid { what, text: text.chars().take(SHOWN).collect(), reason: reason.into() }
    }
}
