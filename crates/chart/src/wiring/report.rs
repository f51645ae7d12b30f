//! The part of a report on the wiring: what, where, by what, why.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Line, Wiring};

impl Wiring {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.leftovers.is_empty()
    }

    /// The report as Markdown; empty where there is nothing to say.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        if !self.lines.is_empty() {
            text.push_str("\n## Wired to stay inside\n\n| what | where | by | why |\n|---|---|---|---|\n");
        }
        for (line, places) in self.gathered() {
            let by = match &line.by {
                Some(path) => format!("`{path}`"),
                None => "patch".to_owned(),
            };
            let _ = writeln!(text, "| `{}` | {} | {by} | {} |", line.what, places.join("; "), line.why);
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

    /// The lines, those that differ in their place alone as one.
    pub fn gathered(&self) -> Vec<(&Line, Vec<&str>)> {
        let mut gathered: Vec<(&Line, Vec<&str>)> = Vec::new();
        let mut known: BTreeMap<_, usize> = BTreeMap::new();
        for line in &self.lines {
            let at = *known.entry((&line.what, &line.by, &line.why)).or_insert_with(|| {
                gathered.push((line, vec![]));
                gathered.len() - 1
            });
            gathered[at].1.push(&line.place);
        }
        gathered
    }
}
