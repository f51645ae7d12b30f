//! What can go wrong when a depot opens. What goes wrong with a request is in `respond`.

/// An error of a depot that opens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// A manifest in it does not parse.
    #[error(transparent)]
    Document(#[from] types::Error),
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
