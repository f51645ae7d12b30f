//! `gantry fetch`.

use serde::Serialize;
use types::ByteSize;

use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::world;

/// Bring everything of gantry.lock into the store.
///
/// What is there is skipped; what a killed run left of a blob is continued by range. All blobs of
/// all things are fetched side by side, and verified while they come.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry fetch
  gantry fetch --concurrency 12         # a fast line with a long delay
  GANTRY_STORE=/data/store gantry fetch

Mirrors and proxies: `mirrors:` in the configuration file, HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE,
HF_ENDPOINT, HF_TOKEN, and docker's config.json with its credential helpers are honoured.")]
pub(crate) struct Args {
    /// Transfers at once [default: 6, or the configuration's].
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
        if !jobs.missing.is_empty() {
            let input = world::input(context)?;
            resolve::restore(world, &input, &lock).await?;
        }
        let report =
            remote::fetch::fetch(&world.client, &world.store, jobs.remote, world.progress.clone())
                .await?;
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
            "{} things are in {}: {} blobs fetched ({}), {} were there",
            summary.roots,
            summary.store,
            summary.fetched_blobs,
            ByteSize(summary.fetched_bytes),
            summary.present_blobs
        )
    })
}

/// What did not come, by its first one.
fn failure(report: &remote::fetch::Report, first: &remote::fetch::Failure) -> CommandError {
    let failed = &report.failed;
    let is = |test: fn(&remote::Error) -> bool| failed.iter().any(|failure| test(&failure.error));
    let kind = if is(remote::Error::is_integrity) {
        Kind::Integrity
    } else if report.fetched == 0 && failed.iter().all(|failure| failure.error.is_input()) {
        // A wrong credential, mostly: nothing came, and the same command would fail again.
        Kind::Usage
    } else if report.fetched + report.present > 0 {
        Kind::Partial
    } else {
        Kind::Failed
    };
    let cause = first.error.to_string();
    let cause = cause.strip_prefix(&format!("{}: ", first.name)).unwrap_or(&cause);
    let others = match failed.len() - 1 {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    let error = CommandError::new(kind, format!("{} did not come: {cause}{others}", first.name));
    match kind {
        // The cause says what to do first.
        Kind::Usage => error,
        _ => error.hint("what came is kept; run the same command again: gantry fetch"),
    }
}
