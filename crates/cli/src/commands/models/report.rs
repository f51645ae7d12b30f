//! What `models verify` and `models ls` print, whatever kind of target they read.

use std::path::Path;

use land::models::{ModelRecord, ModelVerifyReport};
use types::ByteSize;

use crate::error::{CommandError, ErrorKind, Result};
use crate::ui;

pub(super) fn format_checked_models(checked: &ModelVerifyReport) -> String {
    let is_bad = |name: &str| checked.bad.iter().any(|bad| bad.model == name);
    let rows = checked.models.iter().map(|(name, files)| {
        let state = if is_bad(name) { "damaged" } else { "ok" };
        [name.clone(), files.to_string(), state.to_owned()]
    });
    ui::format_table(["model", "files", ""], rows.collect())
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

pub(super) fn format_records(records: &[ModelRecord]) -> String {
    let rows = records.iter().map(|record| {
        let size: u64 = record.files.values().map(|file| file.size).sum();
        [record.name.clone(), record.files.len().to_string(), ByteSize(size).to_string()]
    });
    ui::format_table(["model", "files", "size"], rows.collect())
}

pub(super) fn build_no_models_error(place: &str) -> CommandError {
    CommandError::usage_error(format!("{place}: no models that Gantry wrote")).with_hint(
        "write models with: gantry models push BUNDLE… --to TARGET; only those are recorded",
    )
}
