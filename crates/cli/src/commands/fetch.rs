//! `gantry fetch`: downloads the blobs of gantry.lock into the store, which `gantry pack` then reads.

use serde::Serialize;
use types::ByteSize;

use crate::context::{CommandContext, LimitArgs};
use crate::environment;
use crate::error::{CommandError, ErrorKind, Result};
use crate::value_parsers::number_within;

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
pub(crate) struct FetchArgs {
    /// The number of parallel downloads, 1 to 64 [default: `concurrency` of the configuration, else 6].
    #[arg(long, value_name = "N", value_parser = number_within(1..=64))]
    pub(crate) concurrency: Option<u16>,
    #[command(flatten)]
    limits: LimitArgs,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FetchSummary {
    store: String,
    #[serde(rename = "rootCount")]
    roots: usize,
    #[serde(rename = "fetchedBlobCount")]
    fetched_blobs: usize,
    fetched_bytes: u64,
    #[serde(rename = "presentBlobCount")]
    present_blobs: usize,
    /// What was there already: whole blobs, and the beginnings of those that an earlier run left.
    present_bytes: u64,
}

pub(crate) fn run(context: &CommandContext, args: &FetchArgs) -> Result<()> {
    let context = &context.with_limits(&args.limits);
    let lock = environment::read_current_lock(context)?;
    let meter = context.ui.start_progress("fetch");
    let concurrency = args.concurrency.map(usize::from);
    let outcome =
        environment::run_online_with(context, meter.clone(), concurrency, async |world| {
            // From before it is known what is missing until everything has its name: what is found in the
            // store, restored and downloaded must all be there at the end.
            let _session = world.store.open_session()?;
            let jobs = resolve::plan_fetch(world, &lock)?;
            // Blobs without a download address (from archives, caches and local charts) were stored by
            // `gantry lock`. If they are gone from the store, they are read again from their local source.
            if !jobs.missing.is_empty() {
                let input = environment::read_input(context)?;
                resolve::restore_content(world, &input, &lock).await?;
            }
            let report = remote::fetch::fetch_blobs(
                &world.client,
                &world.store,
                jobs.remote,
                world.progress.clone(),
            )
            .await?;
            // Names appear in the store only when all they refer to is there, so that nobody packs a part.
            if report.failed.is_empty() {
                resolve::publish_roots(&world.store, &lock)?;
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
        return Err(build_fetch_error(&report, first));
    }
    let summary = FetchSummary {
        store,
        roots: lock.roots().len(),
        fetched_blobs: report.fetched,
        fetched_bytes: report.moved,
        present_blobs: report.present,
        present_bytes: meter.skipped_bytes(),
    };
    context.ui.print_result(&summary, |summary| {
        format!(
            "{} entries of the lock are in {}: {} blobs downloaded ({}), {} already present ({})",
            summary.roots,
            summary.store,
            summary.fetched_blobs,
            ByteSize(summary.fetched_bytes),
            summary.present_blobs,
            ByteSize(summary.present_bytes)
        )
    })
}

/// The error for failed downloads. It names the first one.
fn build_fetch_error(
    report: &remote::fetch::FetchReport,
    first: &remote::fetch::FetchFailure,
) -> CommandError {
    let failed = &report.failed;
    let is = |test: fn(&remote::Error) -> bool| failed.iter().any(|failure| test(&failure.error));
    let kind = if is(remote::Error::is_integrity) {
        ErrorKind::Integrity
    } else if report.fetched == 0 && failed.iter().all(|failure| failure.error.is_input()) {
        // Usually a wrong credential: nothing was downloaded, and the same command would fail again.
        ErrorKind::Usage
    } else if report.fetched + report.present > 0 {
        ErrorKind::Partial
    } else {
        ErrorKind::Failed
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
        ErrorKind::Usage => error,
        // The cause says that nothing of this one was kept; the hint is about the others.
        ErrorKind::Integrity => error.with_hint(
            "everything else that was downloaded is kept; gantry fetch downloads only the rest",
        ),
        _ => error.with_hint("what was downloaded is kept; run gantry fetch again to resume"),
    }
}
