//! `gantry store`: the house-keeping of the store.

use std::num::NonZeroUsize;

use serde::Serialize;
use store::{Damage, GcMode};
use types::{ByteSize, Reference};

use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::ui;

/// Look at the store, check it, clean it.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List what is in the store.
    #[command(after_long_help = "Examples:\n  gantry store ls\n  gantry store ls --output json")]
    Ls,
    /// Hash every blob again and check that every root is whole.
    #[command(after_long_help = "\
Examples:
  gantry store verify
  gantry store verify --remove && gantry fetch    # mend what is damaged")]
    Verify {
        /// Remove damaged blobs, so that the next fetch brings them again.
        #[arg(long)]
        remove: bool,
    },
    /// Remove blobs that no root needs, and partial downloads that nobody went on with for a week.
    #[command(after_long_help = "Examples:\n  gantry store gc --dry-run\n  gantry store gc")]
    Gc {
        /// Only tell what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove roots by name; their blobs go with the next gc.
    #[command(
        after_long_help = "Examples:\n  gantry store rm docker.io/library/nginx:1.25 && gantry store gc"
    )]
    Rm {
        /// The names, as `store ls` shows them.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<Reference>,
    },
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<()> {
    let Some(store) = context.existing_store()? else {
        let path = context.store_path()?;
        return Err(CommandError::usage(format!("there is no store at {}", path.display()))
            .hint("give its folder with --store or GANTRY_STORE, or fill one with: gantry fetch"));
    };
    match command {
        Command::Ls => ls(context, &store),
        Command::Verify { remove } => verify(context, &store, *remove),
        Command::Gc { dry_run } => gc(context, &store, *dry_run),
        Command::Rm { names } => rm(context, &store, names),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    kind: &'static str,
    digest: types::Digest,
    /// Bytes of everything that it needs; absent when something is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

fn ls(context: &Context, store: &store::Store) -> Result<()> {
    let rows: Vec<Row> = store
        .roots()?
        .into_iter()
        .map(|root| Row {
            name: root.name.to_string(),
            kind: root.kind.as_str(),
            digest: root.descriptor.digest,
            bytes: store::closure(store, &root).ok().map(|closure| closure.size()),
        })
        .collect();
    context.ui.result(&rows, |rows| {
        let rows = rows.iter().map(|row| {
            let size = row.bytes.map_or_else(|| "incomplete".into(), |b| ByteSize(b).to_string());
            [row.kind.to_owned(), row.name.clone(), row.digest.short(), size]
        });
        ui::table(["kind", "name", "digest", "size"], rows.collect())
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    blobs: u64,
    bytes: u64,
    roots: u64,
    damaged: Vec<String>,
    broken: Vec<String>,
}

fn verify(context: &Context, store: &store::Store, remove: bool) -> Result<()> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let damage = if remove { Damage::Remove } else { Damage::Keep };
    let meter = context.ui.progress("verify");
    let verification = store.verify(damage, threads, &*meter)?;
    meter.finish();
    let result = Verified {
        blobs: verification.blobs,
        bytes: verification.bytes,
        roots: verification.roots,
        damaged: verification.damaged.iter().map(damaged).collect(),
        broken: verification.broken.iter().map(broken).collect(),
    };
    context.ui.result(&result, |result| {
        let mut text = format!(
            "{} blobs ({}) and {} roots checked\n",
            result.blobs,
            ByteSize(result.bytes),
            result.roots
        );
        for line in result.damaged.iter().chain(&result.broken) {
            text.push_str(&format!("  {line}\n"));
        }
        text
    })?;
    if verification.is_whole() {
        return Ok(());
    }
    let hint = if remove {
        "bring them again with: gantry fetch"
    } else {
        "remove the damaged blobs and bring them again: gantry store verify --remove && gantry fetch"
    };
    Err(CommandError::new(Kind::Integrity, "the store is damaged").hint(hint))
}

fn damaged(found: &store::Damaged) -> String {
    let fault = match &found.fault {
        store::Fault::Content(actual) => format!("its bytes are those of {actual}"),
        store::Fault::Unreadable(cause) => format!("it cannot be read: {cause}"),
    };
    let needed: Vec<_> = found.needed_by.iter().map(ToString::to_string).collect();
    let needed = if needed.is_empty() { "nothing".to_owned() } else { needed.join(", ") };
    format!("{} is damaged: {fault}; it is needed by {needed}", found.digest)
}

fn broken(found: &store::BrokenRoot) -> String {
    let problems: Vec<_> = found.problems.iter().map(ToString::to_string).collect();
    format!("{} is incomplete: {}", found.name, problems.join("; "))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    is_dry_run: bool,
    blobs: usize,
    partials: u64,
    bytes: u64,
}

fn gc(context: &Context, store: &store::Store, dry_run: bool) -> Result<()> {
    let mode = if dry_run { GcMode::DryRun } else { GcMode::Remove };
    let meter = context.ui.progress("gc");
    let collected = store.gc(mode, &*meter);
    meter.clear();
    let collected = collected?;
    let result = Collected {
        is_dry_run: dry_run,
        blobs: collected.blobs.len(),
        partials: collected.partials,
        bytes: collected.bytes(),
    };
    context.ui.result(&result, |result| {
        let verb = if result.is_dry_run { "would be removed" } else { "removed" };
        let bytes = ByteSize(result.bytes);
        format!("{} blobs and {} partial downloads ({bytes}) {verb}", result.blobs, result.partials)
    })
}

fn rm(context: &Context, store: &store::Store, names: &[Reference]) -> Result<()> {
    store.unpublish(names)?;
    context.ui.status(&format!("{} removed; free their space with: gantry store gc", names.len()));
    Ok(())
}
