//! How good or bad something is, which decides its colour and its sign.

/// How good or bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Tone {
    /// It is as it should be.
    Good,
    /// Somebody should look at it.
    Warning,
    /// It is wrong.
    Bad,
    /// It is neither good nor bad.
    #[default]
    Neutral,
}

impl Tone {
    /// The class of the style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
            Self::Neutral => "neutral",
        }
    }

    /// The sign before the verdict, so that it does not depend on colour alone.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Warning => "!",
            Self::Bad => "✕",
            Self::Neutral => "i",
        }
    }
}
