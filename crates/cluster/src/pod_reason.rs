//! Explains why a pod is not ready: what is wrong, and what to do about it. Reads the pod's status
//! only.

use std::fmt;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use serde::Serialize;

/// Why something is not ready, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotReadyReason {
    /// What is wrong, in one line.
    pub why: String,
    /// What to do.
    pub next: String,
    /// Whether waiting longer cannot help.
    pub is_final: bool,
    /// The kind of reason, for those who treat one differently.
    #[serde(skip)]
    pub cause: NotReadyCause,
}

/// The kinds of reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReadyCause {
    /// The node cannot pull an image. The text says so without the container's name: `cannot pull
    /// site/app:1: …`.
    Pull(String),
    /// A container ended, or the whole pod did. Its controller may replace the pod.
    Ended,
    /// Any other.
    Other,
}

impl NotReadyReason {
    /// A reason that may go away by itself.
    pub(crate) fn temporary(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { why: why.into(), next: next.into(), is_final: false, cause: NotReadyCause::Other }
    }

    /// A reason that stays until somebody changes something.
    pub(crate) fn permanent(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { why: why.into(), next: next.into(), is_final: true, cause: NotReadyCause::Other }
    }

    /// The same reason with its kind.
    fn of_kind(self, cause: NotReadyCause) -> Self {
        Self { cause, ..self }
    }
}

impl fmt::Display for NotReadyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.next)
    }
}

/// Whether a pod is being deleted. Such a pod has not failed, whatever its containers end with, and
/// whoever owns it has another one instead.
pub fn is_being_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Explains why a pod is not ready. `None` when it is ready, or has ended with success.
pub fn explain_pod(pod: &Pod) -> Option<NotReadyReason> {
    if is_being_deleted(pod) {
        return Some(NotReadyReason::temporary("it is being deleted", "wait until it is gone"));
    }
    let status = pod.status.as_ref()?;
    let phase = status.phase.as_deref().unwrap_or("Pending");
    if phase == "Succeeded"
        || (phase == "Running" && find_condition(pod, "Ready", "True").is_some())
    {
        return None;
    }
    if let Some(unscheduled) = find_condition(pod, "PodScheduled", "False") {
        return Some(explain_scheduling(unscheduled));
    }
    // Init containers first: the main ones wait for them and have nothing to say yet.
    let init = status.init_container_statuses.iter().flatten();
    let main = status.container_statuses.iter().flatten();
    if let Some(reason) = init.chain(main).find_map(explain_container) {
        return Some(reason);
    }
    if phase == "Failed" {
        let why = status.message.clone().or_else(|| status.reason.clone());
        return Some(
            NotReadyReason::permanent(
                why.unwrap_or_else(|| "it failed".to_owned()),
                "read its log and its events",
            )
            .of_kind(NotReadyCause::Ended),
        );
    }
    // The kubelet has not reported any container yet.
    if status.container_statuses.is_none() {
        return Some(NotReadyReason::temporary(
            "its volumes and network are being set up",
            "if this goes on, its events name the volume that cannot be mounted",
        ));
    }
    Some(NotReadyReason::temporary("its containers are starting", "wait"))
}

fn explain_scheduling(condition: &PodCondition) -> NotReadyReason {
    let why = condition.message.clone().unwrap_or_else(|| "no node can run it".to_owned());
    // The words are those of kube-scheduler's plugins (kubernetes
    // `pkg/scheduler/framework/plugins`).
    let next = if why.contains("unbound immediate PersistentVolumeClaims") {
        "see why the claim's storage class provides no volume, or name another storageClass in site.yaml"
    } else if why.contains("persistentvolumeclaim") && why.contains("not found") {
        "create the claim: gantry models push … --to pvc://NAMESPACE/CLAIM --create"
    } else if why.contains("Insufficient") {
        "free resources on the nodes, or request less in the values"
    } else if why.contains("taint") {
        "add a toleration in the values, or remove the taint from a node"
    } else {
        "check which nodes match the pod's selectors and claims"
    };
    NotReadyReason::temporary(why, next)
}

fn explain_container(status: &ContainerStatus) -> Option<NotReadyReason> {
    let name = &status.name;
    let state = status.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.as_deref().unwrap_or_default();
        return explain_waiting_container(status, reason, message);
    }
    if let Some(ended) = &state.terminated {
        return (ended.exit_code != 0).then(|| {
            let why = format!("container {name} ended with code {}", ended.exit_code);
            NotReadyReason::permanent(why, "read its log").of_kind(NotReadyCause::Ended)
        });
    }
    let is_running = state.running.is_some();
    (is_running && !status.ready && status.restart_count > 0).then(|| {
        let times = status.restart_count;
        NotReadyReason::temporary(
            format!("container {name} is running but not ready, restarted {times} times"),
            "read its log; a probe may be too strict",
        )
    })
}

