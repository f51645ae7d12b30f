//! What can be wrong with a chart, its values and what it renders.

/// What this crate could not do. Every variant names the thing, the cause and the next step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a chart, a values file or a rule file does not parse.
    #[error("{file} cannot be read: {reason}")]
    File {
        /// The file as the user knows it.
        file: String,
        /// What is wrong in it, with its place.
        reason: String,
    },
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
