//! A report for people: a line a finding, the next step below what is not well. Watched, it is drawn
//! again on a terminal; elsewhere there is a line for each change.

use std::io::IsTerminal as _;
use std::sync::Arc;

use deploy::check::{Finding, Report, State};

use crate::context::Context;
use crate::error::Result;
use crate::ui::Ui;

/// Takes a terminal's cursor home and clears what is below (ECMA-48: CUP, ED).
const REDRAW: &str = "\x1b[H\x1b[J";

pub(super) struct Printer {
    ui: Arc<Ui>,
    is_watched: bool,
    before: Option<Report>,
}

impl Printer {
    pub(super) fn new(context: &Context, is_watched: bool) -> Self {
        Self { ui: Arc::clone(&context.ui), is_watched, before: None }
    }

    /// Prints a run; the last one is the result.
    pub(super) fn print(&mut self, report: &Report, is_last: bool) -> Result<()> {
        if !self.is_watched {
            return self.ui.result(report, whole);
        }
        if self.ui.is_json() {
            // Changes are told beside; the result is one document.
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

/// `FAILED   pods         rag: Pod a: it waits`, and below it what to do.
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
