//! The pod by which a node shows that it can pull: any image without running it, or Gantry's own, which
//! then resolves a name. What its status says about the pull.

use cluster::mark_as_own;
use cluster::objects::api::core::v1::Pod;
use serde_json::{Value, json};

/// The value of the label `gantry.dev/part` on these pods.
pub(super) const PART: &str = "check";
/// A name that the DNS of every cluster knows: the Service of the API server.
pub(super) const RESOLVED: &str = "kubernetes.default";
/// A program that no image has, named so that its error message explains itself.
const NO_PROGRAM: &str = "/gantry-checks-the-pull-alone";

/// Builds a pod that any cluster accepts: restricted pod security, no fixed user (as OpenShift
/// demands), no token, few resources.
pub(super) fn build_pull_pod(
    pod: &str,
    node: &str,
    image: &str,
    is_gantry: bool,
    pull_secret: Option<&str>,
) -> Result<Pod, String> {
    let mut container = json!({
        "name": "pull",
        "image": image,
        "imagePullPolicy": "Always",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi"},
        },
    });
    match is_gantry {
        true => container["args"] = json!(["resolve", RESOLVED, "--output", "json"]),
        false => container["command"] = json!([NO_PROGRAM]),
    }
    let secrets: Vec<Value> = pull_secret.iter().map(|name| json!({"name": name})).collect();
    let manifest = json!({
        "metadata": {"name": pod},
        "spec": {
            "restartPolicy": "Never",
            // Kubernetes ends the pod should Gantry be killed before it can remove it.
            "activeDeadlineSeconds": 600,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            // Not `nodeName`, which bypasses the scheduler and with it the checks of capacity.
            // Tolerates everything, as tainted nodes pull images, too.
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": [node]}
                ]}]
            }}},
            "tolerations": [{"operator": "Exists"}],
            "imagePullSecrets": secrets,
            "containers": [container],
        },
    });
    let mut made: Pod = serde_json::from_value(manifest).map_err(|cause| cause.to_string())?;
    mark_as_own(&mut made.metadata, PART);
    Ok(made)
}

/// How far the pull of an image is.
pub(super) enum PullProgress {
    Waiting,
    Done,
    Failed(String),
}

/// Reads from the status of the pod how far the pull is. Any state that comes after the pull proves
/// it.
pub(super) fn read_pull_progress(pod: &Pod) -> PullProgress {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let Some(status) = statuses.and_then(|all| all.first()) else { return PullProgress::Waiting };
    let state = status.state.as_ref();
    if !status.image_id.is_empty()
        || state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    {
        return PullProgress::Done;
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        // Reported at once, without waiting for the retries of the kubelet: the reasons that pass
        // by themselves are rare, and the check can be repeated.
        Some("ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "InvalidImageName") => {
            PullProgress::Failed(message)
        }
        // The container was created, or its creation failed: the image was there before.
        Some(
            "CreateContainerError"
            | "CreateContainerConfigError"
            | "RunContainerError"
            | "StartError"
            | "CrashLoopBackOff",
        ) => PullProgress::Done,
        _ => PullProgress::Waiting,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod_with(state: &Value, image_id: &str) -> Pod {
        serde_json::from_value(json!({"status": {"containerStatuses": [{
            "name": "pull", "image": "i", "imageID": image_id, "ready": false, "restartCount": 0,
            "state": state}]}}))
        .unwrap()
    }

    #[test]
    fn whatever_comes_after_the_pull_proves_it() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "m"}});
        for (state, is_done) in [
            (waiting("CreateContainerConfigError"), true),
            (waiting("RunContainerError"), true),
            (json!({"terminated": {"exitCode": 128}}), true),
            (waiting("ContainerCreating"), false),
        ] {
            assert_eq!(
                matches!(read_pull_progress(&pod_with(&state, "")), PullProgress::Done),
                is_done,
                "{state}"
            );
        }
        let failed = read_pull_progress(&pod_with(&waiting("ErrImagePull"), ""));
        assert!(matches!(failed, PullProgress::Failed(message) if message == "m"));
    }
}
