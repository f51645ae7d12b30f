//! `gantry store`: lists, verifies and cleans up the local store.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Serialize;
use store::{DamagePolicy, GarbageMode};
use types::{ByteSize, GoDuration, Reference};

use crate::context::CommandContext;
use crate::error::{CommandError, ErrorKind, Result};
use crate::ui;
use crate::value_parsers::duration_within;

/// The longest `--older-than`: more is a typing error.
const DECADE: Duration = Duration::from_hours(10 * 365 * 24);

/// List, verify and clean up the local store.
#[derive(clap::Subcommand)]
pub(crate) enum StoreCommand {
    /// List the images, charts, models and files in the store.
    #[command(after_long_help = "Examples:\n  gantry store ls\n  gantry store ls --output json")]
    Ls,
    /// Verify every blob against its digest, and check that nothing is missing.
    #[command(after_long_help = "\
Examples:
  gantry store verify
  gantry store verify --remove && gantry fetch    # replace what is damaged")]
    Verify {
        /// Delete damaged blobs, so that the next fetch downloads them again.
        #[arg(long)]
        remove: bool,
    },
    /// Delete blobs that nothing in the store needs, and partial downloads.
    ///
    /// Blobs and partial downloads that are younger than 14 days are kept, so that a stopped fetch
    /// resumes with everything that it had downloaded.
    #[command(after_long_help = "\
Examples:
  gantry store gc --dry-run
  gantry store gc
  gantry store gc --older-than 0s     # free all space that can be freed")]
    Gc {
        /// Print what would be deleted, without deleting it.
        #[arg(long)]
        dry_run: bool,
        /// Delete only what was not written or fetched for this long, such as 30d or 12h.
        #[arg(long, value_name = "TIME", default_value = "14d", value_parser = duration_within(Duration::ZERO..=DECADE))]
        older_than: Duration,
        /// Do not ask before deleting; without a terminal, Gantry never asks.
        #[arg(short, long)]
        yes: bool,
    },
    /// Remove images, charts, models or files by name; gantry store gc then frees their space.
    #[command(
        after_long_help = "Examples:\n  gantry store rm docker.io/library/nginx:1.25 && gantry store gc --older-than 0s"
    )]
    Rm {
        /// The names, as gantry store ls lists them.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<Reference>,
        /// Do not ask before removing; without a terminal, Gantry never asks.
        #[arg(short, long)]
        yes: bool,
    },
}

pub(crate) fn run(context: &CommandContext, command: &StoreCommand) -> Result<()> {
    let Some(store) = context.open_existing_store()? else {
        let path = context.store_path()?;
        return Err(CommandError::usage_error(format!("there is no store at {}", path.display()))
            .with_hint(
                "name its folder with --store or GANTRY_STORE, or create one with: gantry fetch",
            ));
    };
    match command {
        StoreCommand::Ls => list_roots(context, &store),
        StoreCommand::Verify { remove } => verify_store(context, &store, *remove),
        StoreCommand::Gc { dry_run: true, older_than, .. } => {
            collect_garbage(context, &store, GarbageMode::DryRun, *older_than)
        }
        StoreCommand::Gc { yes, older_than, .. } => {
            if !yes {
                confirm_garbage(context, &store, *older_than)?;
            }
            collect_garbage(context, &store, GarbageMode::Remove, *older_than)
        }
        StoreCommand::Rm { names, yes } => {
            if !yes {
                context.ui.require_confirmation(&format!(
                    "remove {} from the store?",
                    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ))?;
            }
            remove_roots(context, &store, names)
        }
    }
}

/// The result of `store ls`.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct StoreListing {
    roots: Vec<StoredRoot>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StoredRoot {
    name: String,
    kind: &'static str,
    digest: types::Digest,
    /// The size of everything that it needs; absent if something is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

fn list_roots(context: &CommandContext, store: &store::Store) -> Result<()> {
    let roots: Vec<StoredRoot> = store
        .roots()?
        .into_iter()
        .map(|root| StoredRoot {
            name: root.name.to_string(),
            kind: root.kind.as_str(),
            digest: root.descriptor.digest,
            bytes: store::find_closure(store, &root).ok().map(|closure| closure.size()),
        })
        .collect();
    context.ui.print_result(&StoreListing { roots }, |listing| {
        let rows = listing.roots.iter().map(|row| {
            let size = row.bytes.map_or_else(|| "incomplete".into(), |b| ByteSize(b).to_string());
            [row.kind.to_owned(), row.name.clone(), row.digest.short_hex(), size]
        });
        ui::format_table(["kind", "name", "digest", "size"], rows.collect())
    })
}

/// The result of `store verify`.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoreCheckSummary {
    #[serde(rename = "blobCount")]
    blobs: u64,
    bytes: u64,
    #[serde(rename = "rootCount")]
    roots: u64,
    #[serde(rename = "damagedBlobs")]
    damaged: Vec<String>,
    #[serde(rename = "incompleteRoots")]
    broken: Vec<String>,
}

