//! `gantry diff`: compares two locks, bundles, stores or receipts.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use types::ByteSize;
use types::content_diff::{ContentDiff, ContentListing, DiffChange, DiffItem};
use types::lock::{Blob, ImageReason, Lock};
use types::receipt::Receipt;

use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::{environment, ui};

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
  gantry diff old.lock gantry.lock --exit-code     # in CI: exit code 1 if they differ
  gantry diff old.lock gantry.lock --output json | jq .addedBytes")]
pub(crate) struct DiffArgs {
    /// The older lock, bundle, store or receipt.
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The newer one.
    #[arg(value_name = "B")]
    after: PathBuf,
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
    let diff = read_listing(&args.before)?.diff(&read_listing(&args.after)?);
    let summary = DiffSummary {
        from: args.before.display().to_string(),
        to: args.after.display().to_string(),
        diff,
    };
    context.ui.print_result(&summary, format_summary)?;
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

fn format_summary(summary: &DiffSummary) -> String {
    let diff = &summary.diff;
    let row = |sign: &str, item: &DiffItem, what: String| {
        let size = item.bytes.map(|bytes| ByteSize(bytes).to_string()).unwrap_or_default();
        let reason = item.reason.as_ref().map(ImageReason::to_string).unwrap_or_default();
        [sign.to_owned(), item.kind.as_str().to_owned(), item.name.to_string(), what, size, reason]
    };
    let removed = diff.removed.iter().map(|item| row("-", item, "removed".into()));
    let added = diff.added.iter().map(|item| row("+", item, "added".into()));
    let changed =
        diff.changed.iter().map(|change| row("~", &change.after, describe_change(change)));
    let rows: Vec<_> = removed.chain(added).chain(changed).collect();
    let mut text = match rows.is_empty() {
        true => String::new(),
        false => ui::format_table(["", "kind", "name", "", "size", "named by"], rows),
    };
    let _ = writeln!(
        text,
        "{} added, {} removed, {} changed, {} the same",
        diff.added.len(),
        diff.removed.len(),
        diff.changed.len(),
        diff.same
    );
    let _ = writeln!(
        text,
        "{} to carry, {} no longer needed, {} in both",
        ByteSize(diff.added_bytes),
        ByteSize(diff.removed_bytes),
        ByteSize(diff.shared_bytes)
    );
    text
}

/// What a change is: the tag or version that it was before, or the digest where the name is the same.
fn describe_change(change: &DiffChange) -> String {
    match change.before.name == change.after.name {
        true => format!("was {}", change.before.digest.short_hex()),
        false => format!("was {}", change.before.name.digest_or_tag()),
    }
}
