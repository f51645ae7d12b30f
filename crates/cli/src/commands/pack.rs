//! `gantry pack`.

use std::path::PathBuf;

use bundle::{Contents, Naming, Outcome, Recheck, VolumeSize};
use serde::Serialize;
use types::ByteSize;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::ui;
use crate::world;

/// Write volumes to carry: everything of gantry.lock, from the store.
///
/// A volume is a tar that plain tools open; each can be checked alone, in any order. The same lock
/// and store give the same bytes. Volumes that an interrupted run finished are kept.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry pack -o /media/disk
  gantry pack -o /media/disk --volume-size 4GiB      # FAT32, several disks
  gantry pack --dry-run --volume-size 650MB          # how many disks it takes
  gantry pack -o - | ssh diode-host 'cat > site.gantry'")]
pub(crate) struct Args {
    /// Where the volumes go; `-` writes one volume to stdout.
    #[arg(short = 'o', long = "out", value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Every volume is shorter than this (4GiB, 650MB); one volume when absent.
    #[arg(long, value_name = "SIZE")]
    volume_size: Option<ByteSize>,
    /// The version in the file names [default: the first 12 hex digits of the lock's sha256].
    #[arg(long, value_name = "VERSION")]
    bundle_version: Option<String>,
    /// Read volumes of an earlier run whole before they are kept; else only their index is looked at.
    #[arg(long)]
    recheck: bool,
    /// Only tell what would be written.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    bundle: String,
    is_dry_run: bool,
    volumes: Vec<Volume>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    file: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    let lock = world::lock(context)?;
    let text = lock.print()?;
    let Some(store) = context.existing_store()? else {
        return Err(CommandError::usage("there is no store yet").hint("fill it with: gantry fetch"));
    };
    let version =
        args.bundle_version.clone().unwrap_or_else(|| store::hash::sha256(text.as_bytes()).short());
    let size = args.volume_size.map_or(VolumeSize::Unlimited, VolumeSize::Below);
    let contents = Contents { roots: lock.roots(), lock: text.into_bytes() };
    let naming = Naming::new(&lock.name, &version)?;
    let plan = bundle::plan(&store, contents, naming, size).map_err(|error| match error {
        bundle::Error::Source(store::Error::BlobMissing { digest }) => {
            CommandError::usage(format!("the store does not have all of gantry.lock ({digest})"))
                .hint("bring the rest with: gantry fetch")
        }
        other => other.into(),
    })?;
    let volumes = |outcomes: Option<&[bundle::PackedVolume]>| -> Vec<Volume> {
        plan.volumes()
            .iter()
            .enumerate()
            .map(|(at, volume)| Volume {
                file: outcomes.map_or_else(
                    || plan.naming().file_name(volume.number),
                    |outcomes| outcomes[at].path.display().to_string(),
                ),
                bytes: volume.size,
                outcome: outcomes.map(|outcomes| match outcomes[at].outcome {
                    Outcome::Kept => "kept",
                    Outcome::Written => "written",
                }),
            })
            .collect()
    };
    let mut summary = Summary {
        bundle: plan.id().to_string(),
        is_dry_run: args.dry_run,
        volumes: volumes(None),
        bytes: plan.size(),
        manifest: None,
    };
    if !args.dry_run {
        let meter = context.ui.progress("pack");
        if args.out.as_os_str() == "-" {
            let mut out = std::io::stdout().lock();
            let outcome = bundle::stream(&store, &plan, &mut out, &*meter);
            meter.finish();
            outcome?;
            return Ok(());
        }
        let recheck = if args.recheck { Recheck::Everything } else { Recheck::Index };
        let packed = bundle::pack(&store, &plan, &args.out, recheck, &*meter);
        meter.finish();
        let packed = packed?;
        summary.volumes = volumes(Some(&packed.volumes));
        summary.manifest = packed.manifest.map(|path| path.display().to_string());
    }
    context.ui.result(&summary, |summary| {
        let rows = summary.volumes.iter().map(|volume| {
            let outcome = volume.outcome.unwrap_or("planned").to_owned();
            [volume.file.clone(), ByteSize(volume.bytes).to_string(), outcome]
        });
        let all = ByteSize(summary.bytes);
        format!(
            "{}\n{} volumes, {all}, bundle {}\n",
            ui::table(["volume", "size", ""], rows.collect()),
            summary.volumes.len(),
            &summary.bundle[..12.min(summary.bundle.len())],
        )
    })
}
