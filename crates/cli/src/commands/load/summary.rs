//! The result of `gantry load`, as JSON and as a table.

use land::models::ModelPushReport;
use land::{LoadFailureKind, LoadOutcome};
use serde::Serialize;
use types::{ByteSize, Digest, Root};

use crate::context::CommandContext;
use crate::error::{CommandError, ErrorKind};
use crate::model_targets;
use crate::ui;

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoadSummary {
    pub(super) target: String,
    #[serde(rename = "dryRun")]
    pub(super) is_dry_run: bool,
    #[serde(rename = "transferredBytes")]
    pub(super) moved_bytes: u64,
    /// What a dry run would transfer at most.
    #[serde(rename = "missingBytes", skip_serializing_if = "Option::is_none")]
    pub(super) missing_bytes: Option<u64>,
    pub(super) roots: Vec<LoadSummaryRow>,
    /// What was written to the site's model targets.
    #[serde(rename = "targets", skip_serializing_if = "Vec::is_empty")]
    pub(super) models: Vec<ModelPushReport>,
    /// Whether something failed because the source is damaged.
    #[serde(skip)]
    pub(super) is_damaged: bool,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoadSummaryRow {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) target: String,
    pub(super) digest: Digest,
    /// The digest at the target, if the index had to be rewritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rewritten: Option<types::Digest>,
    pub(super) outcome: &'static str,
    /// The size of all that it needs, in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
    #[serde(rename = "failure", skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// The error for content that could not be copied, if any. It names the first one.
pub(super) fn find_load_failure(summary: &LoadSummary) -> Option<CommandError> {
    let failed: Vec<_> =
        summary.roots.iter().filter_map(|row| Some((&row.name, row.error.as_ref()?))).collect();
    let (name, cause) = failed.first()?;
    // Most errors contain the name already.
    let cause =
        if cause.contains(name.as_str()) { (*cause).clone() } else { format!("{name}: {cause}") };
    let message =
        format!("{} of {} could not be copied: {cause}", failed.len(), summary.roots.len());
    if summary.is_damaged {
        return Some(CommandError::new(ErrorKind::Integrity, message).with_hint(
            "find the damage with gantry verify BUNDLE… or gantry store verify, replace those files, and run the command again",
        ));
    }
    // If nothing at all was copied, resuming would most likely fail the same way.
    let kind =
        if failed.len() < summary.roots.len() { ErrorKind::Partial } else { ErrorKind::Failed };
    let error = CommandError::new(kind, message);
    Some(error.with_hint("what was copied is kept; run the same command again to resume"))
}

pub(super) fn summarize_load(
    target: &str,
    report: &land::LoadReport,
    name: impl Fn(&Root) -> String,
) -> LoadSummary {
    let landed = report.landed.iter().map(|landed| {
        let outcome = match landed.outcome {
            LoadOutcome::Present => "present",
            LoadOutcome::Loaded => "loaded",
        };
        describe_root(&landed.root, name(&landed.root), outcome, None)
    });
    let failed = report.failed.iter().map(|failure| {
        describe_root(
            &failure.root,
            name(&failure.root),
            "failed",
            Some(failure.cause.error.clone()),
        )
    });
    LoadSummary {
        target: target.to_owned(),
        is_dry_run: false,
        moved_bytes: report.moved,
        missing_bytes: None,
        roots: landed.chain(failed).collect(),
        models: vec![],
        is_damaged: report
            .failed
            .iter()
            .any(|failed| failed.cause.fault == LoadFailureKind::Integrity),
    }
}

/// The result of a dry run: what would be copied, and what the target has already.
pub(super) fn summarize_preview(
    context: &CommandContext,
    target: String,
    preview: &land::LoadPreview,
    name: impl Fn(&Root) -> String,
) -> LoadSummary {
    if let Some(failure) = &preview.failure {
        context.ui.print_warning(&format!(
            "{target} could not be asked, so it is not known what is there already: {failure}"
        ));
    }
    let rows = preview.roots.iter().map(|found| {
        let outcome = if found.present == Some(true) { "present" } else { "planned" };
        let row = describe_root(&found.root, name(&found.root), outcome, None);
        LoadSummaryRow { bytes: found.bytes, ..row }
    });
    let missing_bytes = Some(preview.missing_bytes);
    LoadSummary { missing_bytes, ..summarize_dry_run(target, rows.collect()) }
}

pub(super) fn summarize_dry_run(target: String, roots: Vec<LoadSummaryRow>) -> LoadSummary {
    LoadSummary {
        target,
        is_dry_run: true,
        moved_bytes: 0,
        missing_bytes: None,
        roots,
        models: vec![],
        is_damaged: false,
    }
}

pub(super) fn describe_root(
    root: &Root,
    target: String,
    outcome: &'static str,
    error: Option<String>,
) -> LoadSummaryRow {
    LoadSummaryRow {
        name: root.name.to_string(),
        kind: root.kind.as_str(),
        target,
        digest: root.descriptor.digest,
        rewritten: None,
        outcome,
        bytes: None,
        error,
    }
}

pub(super) fn format_summary(summary: &LoadSummary) -> String {
    let mut models = String::new();
    for pushed in &summary.models {
        models.push('\n');
        models.push_str(&model_targets::format_push_with_target(pushed));
    }
    if let Some(missing) = summary.missing_bytes {
        return format!("{}{models}", format_preview(summary, missing));
    }
    let rows = summary.roots.iter().map(|row| {
        let outcome = match row.rewritten {
            Some(digest) if digest.algorithm() != row.digest.algorithm() => {
                format!("{} (there {}:{})", row.outcome, digest.algorithm(), digest.short_hex())
            }
            Some(digest) => format!("{} (index rewritten: {})", row.outcome, digest.short_hex()),
            None => row.outcome.to_owned(),
        };
        [row.kind.to_owned(), row.target.clone(), row.digest.short_hex(), outcome]
    });
    let table = ui::format_table(["kind", "name", "digest", ""], rows.collect());
    format!("{table}\n{} copied to {}\n{models}", ByteSize(summary.moved_bytes), summary.target)
}

fn format_preview(summary: &LoadSummary, missing: u64) -> String {
    let rows = summary.roots.iter().map(|row| {
        let size = row.bytes.map_or_else(|| "incomplete".to_owned(), |b| ByteSize(b).to_string());
        let digest = row.digest.short_hex();
        [row.kind.to_owned(), row.target.clone(), digest, size, row.outcome.to_owned()]
    });
    let table = ui::format_table(["kind", "name", "digest", "size", ""], rows.collect());
    let present = summary.roots.iter().filter(|row| row.outcome == "present").count();
    format!(
        "{table}\n{} to copy to {} at most; {present} of {} are there already\n",
        ByteSize(missing),
        summary.target,
        summary.roots.len()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn make_summary(errors: &[Option<&str>]) -> LoadSummary {
        let row = |error: Option<&str>| LoadSummaryRow {
            name: "nginx:1".into(),
            kind: "image",
            target: "site/nginx:1".into(),
            digest: Digest::Sha256([1; 32]),
            rewritten: None,
            outcome: "loaded",
            bytes: None,
            error: error.map(str::to_owned),
        };
        summarize_dry_run("site".into(), errors.iter().copied().map(row).collect())
    }

    #[test]
    fn a_load_is_partly_done_only_where_something_was_copied() {
        let kind = |errors: &[Option<&str>]| {
            find_load_failure(&make_summary(errors)).map(|error| error.kind())
        };
        assert_eq!(kind(&[None, None]), None);
        assert_eq!(kind(&[None, Some("refused")]), Some(ErrorKind::Partial));
        assert_eq!(kind(&[Some("refused"), Some("refused")]), Some(ErrorKind::Failed));
        let damaged = LoadSummary { is_damaged: true, ..make_summary(&[None, Some("damaged")]) };
        assert_eq!(find_load_failure(&damaged).unwrap().kind(), ErrorKind::Integrity);
    }

    #[test]
    fn the_message_of_a_failed_load_names_the_first_item_once() {
        let message = |cause| {
            let error = find_load_failure(&make_summary(&[None, Some(cause)])).unwrap();
            error.message().to_owned()
        };
        assert_eq!(message("refused"), "1 of 2 could not be copied: nginx:1: refused");
        assert_eq!(message("nginx:1 is refused"), "1 of 2 could not be copied: nginx:1 is refused");
    }
}
