//! What `models push`, `verify` and `ls` print, whatever kind of target it is.

use std::path::Path;

use land::models::{ModelPushReport, ModelRecord, ModelVerifyReport, PushMode};
use types::ByteSize;

use super::summary::{
    ModelsListing, ModelsPushSummary, ModelsVerifySummary, PushedModelTarget, VerifiedModelTarget,
};
use crate::context::CommandContext;
use crate::error::{CommandError, ErrorKind, Result};
use crate::ui;

/// Prints what was written to one target.
pub(super) fn print_push(
    context: &CommandContext,
    mode: PushMode,
    pushed: PushedModelTarget,
    format: impl Fn(&PushedModelTarget) -> String,
) -> Result<()> {
    print_left_out(context, &pushed.report);
    let summary = ModelsPushSummary { is_dry_run: mode == PushMode::DryRun, targets: vec![pushed] };
    context.ui.print_result(&summary, |summary| summary.targets.iter().map(format).collect())
}

/// Tells which models and files were not written, since the layout cannot hold them.
pub(super) fn print_left_out(context: &CommandContext, report: &ModelPushReport) {
    for model in &report.left_out {
        context.ui.print_status(&format!(
            "not written to {}: {}, {}",
            report.to, model.name, model.reason
        ));
    }
}

/// Prints what the verification of one target found.
pub(super) fn print_verified(
    context: &CommandContext,
    target: String,
    checked: &ModelVerifyReport,
) -> Result<()> {
    let summary =
        ModelsVerifySummary { targets: vec![VerifiedModelTarget::new(target, None, checked)] };
    context.ui.print_result(&summary, |summary| {
        let rows = summary.targets.iter().flat_map(|target| &target.models).map(|model| {
            let state = if model.intact { "ok" } else { "damaged" };
            [model.name.clone(), model.file_count.to_string(), state.to_owned()]
        });
        ui::format_table(["model", "files", ""], rows.collect())
    })
}

/// Fails if files are damaged. `shown` turns a path in the target into the one to show.
pub(super) fn require_undamaged(
    to: &str,
    shown: impl Fn(&Path) -> String,
    checked: &ModelVerifyReport,
) -> Result<()> {
    let Some(first) = checked.bad.first() else { return Ok(()) };
    let all: Vec<String> =
        checked.bad.iter().map(|bad| format!("{}: {}", shown(&bad.path), bad.fault)).collect();
    Err(CommandError::new(ErrorKind::Integrity, all.join("\n")).with_hint(format!(
        "write the model again: gantry models push BUNDLE… --to {to} --model {}",
        first.model.split('@').next().unwrap_or(&first.model)
    )))
}

/// Prints the models of one target.
pub(super) fn print_records(
    context: &CommandContext,
    target: String,
    records: &[ModelRecord],
) -> Result<()> {
    context.ui.print_result(&ModelsListing::new(target, records), |listing| {
        let rows = listing.models.iter().map(|model| {
            [model.name.clone(), model.files.len().to_string(), ByteSize(model.bytes).to_string()]
        });
        ui::format_table(["model", "files", "size"], rows.collect())
    })
}

pub(super) fn build_no_models_error(place: &str) -> CommandError {
    CommandError::usage_error(format!("{place}: no models that Gantry wrote")).with_hint(
        "write models with: gantry models push BUNDLE… --to TARGET; only those are recorded",
    )
}
