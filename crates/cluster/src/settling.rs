//! Decides whether pods that are ready stay ready.
//!
//! Kubernetes takes a container without a readiness probe for ready from the moment it starts, even
//! if it exits a moment later. On a busy machine that moment lasts for seconds: the kubelet looks at
//! its containers once a second, and reports their end after that.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use tokio::time::Instant;

/// How long a container without a readiness probe has to run before it counts as ready. As
/// `minReadySeconds` of a Deployment, for charts that do not set it.
const SETTLED: Duration = Duration::from_secs(3);

/// Pods that are watched until their containers have settled. Ask it at each look at the cluster.
#[derive(Debug, Default)]
pub struct SettlingPods {
    /// Each running container without a readiness probe, and when it was seen first.
    since: BTreeMap<UnprobedContainer, Instant>,
}

/// A container without a readiness probe, as it runs now. After a restart it is another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct UnprobedContainer {
    pod_uid: String,
    name: String,
    id: String,
    restarts: i32,
}

impl SettlingPods {
    /// Whether these pods, which are all ready, can be expected to stay so: each container has a
    /// readiness probe, or has been running for three seconds without a restart.
    pub fn have_settled<'a>(&mut self, pods: impl IntoIterator<Item = &'a Pod>) -> bool {
        self.have_settled_at(Instant::now(), pods)
    }

    fn have_settled_at<'a>(
        &mut self,
        now: Instant,
        pods: impl IntoIterator<Item = &'a Pod>,
    ) -> bool {
        let running: Vec<_> = pods.into_iter().flat_map(list_unprobed_containers).collect();
        self.since.retain(|container, _| running.contains(container));
        let mut is_settled = true;
        for container in running {
            let since = *self.since.entry(container).or_insert(now);
            is_settled &= now.duration_since(since) >= SETTLED;
        }
        is_settled
    }
}

/// The running containers of a pod that have no readiness probe.
fn list_unprobed_containers(pod: &Pod) -> Vec<UnprobedContainer> {
    let Some((spec, status)) = pod.spec.as_ref().zip(pod.status.as_ref()) else { return vec![] };
    let is_unprobed = |status: &&ContainerStatus| {
        let is_it = |container: &&Container| container.name == status.name;
        let container = spec.containers.iter().find(is_it);
        container.is_some_and(|container| container.readiness_probe.is_none())
    };
    let as_it_runs = |status: &ContainerStatus| UnprobedContainer {
        pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
        name: status.name.clone(),
        id: status.container_id.clone().unwrap_or_default(),
        restarts: status.restart_count,
    };
    let is_running = |status: &&ContainerStatus| {
        status.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    let statuses = status.container_statuses.iter().flatten();
    statuses.filter(is_running).filter(is_unprobed).map(as_it_runs).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::serde_json::{Value, from_value, json};

    fn pod(probe: &Value, id: &str, restarts: i32) -> Pod {
        from_value(json!({
            "metadata": {"uid": "1"},
            "spec": {"containers": [{"name": "main", "readinessProbe": probe}]},
            "status": {"containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": true,
                "containerID": id, "restartCount": restarts, "state": {"running": {}}}]}
        }))
        .unwrap()
    }

    #[test]
    fn a_probe_is_believed_at_once() {
        let probed = pod(&json!({"tcpSocket": {"port": 80}}), "a", 0);
        assert!(SettlingPods::default().have_settled(&[probed]));
        assert!(SettlingPods::default().have_settled(&[]));
    }

    #[test]
    fn a_container_without_a_probe_settles_when_it_runs_on() {
        let (mut settling, start) = (SettlingPods::default(), Instant::now());
        let first = [pod(&Value::Null, "a", 0)];
        assert!(!settling.have_settled_at(start, &first));
        assert!(!settling.have_settled_at(start + SETTLED / 2, &first));
        assert!(settling.have_settled_at(start + SETTLED, &first));
    }

    #[test]
    fn a_restart_begins_anew() {
        let (mut settling, start) = (SettlingPods::default(), Instant::now());
        settling.have_settled_at(start, &[pod(&Value::Null, "a", 0)]);
        let again = [pod(&Value::Null, "b", 1)];
        assert!(!settling.have_settled_at(start + SETTLED, &again));
        // The first one is forgotten, so that its time does not count for the second.
        assert!(settling.have_settled_at(start + SETTLED * 2, &again));
    }
}
