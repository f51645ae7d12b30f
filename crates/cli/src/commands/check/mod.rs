//! `gantry check`.

mod print;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use deploy::check::{self, Deployed, Name, Phase, Report, Subject, junit};

use self::print::Printer;
use crate::clusters::ClusterArgs;
use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::world;

/// Check the cluster and the site before a deploy, and what runs after it, down to a first inference.
///
/// Before: the API server and its version, the rights that a deploy needs, nodes, storage classes,
/// quota, the registry from here and from every node (a pod that pulls), the pull secret, DNS, every
/// locked image with its digest, every model file. After: workloads, claims and pods with the reason
/// of what is not ready, running digests against the lock, and one real question to every model server
/// that is recognised, or declared under `checks:` in gantry.yaml.
///
/// Without --before or --after both are looked at, and releases that are not deployed yet are passed
/// over. Exit code 1 when something failed, 3 when a digest is not the locked one.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry check --site site.yaml --before                # is the cluster ready for a deploy?
  gantry check --site site.yaml --after rag             # is the release rag well, and does it answer?
  gantry check --site site.yaml --after --watch         # until all is well
  gantry check --site site.yaml --only node-pull --only dns
  gantry check --site site.yaml --skip models --junit report.xml --output json

All checks by name, and how to declare your own: docs/check.md")]
pub(crate) struct Args {
    /// The releases; all of gantry.lock when absent.
    #[arg(value_name = "RELEASE")]
    releases: Vec<String>,
    /// The site's description: its registry, storage class and models.
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// Only what has to hold before a deploy.
    #[arg(long, conflicts_with = "after")]
    before: bool,
    /// Only what was deployed; a release that is not there failed.
    #[arg(long)]
    after: bool,
    /// Only this check; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<Name>,
    /// All but this check; may be given several times.
    #[arg(long, value_name = "NAME")]
    skip: Vec<Name>,
    /// Check again every so many seconds until all is well.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10", value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
    /// Write the report as JUnit XML too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl Args {
    /// The checks that are asked for, in their order.
    fn names(&self) -> Result<Vec<Name>> {
        let phase = match (self.before, self.after) {
            (true, _) => Some(Phase::Before),
            (_, true) => Some(Phase::After),
            _ => None,
        };
        let names: Vec<Name> = Name::ALL
            .into_iter()
            .filter(|name| phase.is_none_or(|phase| name.phase() == phase))
            .filter(|name| self.only.is_empty() || self.only.contains(name))
            .filter(|name| !self.skip.contains(name))
            .collect();
        if names.is_empty() {
            return Err(CommandError::usage("no check is left to be made").hint(
                "give other names with --only and --skip, or leave --before or --after away",
            ));
        }
        Ok(names)
    }

    fn deployed(&self) -> Deployed {
        if self.after { Deployed::Expected } else { Deployed::Maybe }
    }
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    let names = args.names()?;
    if let Some(path) = &args.junit
        && path.is_dir()
    {
        return Err(
            CommandError::usage(format!("{} is a folder", path.display())).hint("name a file")
        );
    }
    let plan = subject::plan(context, args, &names)?;
    let _models = plan.models();
    let runtime = world::runtime()?;
    let report = runtime.block_on(async {
        let subject = plan.connect(args).await?;
        tokio::select! {
            report = repeat(context, args, &subject, &names) => report,
            () = world::stopped() => {
                check::sweep(&subject).await;
                Err(CommandError::failed("stopped").hint("run the same command again"))
            }
        }
    })?;
    judge(&report)
}

/// Checks once, or until all is well.
async fn repeat(
    context: &Context,
    args: &Args,
    subject: &Subject,
    names: &[Name],
) -> Result<Report> {
    let mut printer = Printer::new(context, args.watch.is_some());
    loop {
        let report = check::run(subject, names).await;
        if let Some(path) = &args.junit {
            world::write(path, &junit::print(&report)?)?;
        }
        let is_last = args.watch.is_none() || report.is_well();
        printer.print(&report, is_last)?;
        let Some(seconds) = args.watch.filter(|_| !is_last) else { return Ok(report) };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

fn judge(report: &Report) -> Result<()> {
    let Some(first) = report.first_failure() else { return Ok(()) };
    let kind = if report.is_digest_wrong() { Kind::Integrity } else { Kind::Failed };
    let all = report.findings.len();
    let line = first.why.lines().next().unwrap_or_default();
    let message = format!(
        "{} of {all} findings failed; the first: {} in {}: {line}",
        report.counts.failed, first.what, first.place
    );
    let error = CommandError::new(kind, message);
    Err(if first.next.is_empty() { error } else { error.hint(first.next.clone()) })
}
