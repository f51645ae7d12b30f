//! `gantry verify`.

use std::path::PathBuf;

use serde::Serialize;
use types::ByteSize;

use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::world;

/// Check volumes: every byte, each volume by itself.
///
/// Volumes can be checked in any order and on different machines. With several, it is also checked
/// that they are of one bundle, and which are missing.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry verify /media/disk/*.gantry
  gantry verify /media/disk1/site-3f2a.0001.gantry   # one alone
  gantry verify /media/disk                          # all volumes of a folder")]
pub(crate) struct Args {
    /// Volume files, folders with volumes, or the .gantry.json beside them.
    #[arg(required = true, value_name = "VOLUME")]
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
    /// Numbers of volumes of the bundle that were not given.
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
    context.ui.result(&summary, print)?;
    if let Some(set) = &set {
        set.consistent()?;
    }
    if kinds.is_empty() {
        return Ok(());
    }
    let kind = if kinds.contains(&Kind::Integrity) { Kind::Integrity } else { Kind::Usage };
    let damaged = summary.volumes.iter().filter(|volume| !volume.is_whole).count();
    Err(CommandError::new(kind, format!("{damaged} of {} volumes are not whole", paths.len()))
        .hint("copy those again from where they are whole, and verify them there first"))
}

fn print(summary: &Summary) -> String {
    let mut text = String::new();
    for volume in &summary.volumes {
        let state = if volume.is_whole { "whole" } else { "DAMAGED" };
        let place = match (volume.number, volume.count) {
            (Some(number), Some(count)) => format!(", volume {number} of {count}"),
            _ => String::new(),
        };
        text.push_str(&format!("{}: {state}{place}, {}\n", volume.volume, ByteSize(volume.bytes)));
        for damage in &volume.damages {
            text.push_str(&format!("  {damage}\n"));
        }
    }
    if !summary.missing.is_empty() {
        let numbers: Vec<_> = summary.missing.iter().map(ToString::to_string).collect();
        text.push_str(&format!("not looked at: volumes {}\n", numbers.join(", ")));
    }
    text
}
