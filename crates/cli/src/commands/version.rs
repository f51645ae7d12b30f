//! `gantry version`: prints the versions of the binary and of the file formats.

use serde::Serialize;

use crate::context::CommandContext;
use crate::error::Result;

/// Print the version of Gantry and of the file formats that it reads and writes.
#[derive(clap::Args)]
#[command(after_long_help = "Examples:\n  gantry version\n  gantry version --output json")]
pub(crate) struct VersionArgs {}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FormatVersions {
    gantry: &'static str,
    lock_format: u32,
    bundle_format: u32,
    receipt_format: u32,
}

pub(crate) fn run(context: &CommandContext, _: &VersionArgs) -> Result<()> {
    let versions = FormatVersions {
        gantry: env!("CARGO_PKG_VERSION"),
        lock_format: types::lock::VERSION,
        bundle_format: bundle::FORMAT,
        receipt_format: types::receipt::VERSION,
    };
    context.ui.print_result(&versions, |versions| {
        format!(
            "gantry {} (lock {}, bundle {}, receipt {})",
            versions.gantry, versions.lock_format, versions.bundle_format, versions.receipt_format
        )
    })
}
