//! What can go wrong when a depot opens. What goes wrong with a request is in `respond`.

use types::Digest;

/// An error of a depot that opens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// A manifest in it does not parse.
    #[error(transparent)]
    Document(#[from] types::Error),
    /// A manifest's bytes are not what its digest says.
    #[error("the bytes of the manifest {digest} are damaged; bring it in again")]
    Damaged {
        /// The manifest.
        digest: Digest,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
