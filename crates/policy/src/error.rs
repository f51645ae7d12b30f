//! What can be wrong with what a policy is asked for. All of it is found before anything is
//! written.

/// Why no policy can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name or an address on the command line is none.
    #[error("{text:?} is no {what}: {reason}")]
    Invalid {
        /// What it should have been.
        what: &'static str,
        /// The text.
        text: String,
        /// Why it is none, and what to write.
        reason: String,
    },
    /// Nothing is locked, so that everything would be refused.
    #[error("the lock {lock:?} has no images: a policy of it would refuse every pod")]
    NothingLocked {
        /// The lock's name.
        lock: String,
    },
    /// The site's registry is not what a node's runtime takes for a registry.
    #[error(
        "a node reads {target} as {read}: {registry:?} has neither a dot nor a port, so that it is \
         taken for a folder of docker.io"
    )]
    NotAHost {
        /// The site's registry.
        registry: String,
        /// A name at the site.
        target: String,
        /// What a node's runtime makes of it.
        read: String,
    },
    /// The list is larger than an object of the API server may be.
    #[error(
        "the list of {images} repositories is larger than one object may be ({bytes} of {most} bytes)"
    )]
    LongList {
        /// How many repositories.
        images: usize,
        /// Bytes of the list.
        bytes: usize,
        /// The most that the API server takes.
        most: usize,
    },
    /// Something of the lock or the site.
    #[error(transparent)]
    Types(#[from] types::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn invalid(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        const SHOWN: usize = 200;
        Self::Invalid { what, text: text.chars().take(SHOWN).collect(), reason: reason.into() }
    }
}
