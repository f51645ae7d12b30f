//! `gantry fetch`: downloads the blobs of gantry.lock into the store, which `gantry pack` then reads.

use serde::Serialize;
use types::ByteSize;

use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::world;

/// Download everything in gantry.lock into the store.
///
/// Blobs that are in the store already are skipped, and an interrupted download resumes where it
/// stopped. Several blobs are downloaded at the same time, and each is verified against its digest.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry fetch
  gantry fetch --concurrency 12         # for fast connections with a high latency
  GANTRY_STORE=/data/store gantry fetch

Gantry uses `mirrors:` of its configuration file, the variables HTTPS_PROXY, NO_PROXY,
SSL_CERT_FILE, HF_ENDPOINT and HF_TOKEN, and docker's config.json with its credential helpers.")]
pub(crate) struct Args {
    /// The number of parallel downloads, 1 to 64 [default: `concurrency` of the configuration, else 6].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) concurrency: Option<u16>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    store: String,
    roots: usize,
    fetched_blobs: usize,
    fetched_bytes: u64,
    present_blobs: usize,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    let lock = world::lock(context)?;
    let meter = context.ui.progress("fetch");
    let concurrency = args.concurrency.map(usize::from);
    let outcome = world::run_with(context, meter.clone(), concurrency, async |world| {
        let jobs = resolve::jobs(world, &lock)?;
        // Blobs without a download address (from archives, caches and local charts) were stored by
        // `gantry lock`. If they are gone from the store, they are read again from their local source.
        if !jobs.missing.is_empty() {
            let input = world::input(context)?;
            resolve::restore(world, &input, &lock).await?;
        }
        let report =
            remote::fetch::fetch(&world.client, &world.store, jobs.remote, world.progress.clone())
                .await?;
        // Names appear in the store only when all they refer to is there, so that nobody packs a part.
        if report.failed.is_empty() {
            resolve::publish(&world.store, &lock)?;
        }
        Ok((report, world.store.path().display().to_string()))
    });
    let (report, store) = match outcome {
        Ok(outcome) => {
            meter.finish();
            outcome
        }
        Err(error) => {
            meter.clear();
            return Err(error);
        }
    };
    if let Some(first) = report.failed.first() {
        return Err(failure(&report, first));
    }
    let summary = Summary {
        store,
        roots: lock.roots().len(),
        fetched_blobs: report.fetched,
        fetched_bytes: report.moved,
        present_blobs: report.present,
    };
    context.ui.result(&summary, |summary| {
        format!(
            "{} entries of the lock are in {}: {} blobs downloaded ({}), {} already present",
            summary.roots,
            summary.store,
            summary.fetched_blobs,
            ByteSize(summary.fetched_bytes),
            summary.present_blobs
        )
    })
}

/// The error for failed downloads. It names the first one.
fn failure(report: &remote::fetch::Report, first: &remote::fetch::Failure) -> CommandError {
    let failed = &report.failed;
    let is = |test: fn(&remote::Error) -> bool| failed.iter().any(|failure| test(&failure.error));
    let kind = if is(remote::Error::is_integrity) {
        Kind::Integrity
    } else if report.fetched == 0 && failed.iter().all(|failure| failure.error.is_input()) {
        // Usually a wrong credential: nothing was downloaded, and the same command would fail again.
        Kind::Usage
    } else if report.fetched + report.present > 0 {
        Kind::Partial
    } else {
        Kind::Failed
    };
    let cause = first.error.to_string();
    // Most causes begin with the name already.
    let cause = cause.strip_prefix(&format!("{}: ", first.name)).unwrap_or(&cause);
    let others = match failed.len() - 1 {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    let error = CommandError::new(kind, format!("cannot download {}: {cause}{others}", first.name));
    match kind {
        // What to do first is in the cause; running the same command again would not help.
        Kind::Usage => error,
        _ => error.hint("what was downloaded is kept; run gantry fetch again to resume"),
    }
}