fn verify_store(context: &CommandContext, store: &store::Store, remove: bool) -> Result<()> {
    // Hashing is bound by the processor on fast disks, so all cores take part.
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let damage = if remove { DamagePolicy::Remove } else { DamagePolicy::Keep };
    let meter = context.ui.start_progress("verify");
    let verification = store.verify(damage, threads, &*meter)?;
    meter.finish();
    let result = StoreCheckSummary {
        blobs: verification.blobs,
        bytes: verification.bytes,
        roots: verification.roots,
        damaged: verification.damaged.iter().map(describe_damaged_blob).collect(),
        broken: verification.broken.iter().map(describe_broken_root).collect(),
    };
    context.ui.print_result(&result, |result| {
        let mut text = format!(
            "{} blobs ({}) of {} entries verified\n",
            result.blobs,
            ByteSize(result.bytes),
            result.roots
        );
        for line in result.damaged.iter().chain(&result.broken) {
            text.push_str(&format!("  {line}\n"));
        }
        text
    })?;
    if verification.is_intact() {
        return Ok(());
    }
    let hint = if remove {
        "download them again with: gantry fetch"
    } else {
        "delete the damaged blobs and download them again: gantry store verify --remove && gantry fetch"
    };
    Err(CommandError::new(ErrorKind::Integrity, "the store is damaged").with_hint(hint))
}

fn describe_damaged_blob(found: &store::DamagedBlob) -> String {
    let fault = match &found.fault {
        store::BlobFault::Content(actual) => format!("its content has the digest {actual}"),
        store::BlobFault::Unreadable(cause) => format!("it cannot be read: {cause}"),
    };
    let needed: Vec<_> = found.needed_by.iter().map(ToString::to_string).collect();
    let needed = if needed.is_empty() { "nothing".to_owned() } else { needed.join(", ") };
    format!("{} is damaged: {fault}; needed by: {needed}", found.digest)
}

fn describe_broken_root(found: &store::BrokenRoot) -> String {
    let problems: Vec<_> = found.problems.iter().map(ToString::to_string).collect();
    format!("{} is incomplete: {}", found.name, problems.join("; "))
}

/// The result of `store gc`.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GarbageSummary {
    #[serde(rename = "dryRun")]
    is_dry_run: bool,
    /// What is younger than this many seconds was kept.
    older_than_seconds: u64,
    /// Blobs that nothing in the store needs.
    #[serde(rename = "blobCount")]
    blobs: usize,
    blob_bytes: u64,
    /// Partial downloads, and files that a killed process was adding.
    #[serde(rename = "partialCount")]
    partials: u64,
    partial_bytes: u64,
    /// The sum of both.
    bytes: u64,
    /// Blobs that nothing needs and that are too young.
    #[serde(rename = "keptBlobCount")]
    kept_blobs: u64,
    kept_blob_bytes: u64,
    /// Partial downloads that are too young.
    #[serde(rename = "keptPartialCount")]
    kept_partials: u64,
    kept_partial_bytes: u64,
}

/// Asks on a terminal whether the blobs that nothing needs may be deleted, and says how much that is.
fn confirm_garbage(
    context: &CommandContext,
    store: &store::Store,
    older_than: Duration,
) -> Result<()> {
    if !ui::is_interactive() {
        return Ok(());
    }
    let found =
        store.collect_garbage(GarbageMode::DryRun, older_than, &store::progress::SilentProgress)?;
    if found.blobs.is_empty() && found.partials == 0 {
        return Ok(());
    }
    context.ui.require_confirmation(&format!(
        "delete {} blobs and {} partial downloads ({})?",
        found.blobs.len(),
        found.partials,
        ByteSize(found.freed_bytes())
    ))
}

fn collect_garbage(
    context: &CommandContext,
    store: &store::Store,
    mode: GarbageMode,
    older_than: Duration,
) -> Result<()> {
    let meter = context.ui.start_progress("gc");
    let collected = store.collect_garbage(mode, older_than, &*meter);
    meter.clear();
    let collected = collected?;
    let result = GarbageSummary {
        is_dry_run: mode == GarbageMode::DryRun,
        older_than_seconds: older_than.as_secs(),
        blobs: collected.blobs.len(),
        blob_bytes: collected.blob_bytes(),
        partials: collected.partials,
        partial_bytes: collected.partial_bytes,
        bytes: collected.freed_bytes(),
        kept_blobs: collected.recent_blobs,
        kept_blob_bytes: collected.recent_blob_bytes,
        kept_partials: collected.recent_partials,
        kept_partial_bytes: collected.recent_partial_bytes,
    };
    context.ui.print_result(&result, |result| {
        let verb = if result.is_dry_run { "would be deleted" } else { "deleted" };
        let mut text = format!(
            "{verb}: {} blobs that nothing in the store needs ({}), {} partial downloads ({})\n",
            result.blobs,
            ByteSize(result.blob_bytes),
            result.partials,
            ByteSize(result.partial_bytes)
        );
        if result.kept_blobs + result.kept_partials > 0 {
            text.push_str(&format!(
                "kept: {} such blobs ({}) and {} partial downloads ({}) that are younger than {}; \
                 delete them too with: gantry store gc --older-than 0s\n",
                result.kept_blobs,
                ByteSize(result.kept_blob_bytes),
                result.kept_partials,
                ByteSize(result.kept_partial_bytes),
                describe_age(older_than)
            ));
        }
        text
    })
}

/// A time in days where it is a whole number of them.
fn describe_age(age: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match age.as_secs() {
        seconds if seconds >= DAY && seconds % DAY == 0 => format!("{} days", seconds / DAY),
        _ => GoDuration(age).to_string(),
    }
}

fn remove_roots(context: &CommandContext, store: &store::Store, names: &[Reference]) -> Result<()> {
    store.unpublish_roots(names)?;
    context
        .ui
        .print_status(&format!("removed: {}; free the space with: gantry store gc", names.len()));
    Ok(())
}
