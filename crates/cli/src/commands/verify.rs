//! `gantry verify`: hashes bundle files, after they were copied and before anything reads them.

use std::path::PathBuf;

use serde::Serialize;
use types::ByteSize;

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, ErrorKind, Result};

/// Verify bundle files: every byte of each file against its digests.
///
/// The files can be verified in any order and on different machines. Given several, Gantry also checks
/// that they belong to one bundle, and lists the missing ones. A folder, or the .gantry.json in it,
/// stands for the whole bundle: exit code 4 if one of its files is missing there.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry verify /media/disk/*.gantry
  gantry verify /media/disk1/site-3f2a.0001.gantry   # one of several
  gantry verify /media/disk                          # all bundle files in a folder
  gantry verify /media/disk1 /media/disk2            # a bundle over several disks")]
pub(crate) struct VerifyArgs {
    /// Bundle files, folders of bundle files, or the .gantry.json beside them.
    #[arg(required = true, value_name = "BUNDLE")]
    volumes: Vec<PathBuf>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VerifiedBundleFile {
    #[serde(rename = "file")]
    volume: String,
    bundle: Option<String>,
    number: Option<u32>,
    count: Option<u32>,
    bytes: u64,
    #[serde(rename = "intact")]
    is_whole: bool,
    damages: Vec<String>,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VerifySummary {
    #[serde(rename = "files")]
    volumes: Vec<VerifiedBundleFile>,
    /// The numbers of the bundle files that were not given.
    #[serde(rename = "missingFiles")]
    missing: Vec<u32>,
    /// Their names.
    #[serde(rename = "missingFileNames", skip_serializing_if = "Vec::is_empty")]
    missing_names: Vec<String>,
}

pub(crate) fn run(context: &CommandContext, args: &VerifyArgs) -> Result<()> {
    let named = environment::find_bundle_files(&args.volumes)?;
    let (paths, absent): (Vec<PathBuf>, Vec<PathBuf>) =
        named.into_iter().partition(|path| path.exists());
    if paths.is_empty() {
        return Err(build_missing_error(count_files(absent.len())));
    }
    let meter = context.ui.start_progress("verify");
    let mut summary =
        VerifySummary { volumes: Vec::new(), missing: Vec::new(), missing_names: Vec::new() };
    let mut whole = Vec::new();
    let mut kinds = Vec::new();
    for path in &paths {
        let shown = path.display().to_string();
        summary.volumes.push(match bundle::verify_file(path, &*meter) {
            Ok(verification) => {
                let is_whole = verification.is_whole();
                if !is_whole {
                    kinds.push(ErrorKind::Integrity);
                }
                let end = verification.file.end_record();
                let checked = VerifiedBundleFile {
                    volume: shown,
                    bundle: Some(end.bundle.to_string()),
                    number: Some(end.number),
                    count: Some(end.count),
                    bytes: end.length,
                    is_whole,
                    damages: verification.damages.iter().map(ToString::to_string).collect(),
                };
                whole.push(verification.file);
                checked
            }
            Err(error) => {
                let message = error.to_string();
                let kind = CommandError::from(error).kind();
                // An unreadable disk says nothing about the bundle, so the run ends there. A damaged or
                // foreign file is a result, and the other files are still verified.
                if kind != ErrorKind::Integrity && kind != ErrorKind::Usage {
                    meter.clear();
                    return Err(CommandError::new(kind, message));
                }
                kinds.push(kind);
                VerifiedBundleFile {
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
    let set = if whole.is_empty() { None } else { Some(bundle::BundleFileSet::from_files(whole)?) };
    if let Some(set) = &set {
        summary.missing = set.missing_numbers().to_vec();
        summary.missing_names = set.missing_names();
    }
    // Printed before the check that the files fit together, so that the state of each file is shown in
    // any case.
    context.ui.print_result(&summary, format_summary)?;
    if let Some(set) = &set {
        set.check_consistent()?;
    }
    if kinds.is_empty() {
        // Single files are verified one by one, on whatever disk each is. A folder or a manifest
        // stands for the bundle.
        let are_single = args.volumes.iter().all(|path| environment::is_single_bundle_file(path));
        let missing = &summary.missing;
        if missing.is_empty() || are_single {
            return Ok(());
        }
        let count = count_files(missing.len());
        return Err(build_missing_error(format!("{count}: {}", format_missing(&summary))));
    }
    // A file that is no bundle file at all is bad usage, unless another one is damaged.
    let kind =
        if kinds.contains(&ErrorKind::Integrity) { ErrorKind::Integrity } else { ErrorKind::Usage };
    let damaged = summary.volumes.iter().filter(|volume| !volume.is_whole).count();
    Err(CommandError::new(
        kind,
        format!("verification failed for {damaged} of {} bundle files", paths.len()),
    )
    .with_hint("verify the originals, then copy the damaged files again"))
}

/// The error for a bundle that is not whole where it should be.
fn build_missing_error(what: String) -> CommandError {
    CommandError::new(ErrorKind::Partial, what)
        .with_hint("copy the missing files to the others and verify again")
        .with_hint("to verify a single file, name it instead of its folder")
}

fn count_files(count: usize) -> String {
    match count {
        1 => "1 bundle file is missing".to_owned(),
        count => format!("{count} bundle files are missing"),
    }
}

/// The missing files, by name and number.
fn format_missing(summary: &VerifySummary) -> String {
    /// A bundle may have thousands of files; the result in JSON lists all.
    const SHOWN: usize = 20;
    let files = summary.missing_names.iter().zip(&summary.missing);
    let shown: Vec<String> =
        files.take(SHOWN).map(|(name, number)| format!("{name} (file {number})")).collect();
    match summary.missing.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn format_summary(summary: &VerifySummary) -> String {
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
        text.push_str(&format!("not given: {}\n", format_missing(summary)));
    }
    text
}