fn explain_waiting_container(
    status: &ContainerStatus,
    reason: &str,
    message: &str,
) -> Option<NotReadyReason> {
    let name = &status.name;
    let image = &status.image;
    match reason {
        "" | "ContainerCreating" | "PodInitializing" => None,
        "ImagePullBackOff" | "ErrImagePull" | "RegistryUnavailable" => {
            Some(explain_pull_failure(name, image, message))
        }
        "InvalidImageName" => Some(NotReadyReason::permanent(
            format!("{image:?} is not a valid image name"),
            "correct the values",
        )),
        "ErrImageNeverPull" => Some(NotReadyReason::permanent(
            format!("{image} is not on the node, and its pull policy is Never"),
            "set the pull policy to IfNotPresent in the values",
        )),
        "CrashLoopBackOff" => {
            let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let why = match ended {
                Some(ended) if ended.reason.as_deref() == Some("OOMKilled") => {
                    let next = "raise its memory limit in the values";
                    return Some(NotReadyReason::temporary(
                        format!("container {name} was killed: out of memory"),
                        next,
                    ));
                }
                Some(ended) => {
                    format!("container {name} keeps ending, with code {}", ended.exit_code)
                }
                None => format!("container {name} keeps ending"),
            };
            Some(NotReadyReason::temporary(why, "read its log"))
        }
        "CreateContainerConfigError" => Some(NotReadyReason::temporary(
            format!("container {name}: {message}"),
            "create the ConfigMap, Secret or key that it names",
        )),
        other => Some(NotReadyReason::temporary(
            format!("container {name}: {other}: {message}"),
            "read the pod's events",
        )),
    }
}

/// Explains why a node cannot pull an image. The message is that of the node's container runtime,
/// containerd or CRI-O.
fn explain_pull_failure(container: &str, image: &str, message: &str) -> NotReadyReason {
    let lower = message.to_lowercase();
    let (why, next) = if lower.contains("x509") || lower.contains("certificate") {
        (
            "the node does not trust the registry's certificate",
            "put the site's CA on every node (gantry relocate --mirrors writes the files)",
        )
    } else if lower.contains("server gave http response to https client") {
        (
            "the registry speaks http, but the node uses https",
            "configure the registry as plain http in the node's hosts.toml",
        )
    } else if lower.contains("401")
        || lower.contains("403")
        || lower.contains("unauthorized")
        || lower.contains("authorization failed")
        || lower.contains("denied")
    {
        (
            "the registry requires a credential, and the pod has none or a wrong one",
            "check the pull secret of the namespace and its service accounts",
        )
    } else if lower.contains("no match for platform") {
        (
            "the image does not exist for the node's platform",
            "add the platform to gantry.yaml, then lock, fetch, pack and load again",
        )
    } else if lower.contains("not found") || lower.contains("manifest unknown") {
        (
            "the registry has no such image",
            "load the bundle that has it, or correct the values with gantry relocate",
        )
    } else if lower.contains("no such host") || lower.contains("lookup ") {
        (
            "the node cannot resolve the registry's name",
            "use the site's registry: gantry relocate writes the values for it",
        )
    } else if lower.contains("refused")
        || lower.contains("timeout")
        || lower.contains("deadline")
        || lower.contains("unreachable")
    {
        (
            "the node cannot reach the registry",
            "check that the registry runs, and the network between them",
        )
    } else if message.is_empty() || lower.contains("back-off pulling image") {
        ("it cannot be pulled", "read the pod's events for the node's message")
    } else {
        (message, "act on the node's message")
    };
    let problem = format!("cannot pull {image}: {why}");
    NotReadyReason::temporary(format!("container {container} {problem}"), next)
        .of_kind(NotReadyCause::Pull(problem))
}

/// The pod's condition of this type, if it has this status.
fn find_condition<'a>(pod: &'a Pod, kind: &str, status: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind && condition.status == status)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::serde_json::{from_value, json};

    fn explain_waiting(reason: &str, message: &str) -> NotReadyReason {
        let pod: Pod = from_value(json!({
            "status": {"phase": "Pending", "containerStatuses": [{
                "name": "main", "image": "registry.site/app:1", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": message}}}]}
        }))
        .unwrap();
        explain_pod(&pod).unwrap()
    }

    #[test]
    fn a_failed_pull_is_told_apart_by_the_nodes_words() {
        let words = [
            (
                "failed to do request: tls: failed to verify certificate: x509: certificate signed by unknown authority",
                "trust",
            ),
            ("http: server gave HTTP response to HTTPS client", "speaks http"),
            (
                "pull access denied, repository does not exist or may require authorization",
                "credential",
            ),
            ("registry.site/app:1: not found", "no such image"),
            ("no match for platform in manifest: not found", "platform"),
            ("dial tcp: lookup registry.site: no such host", "resolve"),
            ("dial tcp 10.0.0.1:443: connect: connection refused", "reach"),
        ];
        for (message, expected) in words {
            let reason = explain_waiting("ErrImagePull", message);
            assert!(reason.why.contains(expected), "{message} was explained as {reason}");
            assert!(reason.why.contains("registry.site/app:1"), "{reason}");
        }
    }

    #[test]
    fn a_pod_that_is_being_deleted_has_not_failed() {
        let pod: Pod = from_value(json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Failed", "containerStatuses": [{
                "name": "main", "image": "a", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 137}}}]}
        }))
        .unwrap();
        let reason = explain_pod(&pod).unwrap();
        assert!(!reason.is_final && reason.why.contains("being deleted"), "{reason}");
        assert_eq!(reason.cause, NotReadyCause::Other);
    }

    #[test]
    fn a_ready_pod_needs_no_reason() {
        let pod: Pod = from_value(json!({"status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}]}}))
        .unwrap();
        assert_eq!(explain_pod(&pod), None);
    }
}
