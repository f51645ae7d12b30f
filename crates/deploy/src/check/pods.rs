//! Check `pods`: the pods of the releases are ready; if not, why, with the last lines of their
//! logs.

use cluster::objects::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use cluster::objects::api::batch::v1::Job;
use cluster::objects::api::core::v1::Pod;
use cluster::objects::apimachinery::pkg::apis::meta::v1::LabelSelector;
use cluster::{ObjectScope, explain_pod};

use super::release::{find_release_name, is_selector_match};
use super::{CheckFinding, CheckName, CheckSubject, CheckedRelease, FindingState, workloads};
use crate::readiness;

/// Checks the pods of all releases.
pub(super) async fn check_pods(subject: &CheckSubject) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for release in &subject.releases {
        let place = &release.namespace;
        let what = format!("pods of {}", release.name);
        let pods = match list_release_pods(subject, release).await {
            Ok(pods) => pods,
            Err(error) => {
                findings.push(CheckFinding::from_cluster_error(
                    CheckName::Pods,
                    place,
                    what,
                    &error,
                    FindingState::Failed,
                ));
                continue;
            }
        };
        if pods.is_empty() {
            findings.push(workloads::report_missing_release(subject, release, CheckName::Pods));
            continue;
        }
        let mut well = 0;
        for pod in &pods {
            match explain_pod(pod) {
                None => {
                    well += 1;
                    findings.extend(warn_of_memory_kill(place, pod));
                }
                Some(_) if is_replaced(pod) => {
                    findings.push(warn_of_ended_pod(place, pod));
                }
                Some(reason) => {
                    findings.push(explain_unready_pod(subject, place, pod, reason).await);
                }
            }
        }
        if well > 0 {
            let why = format!("{well} of {} are ready or have completed", pods.len());
            findings.push(CheckFinding::ok(CheckName::Pods, place, what, why));
        }
    }
    if findings.is_empty() {
        let why = "there are no releases, as gantry.lock has no charts";
        findings.push(CheckFinding::skipped(CheckName::Pods, "cluster", "pods", why));
    }
    findings
}

/// Lists the pods of a release: those marked as its own, and those that its workloads select.
pub(super) async fn list_release_pods(
    subject: &CheckSubject,
    release: &CheckedRelease,
) -> cluster::Result<Vec<Pod>> {
    let scope = ObjectScope::Namespace(&release.namespace);
    let cluster = &subject.cluster;
    let mut selectors: Vec<LabelSelector> = Vec::new();
    for one in cluster.list_objects::<Deployment>(scope, "").await? {
        selectors
            .extend(one.spec.filter(|_| release.is_owner_of(&one.metadata)).map(|s| s.selector));
    }
    for one in cluster.list_objects::<StatefulSet>(scope, "").await? {
        selectors
            .extend(one.spec.filter(|_| release.is_owner_of(&one.metadata)).map(|s| s.selector));
    }
    for one in cluster.list_objects::<DaemonSet>(scope, "").await? {
        selectors
            .extend(one.spec.filter(|_| release.is_owner_of(&one.metadata)).map(|s| s.selector));
    }
    for one in cluster.list_objects::<Job>(scope, "").await? {
        let own = one.spec.filter(|_| release.is_owner_of(&one.metadata));
        selectors.extend(own.and_then(|spec| spec.selector));
    }
    // Many charts do not put the release label on their pod templates; the selectors find those.
    let is_own = |pod: &Pod| match find_release_name(&pod.metadata) {
        Some(name) if name == release.name => true,
        _ => selectors
            .iter()
            .any(|one| is_selector_match(one.match_labels.as_ref(), pod.metadata.labels.as_ref())),
    };
    let mut pods = cluster.list_objects::<Pod>(scope, "").await?;
    pods.retain(|pod| is_own(pod) && !cluster::is_being_deleted(pod));
    Ok(pods)
}

/// Whether a node or the scheduler ended a pod, so that its controller has made another one. The ended
/// pod stays in the list until somebody deletes it. Jobs count such pods as failures of their own.
fn is_replaced(pod: &Pod) -> bool {
    /// The reasons of pods that were ended from outside (kubernetes, `pkg/kubelet/eviction`,
    /// `pkg/kubelet/nodeshutdown`, `pkg/scheduler/framework/preemption`).
    const ENDED_FROM_OUTSIDE: [&str; 6] =
        ["Evicted", "NodeShutdown", "Terminated", "Shutdown", "Preempting", "NodeLost"];
    let status = pod.status.as_ref();
    let is_failed = status.and_then(|status| status.phase.as_deref()) == Some("Failed");
    let reason = status.and_then(|status| status.reason.as_deref()).unwrap_or_default();
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let is_controlled = owners.any(|owner| owner.controller == Some(true) && owner.kind != "Job");
    is_failed && is_controlled && ENDED_FROM_OUTSIDE.contains(&reason)
}

