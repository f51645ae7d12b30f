//! The result of an audit: the report files, a summary on the terminal, and the exit code.

use std::path::Path;

use egress::report::{Report, Tried, Verdict};

use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::{ui, world};

/// Writes the report files and prints the summary. Returns an error if the verdict is not good.
pub(super) fn show(context: &Context, report: &Report, folder: Option<&Path>) -> Result<()> {
    if let Some(folder) = folder {
        for (name, text) in [
            ("audit.md", report.markdown()?),
            ("audit.json", report.json()?),
            ("audit.html", report.html()?),
        ] {
            world::write_deep(&folder.join(name), &text)?;
        }
        let shown = folder.display();
        context.ui.status(&format!("{shown}/audit.md, audit.json and audit.html written"));
    }
    for gap in &report.gaps {
        context.ui.warn(gap);
    }
    // Printed before the verdict becomes an error, so that the table is there in every case.
    context.ui.result(report, table)?;
    match report.verdict {
        Verdict::NotSoaked | Verdict::Quiet => Ok(()),
        Verdict::Unproven => Err(CommandError::new(Kind::Partial, report.verdict.sentence())
            .hint("what could not be observed is listed above and in the report")),
        Verdict::Tried => {
            let count = report.attempts.len();
            let what = if count == 1 { "attempt" } else { "attempts" };
            let message = format!("{count} {what} to connect to the outside");
            Err(CommandError::new(Kind::Integrity, message)
                .hint("apply the settings in the column WHAT STOPS IT, then audit again"))
        }
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    if !report.attempts.is_empty() {
        let row = |tried: &Tried| {
            let stop = tried.stops.first().map(|stop| stop.setting.clone()).unwrap_or_default();
            let pods: Vec<&str> = tried.pods.iter().map(String::as_str).collect();
            [tried.who(), pods.join(" "), tried.to.clone(), tried.count.to_string(), stop]
        };
        let head = ["workload", "pods", "connected to", "times", "what stops it"];
        text.push_str(&ui::table(head, report.attempts.iter().map(row).collect()));
        text.push('\n');
    }
    if !report.findings.is_empty() {
        let row = |found: &egress::findings::Static| {
            [found.subject.to_string(), found.what.clone(), found.stop.clone()]
        };
        let head = ["object", "would connect to", "what stops it"];
        text.push_str(&ui::table(head, report.findings.iter().map(row).collect()));
        text.push('\n');
    }
    for closed in &report.policies {
        for workload in &closed.uncovered {
            text.push_str(&format!(
                "{workload}: no network policy restricts its outgoing connections\n"
            ));
        }
        for gap in &closed.gaps {
            text.push_str(&format!("{gap}\n"));
        }
    }
    if !report.elsewhere.is_empty() {
        let count = report.elsewhere.len();
        text.push_str(&format!(
            "{count} more by other workloads, not part of the verdict: see the report\n"
        ));
    }
    text.push_str(&format!("{}\n", report.verdict.sentence()));
    text
}
