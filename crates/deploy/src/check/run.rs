//! Runs the checks side by side, each with its own deadline, and collects what they find.

use std::time::Duration;

use futures::future::{FutureExt as _, LocalBoxFuture, join_all};

use super::node_pull::{self, NodePodChecks};
use super::{
    CheckFinding, CheckName, CheckReport, CheckSubject, api, claims, images, infer, model_targets,
    nodes, pods, quota, registry, rights, running, storage, workloads,
};

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

/// Removes the pods that an interrupted run of this process left in the cluster.
pub async fn remove_check_pods(subject: &CheckSubject) {
    node_pull::remove_node_pods(subject).await;
}

/// Runs the named checks side by side, each with its own deadline.
pub async fn run_checks(subject: &CheckSubject, names: &[CheckName]) -> CheckReport {
    // First and alone: if the API server does not answer, every other check would only report that.
    let reachable = api::read_server_version(subject).await;
    let is_reachable = reachable.is_ok();
    let nodes = NodePodChecks::default();
    let all = CheckName::ALL.into_iter().filter(|name| names.contains(name)).map(|name| {
        let api = &reachable;
        let nodes = &nodes;
        async move {
            match name {
                CheckName::Api => api::judge_server_version(subject, api),
                _ if !is_reachable => {
                    let why = "the API server does not answer";
                    vec![CheckFinding::skipped(name, "cluster", name.as_str(), why)]
                }
                name => run_with_deadline(name, start_check(subject, name, nodes)).await,
            }
        }
    });
    let findings = join_all(all).await.into_iter().flatten().collect();
    CheckReport::new(subject.cluster.context(), subject.cluster.server(), findings)
}

/// Starts a check. Boxed on the local thread, as the futures borrow and differ in type.
fn start_check<'a>(
    subject: &'a CheckSubject,
    name: CheckName,
    probes: &'a NodePodChecks,
) -> LocalBoxFuture<'a, Vec<CheckFinding>> {
    match name {
        CheckName::Api => async { Vec::new() }.boxed_local(),
        CheckName::Rights => rights::check_rights(subject).boxed_local(),
        CheckName::Nodes => nodes::check_nodes(subject).boxed_local(),
        CheckName::Storage => storage::check_storage(subject).boxed_local(),
        CheckName::Quota => quota::check_quota(subject).boxed_local(),
        CheckName::Registry => registry::check_registry(subject).boxed_local(),
        CheckName::PullSecret => registry::check_pull_secret(subject).boxed_local(),
        CheckName::Images => images::check_images(subject).boxed_local(),
        CheckName::NodePull => probes.check_pulls(subject).boxed_local(),
        CheckName::Dns => probes.check_dns(subject).boxed_local(),
        CheckName::Models => model_targets::check_models(subject).boxed_local(),
        CheckName::Workloads => workloads::check_workloads(subject).boxed_local(),
        CheckName::Claims => claims::check_claims(subject).boxed_local(),
        CheckName::Pods => pods::check_pods(subject).boxed_local(),
        CheckName::Running => running::check_running_images(subject).boxed_local(),
        CheckName::Inference => infer::check_inference(subject).boxed_local(),
    }
}

/// Waits for a check until its deadline, after which it counts as failed.
async fn run_with_deadline(
    name: CheckName,
    work: LocalBoxFuture<'_, Vec<CheckFinding>>,
) -> Vec<CheckFinding> {
    let limit = match name {
        CheckName::Registry | CheckName::PullSecret | CheckName::Images | CheckName::Running => {
            REGISTRY
        }
        CheckName::NodePull | CheckName::Dns => NODES,
        CheckName::Models => MODELS,
        CheckName::Inference => INFERENCE,
        _ => QUICK,
    };
    match tokio::time::timeout(limit, work).await {
        Ok(findings) => findings,
        Err(_) => vec![CheckFinding::failed(name, "cluster", name.as_str()).with_reason(
            format!("the check did not finish within {} s", limit.as_secs()),
            "see whether the API server or the registry is overloaded, then run this check alone with --only",
        )],
    }
}
