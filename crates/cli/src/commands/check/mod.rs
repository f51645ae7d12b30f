//! `gantry check`: runs the checks of `deploy::check` before or after a deployment, and prints the report.

mod printer;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use deploy::check::{
    self, CheckName, CheckPhase, CheckReport, CheckSubject, ReleaseExpectation, junit,
};
use types::own_image;

use self::printer::CheckPrinter;
use crate::clusters::ClusterArgs;
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, ErrorKind, Result};
use crate::value_parsers::{HOUR, SECOND, duration_within};

/// Check whether the cluster is ready for a deployment, and whether what was deployed works.
///
/// Before a deployment: the API server and its version, the rights that deploying needs, nodes, storage
/// classes, quota, the registry from here and from every node (by a pod that pulls an image), the pull
/// secret, DNS, the digest of every locked image, and every model file. After it: workloads, claims and
/// pods, with the reason if one is not ready, the running digests compared with the lock, and one
/// request to every model server that Gantry recognises or that `checks:` in gantry.yaml declares.
///
/// Without --before or --after, both are checked, and releases that are not deployed yet are skipped.
/// Exit code 1 if a check failed, 3 if a digest is not the locked one.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry check --site site.yaml --before                # is the cluster ready for a deploy?
  gantry check --site site.yaml --after rag             # does the release rag run and answer?
  gantry check --site site.yaml --after --watch         # repeat until nothing fails
  gantry check --site site.yaml --only node-pull --only dns
  gantry check --site site.yaml --skip models --junit report.xml --output json
  gantry check --site site.yaml --report check.html     # a page for people

A list of all checks, and how to declare your own: docs/reference/checks.md")]
pub(crate) struct CheckArgs {
    /// The releases to check [default: all of gantry.lock].
    #[arg(value_name = "RELEASE")]
    releases: Vec<String>,
    /// The site file (site.yaml): its registry, storage class and model targets.
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// Check only what a deployment needs.
    #[arg(long, conflicts_with = "after")]
    before: bool,
    /// Check only what was deployed; a release that is not installed counts as failed.
    #[arg(long)]
    after: bool,
    /// Run only this check; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<CheckName>,
    /// Leave out this check; may be given several times.
    #[arg(long, value_name = "NAME")]
    skip: Vec<CheckName>,
    /// Repeat this often (10s, 5m) until nothing fails [default: 10s].
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "10s", value_parser = duration_within(SECOND..=HOUR))]
    watch: Option<Duration>,
    /// Write the report as JUnit XML to this file too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a report to this file too, as FILE.html or FILE.json; may be given several times.
    #[arg(long, value_name = "FILE", value_parser = parse_report_path)]
    report: Vec<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

fn parse_report_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "json") => Ok(path),
        _ => Err("write FILE.html or FILE.json, such as check.html".into()),
    }
}

impl CheckArgs {
    /// The selected checks, in the order in which they run.
    fn select_checks(&self) -> Result<Vec<CheckName>> {
        let phase = match (self.before, self.after) {
            (true, _) => Some(CheckPhase::Before),
            (_, true) => Some(CheckPhase::After),
            _ => None,
        };
        let names: Vec<CheckName> = CheckName::ALL
            .into_iter()
            .filter(|name| phase.is_none_or(|phase| name.phase() == phase))
            .filter(|name| self.only.is_empty() || self.only.contains(name))
            .filter(|name| !self.skip.contains(name))
            .collect();
        if names.is_empty() {
            return Err(CommandError::usage_error("no check is left to run")
                .with_hint("change --only and --skip, or remove --before or --after"));
        }
        Ok(names)
    }

    fn expected_deployment(&self) -> ReleaseExpectation {
        if self.after { ReleaseExpectation::Required } else { ReleaseExpectation::Optional }
    }
}

pub(crate) fn run(context: &CommandContext, args: &CheckArgs) -> Result<()> {
    let names = args.select_checks()?;
    if let Some(path) = args.junit.iter().chain(&args.report).find(|path| path.is_dir()) {
        return Err(CommandError::usage_error(format!("{} is a folder", path.display()))
            .with_hint("give a file name"));
    }
    let plan = subject::read_check_input(context, args, &names)?;
    // Held until the runtime below has ended: a bucket has a runtime of its own, and tokio panics if one
    // runtime is dropped inside another.
    let _models = plan.model_targets();
    let runtime = environment::build_runtime()?;
    let report = runtime.block_on(async {
        let subject = plan.connect_subject(args).await?;
        tokio::select! {
            report = check_until_well(context, args, &subject, &names) => report,
            // Checks start pods of their own, which have to be deleted.
            () = environment::wait_for_stop() => {
                check::remove_check_pods(&subject).await;
                Err(CommandError::failure("stopped").with_hint("run the same command again"))
            }
        }
    })?;
    require_success(&report)
}

/// Runs the checks once, or with `--watch` until none fails.
async fn check_until_well(
    context: &CommandContext,
    args: &CheckArgs,
    subject: &CheckSubject,
    names: &[CheckName],
) -> Result<CheckReport> {
    let mut printer = CheckPrinter::new(context, args.watch.is_some());
    loop {
        let report = check::run_checks(subject, names).await;
        if let Some(path) = &args.junit {
            environment::write_file(path, &junit::print_junit(&report)?)?;
        }
        for path in &args.report {
            let text = match path.extension().is_some_and(|extension| extension == "html") {
                true => report.to_html(own_image::VERSION)?,
                false => environment::format_report_json(path, &report)? + "\n",
            };
            environment::write_file(path, &text)?;
        }
        let is_last = args.watch.is_none() || report.has_passed();
        printer.print(&report, is_last)?;
        let Some(pause) = args.watch.filter(|_| !is_last) else { return Ok(report) };
        tokio::time::sleep(pause).await;
    }
}

fn require_success(report: &CheckReport) -> Result<()> {
    let Some(first) = report.first_failure() else { return Ok(()) };
    let kind = if report.is_digest_wrong() { ErrorKind::Integrity } else { ErrorKind::Failed };
    let all = report.findings.len();
    let line = first.why.lines().next().unwrap_or_default();
    let message = format!(
        "{} of {all} checks failed; the first: {} in {}: {line}",
        report.counts.failed, first.what, first.place
    );
    let error = CommandError::new(kind, message);
    Err(if first.next.is_empty() { error } else { error.with_hint(first.next.clone()) })
}
