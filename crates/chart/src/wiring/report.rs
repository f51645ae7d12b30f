//! The part of a report on the wiring: what, where, by what, why.

use std::fmt::Write as _;

use super::Wiring;
use crate::path::Path;

impl Wiring {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.leftovers.is_empty()
    }

    /// The report as Markdown; empty where there is nothing to say.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        if !self.lines.is_empty() {
            text.push_str(
                "\n## Wired to stay inside\n\n| where | what | by | why |\n|---|---|---|---|\n",
            );
        }
        for Row { place, by, what, why } in self.rows() {
            let by = by.map_or("patch".to_owned(), |path| format!("`{path}`"));
            let what: Vec<String> = what.iter().map(|what| format!("`{what}`")).collect();
            let _ = writeln!(text, "| {place} | {} | {by} | {} |", what.join(", "), why.join("; "));
        }
        if !self.patches.is_empty() {
            text.push_str(
                "\nNo value reaches what is done by a patch: install with `gantry post-render \
                 --patches FILE`.\n",
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}.");
        }
        if !self.leftovers.is_empty() {
            text.push_str("\n## Not wired\n\n");
        }
        for left in &self.leftovers {
            let _ = writeln!(text, "- {}: {}. Next: {}", left.place, left.what, left.next);
        }
        text
    }

    /// The lines, those of one place and one value as one.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row> = Vec::new();
        for line in &self.lines {
            let by = line.by.as_ref();
            let at = rows.iter().position(|row| row.place == line.place && row.by == by);
            let at = at.unwrap_or_else(|| {
                rows.push(Row { place: &line.place, by, what: vec![], why: vec![] });
                rows.len() - 1
            });
            rows[at].what.push(&line.what);
            if !rows[at].why.contains(&line.why.as_str()) {
                rows[at].why.push(&line.why);
            }
        }
        rows
    }
}

/// What one place gets by one value, or by its patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// Where it comes out.
    pub place: &'a str,
    /// The value; absent where a patch does it.
    pub by: Option<&'a Path>,
    /// What is told there.
    pub what: Vec<&'a str>,
    /// Why, each reason once.
    pub why: Vec<&'a str>,
}
