//! The guides' checklists as code: what has to hold before a deploy, and what after it.
//!
//! The way of the data: a [`Subject`] says what is checked, [`run`] asks the files of this folder
//! (one subject each), [`Finding`]s come back in the order of the checklists, a [`Report`] has them
//! all. Nothing here writes to the cluster but the pods of `node_pull`, which are Gantry's own and go
//! with the check.

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

/// A check that asks the API server alone ends in this time.
const QUICK: Duration = Duration::from_secs(60);
/// Thousands of images are asked for in this time.
const REGISTRY: Duration = Duration::from_mins(10);
/// A pod on each node, with its pull.
const NODES: Duration = Duration::from_mins(10);
/// Terabytes of models are read from a volume in this time.
const MODELS: Duration = Duration::from_hours(24);
/// All first inferences; each has its own deadline.
const INFERENCE: Duration = Duration::from_hours(5);

/// What is checked.
pub struct Subject {
    /// The cluster.
    pub cluster: Cluster,
    /// The site's registry, where there is a site.
    pub registry: Option<SiteRegistry>,
    /// The storage class of the site.
    pub storage_class: Option<String>,
    /// What was locked.
    pub lock: Option<Lock>,
    /// The releases.
    pub releases: Vec<Release>,
    /// Whether the releases have to be there.
    pub deployed: Deployed,
    /// The checks of gantry.yaml.
    pub checks: Vec<Check>,
    /// How model servers are recognised.
    pub servers: Rules,
    /// Where models should be.
    pub models: Vec<ModelPlace>,
    /// Further certificate authorities for checks of URLs.
    pub ca: Vec<PathBuf>,
}

/// Whether releases have to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployed {
    /// They have to: what is not there failed.
    Expected,
    /// What is not there is not looked at.
    Maybe,
}

/// Takes away what a run that was stopped has left in the cluster: the pods of this process.
pub async fn sweep(subject: &Subject) {
    node_pull::sweep(subject).await;
}

/// Runs these checks, side by side, each for a bounded time.
pub async fn run(subject: &Subject, names: &[Name]) -> Report {
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
            format!("it did not come to an end within {} s", limit.as_secs()),
            "is the API server or the registry overloaded? run it again with --only",
        )],
    }
}