/// Warns about a pod that a node ended, and that was replaced.
fn warn_of_ended_pod(place: &str, pod: &Pod) -> CheckFinding {
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.clone()).unwrap_or_default();
    let message = status.and_then(|status| status.message.clone()).unwrap_or_default();
    CheckFinding::warning(CheckName::Pods, place, pod_title(pod)).with_reason(
        format!("its node ended it ({reason}), and another pod has taken its place: {message}"),
        "free what the message names on the node; the ended pod can be deleted",
    )
}

/// Warns about a container that is ready now, but was killed earlier for exceeding its memory
/// limit.
fn warn_of_memory_kill(place: &str, pod: &Pod) -> Option<CheckFinding> {
    let killed = readiness::list_container_statuses(pod).find_map(|status| {
        let ended = status.last_state.as_ref()?.terminated.as_ref()?;
        (ended.reason.as_deref() == Some("OOMKilled")).then_some(status)
    })?;
    let why = format!(
        "container {} was killed for exceeding its memory limit (OOMKilled) and has restarted {} times",
        killed.name, killed.restart_count
    );
    Some(
        CheckFinding::warning(CheckName::Pods, place, pod_title(pod))
            .with_reason(why, "raise its memory limit in the values"),
    )
}

/// Explains why a pod is not ready, by its containers, its events and its log.
async fn explain_unready_pod(
    subject: &CheckSubject,
    place: &str,
    pod: &Pod,
    reason: cluster::NotReadyReason,
) -> CheckFinding {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut why = reason.why;
    let mut next = reason.next;
    // The kernel kills without a word in the log, so this reason takes precedence over it.
    let oom = readiness::list_container_statuses(pod).find(|status| {
        let ended = |state: Option<&cluster::objects::api::core::v1::ContainerState>| {
            state.and_then(|state| state.terminated.as_ref()?.reason.clone())
        };
        [ended(status.state.as_ref()), ended(status.last_state.as_ref())]
            .iter()
            .any(|reason| reason.as_deref() == Some("OOMKilled"))
    });
    if let Some(status) = oom {
        why = format!(
            "container {} was killed for exceeding its memory limit (OOMKilled)",
            status.name
        );
        "raise its memory limit in the values".clone_into(&mut next);
    }
    // The kubelet's events say which probe failed and how, or which volume cannot be mounted.
    let warning = subject.cluster.latest_warning(place, name).await;
    let is_probe = warning.as_deref().is_some_and(|text| text.contains("probe failed"));
    if let Some(warning) = warning.filter(|warning| !why.contains(warning.as_str())) {
        why = format!("{why}: {}", warning.trim());
    }
    if is_probe && oom.is_none() {
        "find out in its log why the server does not answer the probe; if it only starts slowly, add a startupProbe or raise initialDelaySeconds".clone_into(&mut next);
    }
    if let Some(container) = readiness::find_failing_container(pod) {
        let lines = readiness::read_last_lines(&subject.cluster, place, name, &container).await;
        if !lines.is_empty() {
            why = format!(
                "{why}\nthe last lines of the log of {container}:\n  {}",
                lines.join("\n  ")
            );
        }
    }
    CheckFinding::failed(CheckName::Pods, place, pod_title(pod)).with_reason(why, next)
}

/// How findings name a pod: `Pod web-0`.
pub(super) fn pod_title(pod: &Pod) -> String {
    format!("Pod {}", pod.metadata.name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cluster::objects::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_pod_that_its_node_ended_has_not_failed_if_another_one_replaces_it() {
        let pod = |reason: &str, owner: &str| -> Pod {
            from_value(json!({
                "metadata": {"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": owner,
                    "name": "o", "uid": "1", "controller": true}]},
                "status": {"phase": "Failed", "reason": reason, "message": "low on memory"}}))
            .unwrap()
        };
        assert!(is_replaced(&pod("Evicted", "ReplicaSet")));
        assert!(!is_replaced(&pod("Evicted", "Job")));
        assert!(!is_replaced(&pod("", "ReplicaSet")));
        let finding = warn_of_ended_pod("shop", &pod("Evicted", "ReplicaSet"));
        assert_eq!(finding.state, FindingState::Warning);
        assert!(finding.why.contains("low on memory"), "{}", finding.why);
    }
}
