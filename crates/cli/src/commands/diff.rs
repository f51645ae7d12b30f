//! `gantry diff`: compares two locks, bundles, stores or receipts.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use types::content_diff::{ContentDiff, ContentListing};
use types::lock::{Blob, Lock};
use types::own_image;
use types::receipt::Receipt;

use crate::content_changes::format_changes;
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::output_files::{OutputKind, OverwriteArgs};
use crate::value_parsers::parse_report_path;

/// Compare two locks, bundles, stores or receipts: which images, charts, models and files were added,
/// removed or changed, and how many bytes that is.
///
/// Each side is a lock file, a receipt of gantry load, a bundle file, a folder of bundle files, or a store
/// folder; they may be of different kinds. An image, a chart or a model with another tag or version counts
/// as changed. Blobs that both sides have are counted once, so that the bytes are what a second bundle
/// would really add.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry diff old.lock gantry.lock                 # what an update brings
  gantry diff receipt.json gantry.lock             # what the site does not have yet
  gantry diff /media/disk1 /media/disk2            # two bundles
  gantry diff old.lock gantry.lock --report review.html   # a page for a reviewer
  gantry diff old.lock gantry.lock --exit-code     # in CI: exit code 1 if they differ
  gantry diff old.lock gantry.lock --output json | jq .addedBytes")]
pub(crate) struct DiffArgs {
    /// The older lock, bundle, store or receipt.
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The newer one.
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Write a report for a reviewer, as FILE.html or FILE.json; may be given several times.
    #[arg(long, value_name = "FILE", value_parser = parse_report_path)]
    report: Vec<PathBuf>,
    #[command(flatten)]
    overwrite: OverwriteArgs,
    /// Exit with code 1 if they differ.
    #[arg(long)]
    exit_code: bool,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct DiffSummary {
    /// The older side, as it was given.
    from: String,
    /// The newer side, as it was given.
    to: String,
    #[serde(flatten)]
    diff: ContentDiff,
}

pub(crate) fn run(context: &CommandContext, args: &DiffArgs) -> Result<()> {
    for path in &args.report {
        args.overwrite.check_file(path, OutputKind::ContentReport)?;
    }
    let diff = read_listing(&args.before)?.diff(&read_listing(&args.after)?);
    let summary = DiffSummary {
        from: args.before.display().to_string(),
        to: args.after.display().to_string(),
        diff,
    };
    for path in &args.report {
        let text = match path.extension().is_some_and(|extension| extension == "html") {
            true => evidence::render_changes_page(
                (&summary.from, &summary.to),
                &summary.diff,
                own_image::VERSION,
            )?,
            false => environment::format_report_json(path, &summary)? + "\n",
        };
        environment::write_file(path, &text)?;
    }
    context.ui.print_result(&summary, |summary| format_changes(&summary.diff))?;
    if args.exit_code && !summary.diff.is_empty() {
        return Err(CommandError::failure(format!("{} and {} differ", summary.from, summary.to)));
    }
    Ok(())
}

/// Reads the content of one side, whatever it is.
fn read_listing(path: &Path) -> Result<ContentListing> {
    let is_bundle_file = path.extension().is_some_and(|extension| extension == "gantry");
    if path.is_dir() || is_bundle_file || !environment::is_single_bundle_file(path) {
        return list_source(path);
    }
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|cause| {
        CommandError::usage_error(format!("cannot read {shown}: {cause}"))
            .with_hint("give a lock file, a receipt, a bundle or a store folder")
    })?;
    // Of the two documents only the receipt is JSON.
    if text.trim_start().starts_with('{') {
        return Ok(ContentListing::from_receipt(&Receipt::parse(&shown, &text)?));
    }
    Ok(ContentListing::from_lock(&Lock::parse(&shown, &text)?))
}

/// Lists what a store has, or what a bundle was packed from. Of a bundle the first file is enough.
fn list_source(path: &Path) -> Result<ContentListing> {
    if !path.join("index.json").is_file() {
        let files = environment::find_bundle_files(&[path.to_owned()])?;
        let bundle = bundle::Bundle::open_partial(&files)?;
        let text = String::from_utf8_lossy(bundle.lock());
        return Ok(ContentListing::from_lock(&Lock::parse(&path.display().to_string(), &text)?));
    }
    let source = environment::open_source(&[path.to_owned()])?;
    let mut listing = ContentListing::default();
    for root in source.roots()? {
        let closure = store::find_closure(&*source, &root)?;
        let blobs: Vec<Blob> = closure.descriptors().map(Blob::from).collect();
        listing.add_item(root.kind, root.name, root.descriptor.digest, blobs);
    }
    Ok(listing)
}
