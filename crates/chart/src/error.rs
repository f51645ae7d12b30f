//! The error type of this crate: what can be wrong with a chart, its values and its render.

use types::yaml::DocumentFault;

/// Why a chart or a stream of manifests could not be processed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of a chart or a values file is not valid YAML.
    #[error("{file} cannot be read: {fault}")]
    InvalidYaml {
        /// The file as the user knows it.
        file: String,
        /// Where in the file, and what is wrong.
        fault: DocumentFault,
    },
    /// A file of a chart is missing, or a file has not the form that it must have.
    #[error("{file} cannot be read: {reason}")]
    File {
        /// The file as the user knows it.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A table of rules does not parse; the message has file, line and column.
    #[error(transparent)]
    Document(types::Error),
    /// A patch file does not fit the manifests that it is applied to.
    #[error("{object} cannot be patched: {reason}")]
    Patch {
        /// The kind and the name of the object.
        object: String,
        /// Why, with the next step for the user.
        reason: String,
    },
    /// Helm refuses to render the chart with the user's values.
    #[error("helm cannot render the chart: {message}")]
    Render {
        /// Helm's own message.
        message: String,
    },
    /// A rendered document is not valid YAML, so nothing can be proven about its images.
    #[error("{template} does not render to valid YAML (line {line} of the output): {fault}")]
    Unread {
        /// The template.
        template: String,
        /// The line of the rendered stream that the document starts at, from 1.
        line: usize,
        /// Where in the document, and what is wrong.
        fault: DocumentFault,
    },
    /// Two images would get the same name at the site, or a name is not valid there.
    #[error(transparent)]
    Naming(#[from] types::Error),
}

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
