//! `gantry pack`: writes everything in gantry.lock from the store into bundle files.

use std::path::PathBuf;

use bundle::{BundleContents, BundleFileSize, BundleName, PackAction, Recheck};
use serde::Serialize;
use types::ByteSize;

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::ui;

/// Write bundle files to carry across the air gap: everything in gantry.lock, from the store.
///
/// A bundle file is a tar that ordinary tools can open; each can be verified by itself, in any order.
/// The same lock and store give identical files. Files that an interrupted run has finished are kept.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry pack -o /media/disk
  gantry pack -o /media/disk --file-size 4GiB      # for FAT32, or several disks
  gantry pack --dry-run --file-size 650MB          # how many files of this size it takes
  gantry pack -o - | ssh diode-host 'cat > site.gantry'")]
pub(crate) struct PackArgs {
    /// The folder to write the bundle files to; - writes a single one to standard output.
    #[arg(short = 'o', long = "out", value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Split the bundle into files smaller than this (4GiB, 650MB) [default: a single file].
    #[arg(long, value_name = "SIZE", alias = "volume-size")]
    file_size: Option<ByteSize>,
    /// The version in the file names [default: the first 12 hex digits of the lock's SHA-256].
    #[arg(long, value_name = "VERSION")]
    bundle_version: Option<String>,
    /// Read all of a finished bundle file before keeping it, not only its index.
    #[arg(long)]
    recheck: bool,
    /// Print the bundle files that would be written, without writing them.
    #[arg(long)]
    dry_run: bool,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PackSummary {
    bundle: String,
    #[serde(rename = "dryRun")]
    is_dry_run: bool,
    #[serde(rename = "files")]
    volumes: Vec<PackSummaryFile>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PackSummaryFile {
    file: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

pub(crate) fn run(context: &CommandContext, args: &PackArgs) -> Result<()> {
    let is_stream = args.out.as_os_str() == "-";
    if is_stream && !args.dry_run && ui::is_stdout_terminal() {
        return Err(CommandError::usage_error("a bundle is not written to a terminal").with_hint(
            "redirect it: gantry pack -o - > site.gantry, or name a folder with -o DIR",
        ));
    }
    let lock = environment::read_current_lock(context)?;
    let text = lock.to_yaml()?;
    let Some(store) = context.open_existing_store()? else {
        return Err(CommandError::usage_error("there is no store yet")
            .with_hint("create one with: gantry fetch"));
    };
    // `store gc` must not remove what is packed while hours of writing pass.
    let _session = store.open_read_session()?;
    // A version derived from the lock gives the same file names for the same content, which lets an
    // interrupted pack find its finished files again.
    let version = args
        .bundle_version
        .clone()
        .unwrap_or_else(|| store::hash::sha256(text.as_bytes()).short_hex());
    let size = args.file_size.map_or(BundleFileSize::Unlimited, BundleFileSize::Below);
    let contents = BundleContents { roots: lock.roots(), lock: text.into_bytes() };
    let naming = BundleName::new(&lock.name, &version)?;
    let plan = bundle::plan_files(&store, contents, naming, size).map_err(|error| match error {
        bundle::Error::Source(store::Error::BlobMissing { digest }) => CommandError::usage_error(
            format!("the store is incomplete: blob {digest} of gantry.lock is missing"),
        )
        .with_hint("download the rest with: gantry fetch"),
        other => other.into(),
    })?;
    let volumes = |outcomes: Option<&[bundle::PackedBundleFile]>| -> Vec<PackSummaryFile> {
        plan.files()
            .iter()
            .enumerate()
            .map(|(at, volume)| PackSummaryFile {
                file: outcomes.map_or_else(
                    || plan.bundle_name().file_name(volume.number),
                    |outcomes| outcomes[at].path.display().to_string(),
                ),
                bytes: volume.size,
                outcome: outcomes.map(|outcomes| match outcomes[at].action {
                    PackAction::Kept => "kept",
                    PackAction::Written => "written",
                }),
            })
            .collect()
    };
    let mut summary = PackSummary {
        bundle: plan.id().to_string(),
        is_dry_run: args.dry_run,
        volumes: volumes(None),
        bytes: plan.size(),
        manifest: None,
    };
    if !args.dry_run {
        let meter = context.ui.start_progress("pack");
        // Standard output carries the bundle itself, so no summary can be printed there.
        if is_stream {
            let mut out = std::io::stdout().lock();
            let outcome = bundle::pack_to_stream(&store, &plan, &mut out, &*meter);
            meter.finish();
            outcome?;
            return Ok(());
        }
        let recheck = if args.recheck { Recheck::Everything } else { Recheck::Index };
        let packed = bundle::pack_to_folder(&store, &plan, &args.out, recheck, &*meter);
        meter.finish();
        let packed = packed?;
        summary.volumes = volumes(Some(&packed.files));
        summary.manifest = packed.manifest.map(|path| path.display().to_string());
    }
    context.ui.print_result(&summary, |summary| {
        let rows = summary.volumes.iter().map(|volume| {
            let outcome = volume.outcome.unwrap_or("planned").to_owned();
            [volume.file.clone(), ByteSize(volume.bytes).to_string(), outcome]
        });
        let all = ByteSize(summary.bytes);
        format!(
            "{}\n{} bundle file{}, {all}, bundle {}\n",
            ui::format_table(["file", "size", ""], rows.collect()),
            summary.volumes.len(),
            if summary.volumes.len() == 1 { "" } else { "s" },
            &summary.bundle[..12.min(summary.bundle.len())],
        )
    })
}
