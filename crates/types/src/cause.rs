//! The causes of errors: how an error keeps the one below it ([`Cause`]), and how the chain of an
//! error is printed ([`error_chain`], [`causes_of`]). Every crate uses these, so that a cause is
//! printed once and in one form.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::foreign_text::shorten_middle;

/// The longest text of a parser's error, in characters: serde quotes the value that it cannot use.
const LONGEST_PARSE_ERROR: usize = 300;

/// Why something failed: another error, a sentence of our own about another error, or a sentence
/// alone, where an error variant is made for several reasons and not all are errors.
///
/// It displays as one text and has the other error as its source. A variant holds it as
/// `#[source] cause: Cause` and prints it in its own message.
///
/// # Examples
///
/// ```
/// use std::error::Error;
///
/// let parsed = serde_json::from_str::<u8>("[").unwrap_err();
/// let cause = gantry_types::Cause::about("it is not valid JSON", parsed);
/// assert!(cause.to_string().starts_with("it is not valid JSON"));
/// assert!(cause.source().unwrap().is::<serde_json::Error>());
///
/// let alone = gantry_types::Cause::from("it contains no certificate");
/// assert!(alone.source().is_none());
/// ```
#[derive(Debug, Clone)]
pub struct Cause {
    text: String,
    /// Shared and not boxed, so that error types that are cloned can have a cause.
    error: Option<Arc<dyn Error + Send + Sync>>,
}

impl Cause {
    /// Another error, with its own text.
    pub fn from_error(error: impl Error + Send + Sync + 'static) -> Self {
        Self::described(error.to_string(), error)
    }

    /// As [`Cause::from_error`], for an error of unknown type.
    pub fn from_boxed(error: Box<dyn Error + Send + Sync>) -> Self {
        Self { text: error.to_string(), error: Some(error.into()) }
    }

    /// A sentence about another error: `sentence: the error's text`.
    pub fn about(sentence: impl fmt::Display, error: impl Error + Send + Sync + 'static) -> Self {
        Self::described(format!("{sentence}: {error}"), error)
    }

    /// A text that already says what the other error says.
    pub fn described(text: impl Into<String>, error: impl Error + Send + Sync + 'static) -> Self {
        Self { text: text.into(), error: Some(Arc::new(error)) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same cause with another text, which repeats what the cause says.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..self }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_deref().map(|error| error as &(dyn Error + 'static))
    }
}

/// By text: errors cannot be compared, and the text says what the error says.
impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cause {}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self { text, error: None }
    }
}

impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<std::io::Error> for Cause {
    fn from(error: std::io::Error) -> Self {
        Self::from_error(error)
    }
}

/// A value that serde quotes is shortened; the error itself, with the whole value, is not kept then.
impl From<serde_json::Error> for Cause {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        match shorten_middle(&text, LONGEST_PARSE_ERROR) {
            Cow::Borrowed(_) => Self::from_error(error),
            Cow::Owned(shortened) => shortened.into(),
        }
    }
}

/// An error and its causes in one line, outermost first: `message: cause: cause`. A cause whose text
/// the line has already is left out.
///
/// # Examples
///
/// ```
/// #[derive(Debug, thiserror::Error)]
/// #[error("the archive cannot be read")]
/// struct Unreadable(#[source] std::io::Error);
///
/// let error = Unreadable(std::io::Error::other("disk on fire"));
/// assert_eq!(gantry_types::error_chain(&error), "the archive cannot be read: disk on fire");
/// ```
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    error_chain_without(error, |_| false)
}

/// As [`error_chain`], without the levels whose text says nothing to a user (`is_noise`), unless all
/// of them say nothing.
pub fn error_chain_without(
    error: &(dyn Error + 'static),
    is_noise: impl Fn(&str) -> bool,
) -> String {
    let mut line = String::new();
    for text in level_texts(error) {
        if is_noise(&text) || (!line.is_empty() && line.contains(&text)) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    if line.is_empty() { error.to_string() } else { line }
}

/// The texts of an error's causes, outermost first, without those that its own text or an earlier
/// cause contains: what a reader of the message does not know yet.
pub fn causes_of(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts = level_texts(error).into_iter();
    let mut known = texts.next().unwrap_or_default();
    let mut causes = Vec::new();
    for text in texts {
        if !known.contains(&text) {
            known.push('\n');
            known.push_str(&text);
            causes.push(text);
        }
    }
    causes
}

/// The texts of an error and of those below it.
fn level_texts(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Level {
        text: &'static str,
        #[source]
        cause: Option<Box<Level>>,
    }

    fn chain(texts: &[&'static str]) -> Level {
        let (first, rest) = texts.split_first().unwrap();
        let cause = (!rest.is_empty()).then(|| Box::new(chain(rest)));
        Level { text: first, cause }
    }

    #[test]
    fn a_cause_that_is_said_already_is_not_repeated() {
        let error = chain(&["cannot read a: no such file", "no such file", "os error 2"]);
        assert_eq!(error_chain(&error), "cannot read a: no such file: os error 2");
        assert_eq!(causes_of(&error), ["os error 2"]);
    }

    #[test]
    fn levels_that_say_nothing_are_left_out_unless_all_do() {
        let is_noise = |text: &str| text.starts_with("client error");
        let error = chain(&["client error (Connect)", "connection refused"]);
        assert_eq!(error_chain_without(&error, is_noise), "connection refused");
        let error = chain(&["client error (Connect)", "client error"]);
        assert_eq!(error_chain_without(&error, is_noise), "client error (Connect)");
    }

    #[test]
    fn a_cause_keeps_the_error_and_compares_by_text() {
        let cause = Cause::about("the disk", std::io::Error::other("on fire"));
        assert_eq!(cause, Cause::from("the disk: on fire"));
        assert_eq!(causes_of(&cause), Vec::<String>::new());
        assert_eq!(cause.source().unwrap().to_string(), "on fire");
        assert!(cause.with_text("fire at byte 5: on fire").source().is_some());
    }
}
