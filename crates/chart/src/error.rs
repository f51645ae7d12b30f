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
    /// A table of rules does not parse; the message names its place.
    #[error(transparent)]
    Document(types::Error),
    /// Helm refuses to render the chart with the user's values.
    #[error("the chart does not render: {message}")]
    Render {
        /// Helm's own message.
        message: String,
    },
    /// Documents of a render are no YAML, so nothing can be said about them.
    #[error("{template} renders to no YAML (line {line} of the output): {reason}")]
    Unread {
        /// The template.
        template: String,
        /// The line of the rendered stream.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Two images would have one name at the site, or a name is not valid there.
    #[error(transparent)]
    Naming(#[from] types::Error),
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
