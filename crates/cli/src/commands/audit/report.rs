//! The result of an audit: the report files, a summary on the terminal, and the exit code.

use std::path::{Path, PathBuf};

use egress::report::{AuditReport, AuditVerdict, EgressAttempt};

use crate::context::CommandContext;
use crate::error::{CommandError, ErrorKind, Result};
use crate::{environment, ui};

/// The files of a report in a folder: Markdown, JSON and HTML.
pub(super) fn list_files(folder: &Path) -> [PathBuf; 3] {
    ["audit.md", "audit.json", "audit.html"].map(|name| folder.join(name))
}

/// Writes the report files and prints the summary. Returns an error if the verdict is not good.
pub(super) fn show_report(
    context: &CommandContext,
    report: &AuditReport,
    folder: Option<&Path>,
) -> Result<()> {
    if let Some(folder) = folder {
        let texts = [report.to_markdown()?, report.to_json()?, report.to_html()?];
        for (path, text) in list_files(folder).iter().zip(&texts) {
            environment::write_file_with_folders(path, text)?;
        }
        let shown = folder.display();
        context.ui.print_status(&format!("{shown}/audit.md, audit.json and audit.html written"));
    }
    for gap in &report.gaps {
        context.ui.print_warning(gap);
    }
    // Printed before the verdict becomes an error, so that the table is there in every case.
    context.ui.print_result(report, format_report)?;
    match report.verdict {
        AuditVerdict::NotSoaked | AuditVerdict::Quiet => Ok(()),
        AuditVerdict::Unproven => {
            Err(CommandError::new(ErrorKind::Partial, report.verdict.as_sentence())
                .with_hint("what could not be observed is listed above and in the report"))
        }
        AuditVerdict::Tried => {
            let count = report.attempts.len();
            let what = if count == 1 { "attempt" } else { "attempts" };
            let message = format!("{count} {what} to connect to the outside");
            Err(CommandError::new(ErrorKind::Integrity, message)
                .with_hint("apply the settings in the column WHAT STOPS IT, then audit again"))
        }
    }
}

pub(in crate::commands) fn format_report(report: &AuditReport) -> String {
    let mut text = String::new();
    if !report.attempts.is_empty() {
        let row = |tried: &EgressAttempt| {
            let stop = tried.stops.first().map(|stop| stop.setting.clone()).unwrap_or_default();
            let pods: Vec<&str> = tried.pods.iter().map(String::as_str).collect();
            [tried.sender_label(), pods.join(" "), tried.to.clone(), tried.count.to_string(), stop]
        };
        let head = ["workload", "pods", "connected to", "times", "what stops it"];
        text.push_str(&ui::format_table(head, report.attempts.iter().map(row).collect()));
        text.push('\n');
    }
    if !report.findings.is_empty() {
        let row = |found: &egress::findings::StaticFinding| {
            [found.subject.to_string(), found.what.clone(), found.stop.clone()]
        };
        let head = ["object", "would connect to", "what stops it"];
        text.push_str(&ui::format_table(head, report.findings.iter().map(row).collect()));
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
    text.push_str(&format!("{}\n", report.verdict.as_sentence()));
    text
}
