//! `gantry verify`: hashes bundle files, after they were copied and before anything reads them.

use std::path::PathBuf;

use serde::Serialize;
use types::ByteSize;

use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::world;

/// Verify bundle files: every byte of each file against its digests.
///
/// The files can be verified in any order and on different machines. Given several, Gantry also checks
/// that they belong to one bundle, and lists the missing ones.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry verify /media/disk/*.gantry
  gantry verify /media/disk1/site-3f2a.0001.gantry   # one of several
  gantry verify /media/disk                          # all bundle files in a folder")]
pub(crate) struct Args {
    /// Bundle files, folders of bundle files, or the .gantry.json beside them.
    #[arg(required = true, value_name = "BUNDLE")]
    volumes: Vec<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    volume: String,
    bundle: Option<String>,
    number: Option<u32>,
    count: Option<u32>,
    bytes: u64,
    is_whole: bool,
    damages: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    volumes: Vec<Checked>,
    /// The numbers of the bundle files that were not given.
    missing: Vec<u32>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    let paths = world::volumes(&args.volumes)?;
    let meter = context.ui.progress("verify");
    let mut summary = Summary { volumes: Vec::new(), missing: Vec::new() };
    let mut whole = Vec::new();
    let mut kinds = Vec::new();
    for path in &paths {
        let shown = path.display().to_string();
        summary.volumes.push(match bundle::verify(path, &*meter) {
            Ok(verification) => {
                let is_whole = verification.is_whole();
                if !is_whole {
                    kinds.push(Kind::Integrity);
                }
                let end = verification.volume.end();
                let checked = Checked {
                    volume: shown,
                    bundle: Some(end.bundle.to_string()),
                    number: Some(end.number),
                    count: Some(end.count),
                    bytes: end.length,
                    is_whole,
                    damages: verification.damages.iter().map(ToString::to_string).collect(),
                };
                whole.push(verification.volume);
                checked
            }
            Err(error) => {
                let message = error.to_string();
                let kind = CommandError::from(error).kind();
                // An unreadable disk says nothing about the bundle, so the run ends there. A damaged or
                // foreign file is a result, and the other files are still verified.
                if kind != Kind::Integrity && kind != Kind::Usage {
                    meter.clear();
                    return Err(CommandError::new(kind, message));
                }
                kinds.push(kind);
                Checked {
                    volume: shown,
                    bundle: None,
                    number: None,
                    count: None,
                    bytes: 0,
                    is_whole: false,
                    damages: vec![message],
                }
            }
        });
    }
    meter.finish();
    let set = if whole.is_empty() { None } else { Some(bundle::Set::of(whole)?) };
    if let Some(set) = &set {
        summary.missing = set.missing().to_vec();
    }
    // Printed before the check that the files fit together, so that the state of each file is shown in
    // any case.
    context.ui.result(&summary, print)?;
    if let Some(set) = &set {
        set.consistent()?;
    }
    if kinds.is_empty() {
        return Ok(());
    }
    // A file that is no bundle file at all is bad usage, unless another one is damaged.
    let kind = if kinds.contains(&Kind::Integrity) { Kind::Integrity } else { Kind::Usage };
    let damaged = summary.volumes.iter().filter(|volume| !volume.is_whole).count();
    Err(CommandError::new(
        kind,
        format!("verification failed for {damaged} of {} bundle files", paths.len()),
    )
    .hint("verify the originals, then copy the damaged files again"))
}

fn print(summary: &Summary) -> String {
    let mut text = String::new();
    for volume in &summary.volumes {
        let state = if volume.is_whole { "ok" } else { "DAMAGED" };
        let place = match (volume.number, volume.count) {
            (Some(number), Some(count)) => format!(", file {number} of {count}"),
            _ => String::new(),
        };
        text.push_str(&format!("{}: {state}{place}, {}\n", volume.volume, ByteSize(volume.bytes)));
        for damage in &volume.damages {
            text.push_str(&format!("  {damage}\n"));
        }
    }
    if !summary.missing.is_empty() {
        let numbers: Vec<_> = summary.missing.iter().map(ToString::to_string).collect();
        text.push_str(&format!("not given: files {}\n", numbers.join(", ")));
    }
    text
}
