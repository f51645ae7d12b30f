//! What can go wrong when a depot opens. Errors of requests are in [`crate::error_response`].

use types::Digest;

/// An error of opening a depot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// A manifest in the source is not valid.
    #[error(transparent)]
    Document(#[from] types::Error),
    /// A manifest's bytes do not have its digest.
    #[error("the manifest {digest} is damaged; fetch it or copy its bundle file again")]
    Damaged {
        /// The manifest.
        digest: Digest,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
