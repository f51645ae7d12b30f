//! The part of the reports on the offline configuration: what is configured where, by which value
//! or patch, and why.

use std::fmt::Write as _;

use super::offline_wiring::OfflineWiring;
use crate::path::DocumentPath;

impl OfflineWiring {
    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.leftovers.is_empty()
    }

    /// The report as Markdown; empty if there is nothing to report.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        if !self.lines.is_empty() {
            text.push_str(
                "\n## Offline configuration\n\n| location | setting | set by | reason |\n|---|---|---|---|\n",
            );
        }
        for WiringReportRow { place, by, what, why } in self.to_rows() {
            let by = by.map_or("patch".to_owned(), |path| format!("`{path}`"));
            let what: Vec<String> = what.iter().map(|what| format!("`{what}`")).collect();
            let _ = writeln!(text, "| {place} | {} | {by} | {} |", what.join(", "), why.join("; "));
        }
        if !self.patches.is_empty() {
            text.push_str(
                "\nNo value of the chart can set what is marked as a patch: install with `gantry \
                 post-render --patches FILE`.\n",
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}.");
        }
        if !self.leftovers.is_empty() {
            text.push_str("\n## Not configured for offline use\n\n");
        }
        for left in &self.leftovers {
            let _ = writeln!(text, "- {}: {}. Next: {}", left.place, left.what, left.next);
        }
        text
    }

    /// The rows of the report. What one value (or patch) does in one container is one row.
    pub fn to_rows(&self) -> Vec<WiringReportRow<'_>> {
        let mut rows: Vec<WiringReportRow> = Vec::new();
        for line in &self.lines {
            let by = line.by.as_ref();
            let at = rows.iter().position(|row| row.place == line.place && row.by == by);
            let at = at.unwrap_or_else(|| {
                rows.push(WiringReportRow { place: &line.place, by, what: vec![], why: vec![] });
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

/// What one value, or a patch, configures at one location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WiringReportRow<'a> {
    /// The container or object.
    pub place: &'a str,
    /// The value; absent if a patch does it.
    pub by: Option<&'a DocumentPath>,
    /// What is configured: `HF_HUB_OFFLINE=1`.
    pub what: Vec<&'a str>,
    /// The reasons, each once.
    pub why: Vec<&'a str>,
}
