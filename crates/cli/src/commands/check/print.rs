//! Prints a report for people: one line per finding, with the next step below a failed one. With `--watch`
//! a terminal is redrawn; elsewhere only changes are printed.

use std::io::IsTerminal as _;
use std::sync::Arc;

use deploy::check::{Finding, Report, State};

use crate::context::Context;
use crate::error::Result;
use crate::ui::Ui;

/// Moves the terminal's cursor to the top left and clears the rest (ECMA-48: CUP, ED).
const REDRAW: &str = "\x1b[H\x1b[J";

/// Prints the reports of one or several runs of the checks.
pub(super) struct Printer {
    ui: Arc<Ui>,
    is_watched: bool,
    before: Option<Report>,
}

impl Printer {
    pub(super) fn new(context: &Context, is_watched: bool) -> Self {
        Self { ui: Arc::clone(&context.ui), is_watched, before: None }
    }

    /// Prints the report of a run. The last one is the result of the command.
    pub(super) fn print(&mut self, report: &Report, is_last: bool) -> Result<()> {
        if !self.is_watched {
            return self.ui.result(report, whole);
        }
        if self.ui.is_json() {
            // Standard output carries a single JSON document, so changes go to standard error.
            self.tell_changes(report);
            return if is_last { self.ui.result(report, whole) } else { Ok(()) };
        }
        if std::io::stdout().is_terminal() {
            return self.ui.print(&format!("{REDRAW}{}", whole(report)));
        }
        let text = match &self.before {
            None => whole(report),
            Some(before) => {
                let mut lines: Vec<String> = report.changes(before).into_iter().map(line).collect();
                if is_last {
                    lines.push(counts(report));
                }
                lines.join("\n")
            }
        };
        self.before = Some(report.clone());
        self.ui.print(text.trim_end())
    }

    fn tell_changes(&mut self, report: &Report) {
        let none = Report::default();
        for change in report.changes(self.before.as_ref().unwrap_or(&none)) {
            self.ui.status(&line(change));
        }
        self.before = Some(report.clone());
    }
}

fn whole(report: &Report) -> String {
    let mut text = format!("cluster {} ({})\n\n", report.context, report.server);
    for finding in &report.findings {
        text.push_str(&line(finding));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&counts(report));
    text.push('\n');
    text
}

/// A finding such as `FAILED   pods         rag: Pod a: it waits`, and below it the next step.
fn line(finding: &Finding) -> String {
    const INDENT: &str = "                      ";
    let state = match finding.state {
        State::Failed => "FAILED".to_owned(),
        State::Warning => "warning".to_owned(),
        other => other.as_str().to_owned(),
    };
    let why = match finding.why.as_str() {
        "" => String::new(),
        why => format!(": {}", why.replace('\n', &format!("\n{INDENT}"))),
    };
    let next = match finding.next.as_str() {
        "" => String::new(),
        next => format!("\n{INDENT}next: {next}"),
    };
    format!(
        "{state:<8} {:<12} {}: {}{why}{next}",
        finding.check.as_str(),
        finding.place,
        finding.what
    )
}

fn counts(report: &Report) -> String {
    let counts = report.counts;
    format!(
        "{} ok, {} warnings, {} failed, {} skipped",
        counts.ok, counts.warning, counts.failed, counts.skipped
    )
}

#[cfg(test)]
mod tests {
    use deploy::check::Name;

    use super::*;

    #[test]
    fn a_finding_is_a_line_with_its_next_step_below() {
        let finding = Finding::failed(Name::Pods, "rag", "Pod a").because("it waits\nlog", "look");
        let indent = " ".repeat(22);
        let expected =
            format!("FAILED   pods         rag: Pod a: it waits\n{indent}log\n{indent}next: look");
        assert_eq!(line(&finding), expected);
    }
}
