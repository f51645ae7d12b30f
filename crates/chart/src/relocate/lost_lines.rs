//! Texts that lost lines when images were changed.

use crate::path::DocumentPath;

/// A text that lost lines when images were changed.
pub(super) struct LostLines {
    /// The document's number in the plain render.
    pub(super) document: usize,
    /// The path of the text in it.
    pub(super) path: DocumentPath,
    /// The lost lines, trimmed.
    pub(super) lines: Vec<String>,
}

impl LostLines {
    /// The lines that a text lost, if nothing else happened to it; empty lines do not count.
    pub(super) fn new(
        document: usize,
        path: &DocumentPath,
        before: &str,
        after: &str,
    ) -> Option<Self> {
        let (mut lines, mut left) = (Vec::new(), after.lines().peekable());
        for line in before.lines() {
            // Both texts in step: what does not match the next line of the new text was lost.
            if left.peek() == Some(&line) {
                left.next();
            } else if !line.trim().is_empty() {
                lines.push(line.trim().to_owned());
            }
        }
        let is_all = left.all(|line| line.trim().is_empty());
        let path = path.clone();
        (is_all && !lines.is_empty()).then_some(Self { document, path, lines })
    }
}
