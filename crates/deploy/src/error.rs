//! The errors of [`crate::check`]; `release` and `evidence` have error types of their own.

/// Why the result of a check cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A report cannot be written as JUnit XML.
    #[error("the report cannot be written as JUnit XML: {cause}; use --output json instead")]
    Junit {
        /// What the XML writer reported.
        cause: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
