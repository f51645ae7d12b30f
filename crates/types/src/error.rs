//! What can be wrong with a text that a person or another program wrote.

/// A text that is not what it should be. Every variant names the text and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A single value does not parse: what it should be, the text, and why it is not.
    #[error("{text:?} is not a valid {what}: {reason}")]
    Invalid {
        /// What the text should have been, in the field's words ("digest", "image reference").
        what: &'static str,
        /// The text as it was given, cut to a printable length.
        text: String,
        /// Why it is not one, and what would be.
        reason: String,
    },
    /// A document (gantry.yaml, gantry.lock, site.yaml, a manifest) does not parse.
    #[error("{document}{}: {message}", position(*line, *column))]
    Document {
        /// The document's name as the user knows it, usually its path.
        document: String,
        /// Line, from 1; 0 when not known.
        line: u64,
        /// Column, from 1; 0 when not known.
        column: u64,
        /// What is wrong, with the nearest known key where one is near.
        message: String,
    },
    /// Two images would have one name at the site.
    #[error("{first} and {second} would both be pushed as {target}; {hint}")]
    Collision {
        /// One of the two references.
        first: String,
        /// The other.
        second: String,
        /// The name that both would have.
        target: String,
        /// What separates them.
        hint: String,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Invalid`]; the text is cut so that hostile input cannot flood a terminal.
    pub(crate) fn invalid(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        const SHOWN: usize = 200;
        let shown: String = text.chars().take(SHOWN).collect();
        Self::Invalid { what, text: shown, reason: reason.into() }
    }
}

fn position(line: u64, column: u64) -> String {
    if line == 0 { String::new() } else { format!(":{line}:{column}") }
}
