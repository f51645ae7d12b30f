//! What can go wrong on landing, before anything is moved. What fails for one root while others
//! go on is a [`crate::Failure`] in the report.

/// An error that stops a load as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source could not be read.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// The target's name is wrong, or two roots would land on one name.
    #[error(transparent)]
    Target(#[from] types::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
