//! What can go wrong with releases, by meaning.

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A report cannot be written as JUnit XML.
    #[error("the report cannot be written as JUnit XML: {cause}; take --output json")]
    Junit {
        /// The cause.
        cause: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
