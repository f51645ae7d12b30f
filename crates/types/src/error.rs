//! The errors of this crate: a text that a person or another program wrote does not parse.

use crate::Cause;
use crate::foreign_text::clean_excerpt;

/// A text that does not parse. Every variant names the text and says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A single value does not parse: what it should be, the text, and why it is not.
    #[error("{text:?} is not a valid {what}: {reason}")]
    Invalid {
        /// What the text should have been, as OCI or Kubernetes call it ("digest", "image reference").
        what: &'static str,
        /// The text as it was given, cut to a printable length.
        text: String,
        /// Why it is not valid, and what to write instead.
        #[source]
        reason: Cause,
    },
    /// A document (gantry.yaml, gantry.lock, site.yaml, a manifest) does not parse.
    #[error("{document}{}: {message}", format_position(*line, *column))]
    Document {
        /// The document's name as the user knows it, usually its path.
        document: String,
        /// Line, from 1; 0 when not known.
        line: u64,
        /// Column, from 1; 0 when not known.
        column: u64,
        /// What is wrong; for an unknown key with the known key that is spelled most like it.
        #[source]
        message: Cause,
    },
    /// Two different images would get the same name in the site's registry.
    #[error("{first} and {second} would both be pushed as {target}; {hint}")]
    Collision {
        /// One of the two references.
        first: String,
        /// The other.
        second: String,
        /// The name that both would get.
        target: String,
        /// How to give them different names.
        hint: String,
    },
    /// The runtimes of nodes do not take the site's registry for a registry.
    #[error(
        "nodes read {target} as {read}: {registry:?} has neither a dot nor a port, so it is taken \
         for a repository of docker.io; write the registry with its domain or port in site.yaml"
    )]
    NotAHost {
        /// The site's registry.
        registry: String,
        /// The name of an image at the site.
        target: String,
        /// The name that a node's runtime reads it as.
        read: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an [`Error::Invalid`] with an excerpt of the text, so that hostile input cannot flood a
    /// terminal.
    pub(crate) fn invalid_text(what: &'static str, text: &str, reason: impl Into<Cause>) -> Self {
        Self::Invalid { what, text: clean_excerpt(text), reason: reason.into() }
    }
}

fn format_position(line: u64, column: u64) -> String {
    if line == 0 { String::new() } else { format!(":{line}:{column}") }
}
