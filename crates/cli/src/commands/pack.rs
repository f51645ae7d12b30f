//! `gantry pack`: writes everything in gantry.lock from the store into bundle files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle::{
    BundleContents, BundleFileSize, BundleName, FolderRequest, FolderSupply, PackAction, PackPlan,
    Recheck,
};
use serde::Serialize;
use types::ByteSize;

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::ui::{self, ProgressMeter};

/// Write bundle files to carry across the air gap: everything in gantry.lock, from the store.
///
/// A bundle file is a tar that ordinary tools can open; each can be verified by itself, in any order.
/// The same lock and store give identical files. Files that an interrupted run has finished are kept.
///
/// A bundle that is larger than a disk goes to several: -o is given once for each folder, and they are
/// filled one after the other. On a terminal, Gantry asks for the next disk when all are full. All files,
/// gathered in one folder or given folder by folder, are the bundle.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry pack -o /media/disk
  gantry pack -o /media/disk --file-size 4GiB      # for FAT32, or several disks
  gantry pack -o /media/a -o /media/b --file-size 4GiB   # fills one disk, then the other
  gantry pack --dry-run --file-size 650MB          # how many files of this size it takes
  gantry pack -o - | ssh diode-host 'cat > site.gantry'")]
pub(crate) struct PackArgs {
    /// The folder to write the bundle files to; may be given several times, and the next is used when one
    /// is full. - writes a single file to standard output.
    #[arg(short = 'o', long = "out", value_name = "DIR", default_value = ".")]
    out: Vec<PathBuf>,
    /// Split the bundle into files smaller than this (4GiB, 650MB) [default: a single file].
    #[arg(long, value_name = "SIZE", alias = "volume-size")]
    file_size: Option<ByteSize>,
    /// The version in the file names [default: the first 12 hex digits of the lock's SHA-256].
    #[arg(long, value_name = "VERSION")]
    bundle_version: Option<String>,
    /// Read all of a finished bundle file before keeping it, not only its index.
    #[arg(long)]
    recheck: bool,
    /// Print the bundle files that would be written and where, and what is there already, without writing
    /// anything.
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
    /// What a dry run would write.
    #[serde(rename = "missingBytes", skip_serializing_if = "Option::is_none")]
    missing_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PackSummaryFile {
    file: String,
    bytes: u64,
    /// `written`, or `kept` from an earlier run. In a dry run: `kept`, or `noRoom`; absent where the file
    /// would be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

pub(crate) fn run(context: &CommandContext, args: &PackArgs) -> Result<()> {
    let is_stream = args.out.iter().any(|folder| folder == Path::new("-"));
    check_folders(args, is_stream)?;
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
    let summary = match (args.dry_run, is_stream) {
        (true, _) => preview_files(&plan, if is_stream { &[] } else { &args.out })?,
        // Standard output carries the bundle itself, so no summary can be printed there.
        (false, true) => {
            let meter = context.ui.start_progress("pack");
            let mut out = std::io::stdout().lock();
            let outcome = bundle::pack_to_stream(&store, &plan, &mut out, &*meter);
            meter.finish();
            outcome?;
            return Ok(());
        }
        (false, false) => write_files(context, args, &store, &plan)?,
    };
    context.ui.print_result(&summary, format_summary)
}

/// Refuses folders that cannot be used together.
fn check_folders(args: &PackArgs, is_stream: bool) -> Result<()> {
    if args.out.len() == 1 {
        return Ok(());
    }
    if is_stream {
        return Err(CommandError::usage_error("standard output takes the whole bundle")
            .with_hint("give -o - alone, or only folders"));
    }
    match args.file_size {
        Some(_) => Ok(()),
        None => Err(CommandError::usage_error("a single bundle file goes to a single folder")
            .with_hint("split the bundle into files that fit: --file-size 4GiB")),
    }
}

/// What would be written where.
fn preview_files(plan: &PackPlan, folders: &[PathBuf]) -> Result<PackSummary> {
    let mut missing = 0;
    let mut volumes = Vec::new();
    let previews = match folders {
        [] => Vec::new(),
        folders => bundle::preview_pack(plan, folders)?,
    };
    for (place, volume) in plan.files().iter().enumerate() {
        let preview = previews.get(place);
        let is_finished = preview.is_some_and(|preview| preview.is_finished);
        let path = preview.and_then(|preview| preview.path.as_ref());
        if !is_finished {
            missing += volume.size;
        }
        volumes.push(PackSummaryFile {
            file: path.map_or_else(
                || plan.bundle_name().file_name(volume.number),
                |path| path.display().to_string(),
            ),
            bytes: volume.size,
            outcome: match (is_finished, path, preview) {
                (true, _, _) => Some("kept"),
                (false, None, Some(_)) => Some("noRoom"),
                _ => None,
            },
        });
    }
    Ok(PackSummary {
        bundle: plan.id().to_string(),
        is_dry_run: true,
        volumes,
        bytes: plan.size(),
        missing_bytes: Some(missing),
        manifest: None,
    })
}

fn write_files(
    context: &CommandContext,
    args: &PackArgs,
    store: &store::Store,
    plan: &PackPlan,
) -> Result<PackSummary> {
    let meter = context.ui.start_progress("pack");
    let recheck = if args.recheck { Recheck::Everything } else { Recheck::Index };
    let prompt = DiskPrompt { meter: Arc::clone(&meter) };
    // A single file goes to a single disk, whichever is asked for.
    let can_ask = plan.files().len() > 1 && ui::is_interactive();
    let supply = can_ask.then_some(&prompt as &dyn FolderSupply);
    let packed = bundle::pack_to_folders(store, plan, &args.out, supply, recheck, &*meter);
    meter.finish();
    let packed = packed.map_err(|error| {
        let is_single = args.file_size.is_none();
        let is_full = matches!(error, bundle::Error::NoSpace { .. });
        let error = CommandError::from(error);
        match (is_full, is_single) {
            (true, true) => error.with_hint("or split the bundle over several disks: gantry pack --file-size 4GiB -o DISK -o DISK2"),
            (true, false) => error.with_hint("or give more folders: gantry pack … -o DISK -o DISK2"),
            _ => error,
        }
    })?;
    let volumes = packed.files.iter().map(|volume| PackSummaryFile {
        file: volume.path.display().to_string(),
        bytes: volume.size,
        outcome: Some(match volume.action {
            PackAction::Kept => "kept",
            PackAction::Written => "written",
        }),
    });
    Ok(PackSummary {
        bundle: plan.id().to_string(),
        is_dry_run: false,
        volumes: volumes.collect(),
        bytes: plan.size(),
        missing_bytes: None,
        manifest: packed.manifest.map(|path| path.display().to_string()),
    })
}

/// Asks a person for the next disk.
struct DiskPrompt {
    meter: Arc<ProgressMeter>,
}

impl FolderSupply for DiskPrompt {
    fn request_folder(&self, request: &FolderRequest) -> Option<PathBuf> {
        let question = format!(
            "{full} is full: {} free, {} needs {}; {} files ({}) are left.\n\
             Put in the next disk and press Enter to go on in {full}, or type another folder (q stops):",
            ByteSize(request.free),
            request.file,
            ByteSize(request.needed),
            request.files_left,
            ByteSize(request.bytes_left),
            full = request.full.display(),
        );
        let answer = self.meter.hide_while(|| ui::ask_text(&question))?;
        match answer.as_str() {
            "" => Some(request.full.clone()),
            "q" => None,
            folder => Some(PathBuf::from(folder)),
        }
    }
}

fn format_summary(summary: &PackSummary) -> String {
    let rows = summary.volumes.iter().map(|volume| {
        let outcome = match (volume.outcome, summary.is_dry_run) {
            (None, _) => "planned",
            (Some("kept"), true) => "already there",
            (Some("noRoom"), _) => "no room",
            (Some(outcome), _) => outcome,
        };
        [volume.file.clone(), ByteSize(volume.bytes).to_string(), outcome.to_owned()]
    });
    let mut text = format!(
        "{}\n{} bundle file{}, {}, bundle {}\n",
        ui::format_table(["file", "size", ""], rows.collect()),
        summary.volumes.len(),
        if summary.volumes.len() == 1 { "" } else { "s" },
        ByteSize(summary.bytes),
        &summary.bundle[..12.min(summary.bundle.len())],
    );
    if let Some(missing) = summary.missing_bytes {
        text.push_str(&format!("{} to write\n", ByteSize(missing)));
    }
    text
}
