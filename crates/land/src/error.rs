//! Errors that stop a load as a whole, before anything is moved. A root that fails while others
//! succeed is a [`crate::FailedRoot`] in the report instead.

/// An error that stops a load as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source could not be read.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// The target's name is not valid, or two roots would get the same name there.
    #[error(transparent)]
    Target(#[from] types::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
