//! Prints a report for people: one line per finding, with the next step below a failed one. With `--watch`
//! a terminal is redrawn; elsewhere only changes are printed.

use std::sync::Arc;

use deploy::check::{CheckFinding, CheckReport, FindingState};

use crate::context::CommandContext;
use crate::error::Result;
use crate::ui::{self, Ui};

/// Prints the reports of one or several runs of the checks.
pub(super) struct CheckPrinter {
    ui: Arc<Ui>,
    is_watched: bool,
    before: Option<CheckReport>,
}

impl CheckPrinter {
    pub(super) fn new(context: &CommandContext, is_watched: bool) -> Self {
        Self { ui: Arc::clone(&context.ui), is_watched, before: None }
    }

    /// Prints the report of a run. The last one is the result of the command.
    pub(super) fn print(&mut self, report: &CheckReport, is_last: bool) -> Result<()> {
        if !self.is_watched {
            return self.ui.print_result(report, format_report);
        }
        if self.ui.is_json() {
            // Standard output carries a single JSON document, so changes go to standard error.
            self.print_changes(report);
            return if is_last { self.ui.print_result(report, format_report) } else { Ok(()) };
        }
        if ui::is_stdout_terminal() {
            return self.ui.redraw_text(&format_report(report));
        }
        let text = match &self.before {
            None => format_report(report),
            Some(before) => {
                let mut lines: Vec<String> =
                    report.changes_since(before).into_iter().map(format_finding).collect();
                if is_last {
                    lines.push(format_counts(report));
                }
                lines.join("\n")
            }
        };
        self.before = Some(report.clone());
        self.ui.print_text(&text)
    }

    fn print_changes(&mut self, report: &CheckReport) {
        let none = CheckReport::default();
        for change in report.changes_since(self.before.as_ref().unwrap_or(&none)) {
            self.ui.print_status(&format_finding(change));
        }
        self.before = Some(report.clone());
    }
}

pub(in crate::commands) fn format_report(report: &CheckReport) -> String {
    let mut text = format!("cluster {} ({})\n\n", report.context, report.server);
    for finding in &report.findings {
        text.push_str(&format_finding(finding));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&format_counts(report));
    text.push('\n');
    text
}

/// A finding such as `FAILED   pods         rag: Pod a: it waits`, and below it the next step.
fn format_finding(finding: &CheckFinding) -> String {
    const INDENT: &str = "                      ";
    let state = match finding.state {
        FindingState::Failed => "FAILED".to_owned(),
        FindingState::Warning => "warning".to_owned(),
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

fn format_counts(report: &CheckReport) -> String {
    let counts = report.counts;
    format!(
        "{} ok, {} warnings, {} failed, {} skipped",
        counts.ok, counts.warning, counts.failed, counts.skipped
    )
}

#[cfg(test)]
mod tests {
    use deploy::check::CheckName;

    use super::*;

    #[test]
    fn a_finding_is_a_line_with_its_next_step_below() {
        let finding = CheckFinding::failed(CheckName::Pods, "rag", "Pod a")
            .with_reason("it waits\nlog", "look");
        let indent = " ".repeat(22);
        let expected =
            format!("FAILED   pods         rag: Pod a: it waits\n{indent}log\n{indent}next: look");
        assert_eq!(format_finding(&finding), expected);
    }
}
