//! The arguments of `gantry check`.

use std::path::PathBuf;
use std::time::Duration;

use deploy::check::{CheckName, CheckPhase, ReleaseExpectation};

use crate::clusters::ClusterArgs;
use crate::error::{CommandError, Result};
use crate::output_files::OverwriteArgs;
use crate::value_parsers::{HOUR, SECOND, duration_within, parse_report_path};

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
    pub(super) releases: Vec<String>,
    /// The site file (site.yaml): its registry, storage class and model targets.
    #[arg(long, value_name = "FILE")]
    pub(in crate::commands) site: Option<PathBuf>,
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
    pub(super) watch: Option<Duration>,
    /// Write the report as JUnit XML to this file too.
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Write a report to this file too, as FILE.html or FILE.json; may be given several times.
    #[arg(long, value_name = "FILE", value_parser = parse_report_path)]
    pub(super) report: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) overwrite: OverwriteArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

impl CheckArgs {
    /// The selected checks, in the order in which they run.
    pub(super) fn select_checks(&self) -> Result<Vec<CheckName>> {
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

    pub(super) fn expected_deployment(&self) -> ReleaseExpectation {
        if self.after { ReleaseExpectation::Required } else { ReleaseExpectation::Optional }
    }
}
