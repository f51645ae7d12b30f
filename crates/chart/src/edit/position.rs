//! Positions in the source text of a document.

use std::ops::Range;

/// A scalar and the range of the source text in which it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceScalar {
    /// The byte range in the source: with quotes, but without the `|` line of a block.
    pub(super) range: Range<usize>,
    /// Its value, with escapes and folding resolved.
    pub(super) value: String,
    /// How it is written.
    pub(super) style: ScalarNotation,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarNotation {
    /// Without quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// As an indented block below `|` or `>`.
    Block,
    /// As a reference to another scalar: `*anchor`.
    Alias,
}

/// Where a list or map starts in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CollectionPosition {
    /// Flow style: the byte position of its opening bracket or brace.
    Flow { start: usize },
    /// Block style: the byte positions where it and the first thing in it start.
    Block { start: usize, first: usize },
}
