//! Checks a cluster and a site before a deploy (permissions, storage, quota, registry, nodes), and
//! the releases after it (workloads, pods, running digests, first inference).
//!
//! Data flow: a [`CheckSubject`] says what is checked, [`run_checks`] runs the checks (one file of
//! this folder each) side by side, and a [`CheckReport`] has their [`CheckFinding`]s in a fixed
//! order. Nothing is written to the cluster except the pods of `node_pull`, which are removed
//! again.

mod api;
mod claims;
mod finding;
mod images;
mod infer;
pub mod junit;
mod model_places;
mod node_pull;
mod nodes;
mod pods;
mod quantity;
mod quota;
mod registry;
mod release;
mod report;
mod rights;
mod running;
mod storage;
mod workloads;

use std::path::PathBuf;
use std::time::Duration;

use cluster::Cluster;
use futures::future::{FutureExt as _, LocalBoxFuture, join_all};
use types::input::checks::Check;
use types::lock::Lock;

use crate::inference::recognise::Rules;
use node_pull::Nodes;

pub use finding::{Finding, Name, Phase, State};
pub use model_places::{Inside, Look, ModelPlace, Verified};
pub use registry::SiteRegistry;
pub use release::Release;
pub use report::{Counts, Report, Verdict};

/// The deadline of a check that only asks the API server.
const QUICK: Duration = Duration::from_secs(60);
/// The deadline of a check that asks the registry: enough for thousands of images.
const REGISTRY: Duration = Duration::from_mins(10);
/// The deadline for one pod on each node, with its image pull.
const NODES: Duration = Duration::from_mins(10);
/// The deadline for reading all models: enough for terabytes on a slow volume.
const MODELS: Duration = Duration::from_hours(24);
/// The deadline for all first inferences together; each one has a deadline of its own.
const INFERENCE: Duration = Duration::from_hours(5);

/// What is checked, and with which expectations.
pub struct Subject {
    /// The cluster.
    pub cluster: Cluster,
    /// The site's registry; absent without a site file, and then what concerns it is skipped.
    pub registry: Option<SiteRegistry>,
    /// The storage class that `site.yaml` names.
    pub storage_class: Option<String>,
    /// The lock; absent if there is none.
    pub lock: Option<Lock>,
    /// The releases that are, or will be, deployed.
    pub releases: Vec<Release>,
    /// Whether the releases have to be deployed already.
    pub deployed: Deployed,
    /// The checks that `gantry.yaml` declares.
    pub checks: Vec<Check>,
    /// The rules that recognise model servers.
    pub servers: Rules,
    /// The targets where models should be.
    pub models: Vec<ModelPlace>,
    /// Files with additional CA certificates, for checks of URLs.
    pub ca: Vec<PathBuf>,
}

/// Whether releases have to be deployed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployed {
    /// They have to: a missing one is a failure.
    Expected,
    /// They need not be: a missing one is skipped.
    Maybe,
}

/// Removes the pods that an interrupted run of this process left in the cluster.
pub async fn sweep(subject: &Subject) {
    node_pull::sweep(subject).await;
}

/// Runs the named checks side by side, each with its own deadline.
pub async fn run(subject: &Subject, names: &[Name]) -> Report {
    // First and alone: if the API server does not answer, every other check would only report that.
    let reachable = api::reachable(subject).await;
    let is_reachable = reachable.is_ok();
    let nodes = Nodes::default();
    let all = Name::ALL.into_iter().filter(|name| names.contains(name)).map(|name| {
        let api = &reachable;
        let nodes = &nodes;
        async move {
            match name {
                Name::Api => api::findings(subject, api),
                _ if !is_reachable => {
                    let why = "the API server does not answer";
                    vec![Finding::skipped(name, "cluster", name.as_str(), why)]
                }
                name => bounded(name, ask(subject, name, nodes)).await,
            }
        }
    });
    let findings = join_all(all).await.into_iter().flatten().collect();
    Report::new(subject.cluster.context(), subject.cluster.server(), findings)
}

/// Starts a check. Boxed on the local thread, as the futures borrow and differ in type.
fn ask<'a>(
    subject: &'a Subject,
    name: Name,
    probes: &'a Nodes,
) -> LocalBoxFuture<'a, Vec<Finding>> {
    match name {
        Name::Api => async { Vec::new() }.boxed_local(),
        Name::Rights => rights::check(subject).boxed_local(),
        Name::Nodes => nodes::check(subject).boxed_local(),
        Name::Storage => storage::check(subject).boxed_local(),
        Name::Quota => quota::check(subject).boxed_local(),
        Name::Registry => registry::check(subject).boxed_local(),
        Name::PullSecret => registry::pull_secret(subject).boxed_local(),
        Name::Images => images::check(subject).boxed_local(),
        Name::NodePull => probes.pulls(subject).boxed_local(),
        Name::Dns => probes.dns(subject).boxed_local(),
        Name::Models => model_places::check(subject).boxed_local(),
        Name::Workloads => workloads::check(subject).boxed_local(),
        Name::Claims => claims::check(subject).boxed_local(),
        Name::Pods => pods::check(subject).boxed_local(),
        Name::Running => running::check(subject).boxed_local(),
        Name::Inference => infer::check(subject).boxed_local(),
    }
}

/// Waits for a check until its deadline, after which it counts as failed.
async fn bounded(name: Name, work: LocalBoxFuture<'_, Vec<Finding>>) -> Vec<Finding> {
    let limit = match name {
        Name::Registry | Name::PullSecret | Name::Images | Name::Running => REGISTRY,
        Name::NodePull | Name::Dns => NODES,
        Name::Models => MODELS,
        Name::Inference => INFERENCE,
        _ => QUICK,
    };
    match tokio::time::timeout(limit, work).await {
        Ok(findings) => findings,
        Err(_) => vec![Finding::failed(name, "cluster", name.as_str()).because(
            format!("the check did not finish within {} s", limit.as_secs()),
            "see whether the API server or the registry is overloaded, then run this check alone with --only",
        )],
    }
}
