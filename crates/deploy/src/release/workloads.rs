//! What of a release has to come up, and whether it has: deployments, stateful and daemon sets, jobs,
//! pods and claims, by the numbers that their controllers report.

use std::collections::BTreeSet;

use cluster::objects::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use cluster::objects::api::batch::v1::Job;
use cluster::objects::api::core::v1::{PersistentVolumeClaim, Pod};
use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use cluster::{Cluster, Id, Object, Scope};

use super::error::Result;
use super::objects::Rendered;

/// What is waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Workloads {
    /// The objects that have to come up.
    pub(super) ids: BTreeSet<Id>,
}

/// One of them that is not up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) id: Id,
    pub(super) uid: String,
    /// What its controller says.
    pub(super) why: String,
    /// Whether waiting cannot help.
    pub(super) is_final: bool,
}

/// All pods of a namespace, and who owns them.
pub(super) struct Pods {
    pub(super) pods: Vec<Pod>,
    sets: Vec<ReplicaSet>,
}

impl Workloads {
    /// Those of a release's objects that have to come up.
    pub(super) fn of(objects: &[Rendered]) -> Self {
        let is_waited_for = |id: &&Id| {
            matches!(
                (id.api_version.as_str(), id.kind.as_str()),
                ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet")
                    | ("batch/v1", "Job")
                    | ("v1", "Pod" | "PersistentVolumeClaim")
            )
        };
        Self {
            ids: objects.iter().map(|object| &object.id).filter(is_waited_for).cloned().collect(),
        }
    }

    /// The namespaces that they are in.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        self.ids.iter().filter_map(|id| id.namespace.clone()).collect()
    }

    /// Those that are not up. What is not there at all is waited for too.
    pub(super) async fn waiting(&self, cluster: &Cluster) -> Result<Vec<Waiting>> {
        let mut waiting = Vec::new();
        for id in &self.ids {
            let state = match id.kind.as_str() {
                "Deployment" => state(cluster, id, deployment).await?,
                "StatefulSet" => state(cluster, id, stateful_set).await?,
                "DaemonSet" => state(cluster, id, daemon_set).await?,
                "Job" => state(cluster, id, job).await?,
                "Pod" => state(cluster, id, pod).await?,
                _ => state(cluster, id, claim).await?,
            };
            if let Some((uid, why, is_final)) = state {
                waiting.push(Waiting { id: id.clone(), uid, why, is_final });
            }
        }
        Ok(waiting)
    }
}

impl Pods {
    /// The pods of a namespace.
    pub(super) async fn of(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let scope = Scope::Namespace(namespace);
        let pods = cluster.list::<Pod>(scope, "").await?;
        // Who may not look at replica sets hears of the pods by name.
        let sets = cluster.list::<ReplicaSet>(scope, "").await.unwrap_or_default();
        Ok(Self { pods, sets })
    }

    /// The pods that an object owns, itself or by a replica set.
    pub(super) fn owned_by<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().filter(move |pod| {
            pod.metadata.uid.as_deref() == Some(uid)
                || owners(&pod.metadata).any(|owner| {
                    let mut sets = self.sets.iter();
                    let by_set = |set: &ReplicaSet| {
                        set.metadata.uid.as_deref() == Some(owner)
                            && owners(&set.metadata).any(|above| above == uid)
                    };
                    owner == uid || sets.any(by_set)
                })
        })
    }
}

fn owners(metadata: &ObjectMeta) -> impl Iterator<Item = &str> {
    metadata.owner_references.iter().flatten().map(|owner| owner.uid.as_str())
}

/// What an object's state is, by a function that says why it is not up and whether waiting cannot
/// help; `None` when it is.
async fn state<K: Object>(
    cluster: &Cluster,
    id: &Id,
    why: impl Fn(&K) -> Option<(String, bool)>,
) -> Result<Option<(String, String, bool)>> {
    let scope = id.namespace.as_deref().map_or(Scope::Cluster, Scope::Namespace);
    let Some(object) = cluster.get::<K>(scope, &id.name).await? else {
        return Ok(Some((String::new(), "it is not there yet".to_owned(), false)));
    };
    let uid = object.meta().uid.clone().unwrap_or_default();
    Ok(why(&object).map(|(why, is_final)| (uid, why, is_final)))
}

fn deployment(deployment: &Deployment) -> Option<(String, bool)> {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation >= deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let all = status.replicas.unwrap_or(0);
    if is_seen && updated >= wanted && available >= wanted && all <= updated {
        return None;
    }
    let failure = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    if let Some(words) = failure.and_then(|condition| condition.message.clone()) {
        return Some((words, false));
    }
    let current = updated.min(available);
    Some((count(current, wanted, if all > updated { "; old pods are going" } else { "" }), false))
}

fn stateful_set(set: &StatefulSet) -> Option<(String, bool)> {
    let spec = set.spec.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let status = set.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation >= set.metadata.generation;
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    // With OnDelete, or below a partition, old pods stay until somebody deletes them.
    let is_rolling = strategy.type_.as_deref() != Some("OnDelete")
        && strategy.rolling_update.and_then(|rolling| rolling.partition).unwrap_or(0) == 0;
    let is_current = !is_rolling || status.current_revision == status.update_revision;
    let ready = status.ready_replicas.unwrap_or(0);
    (!(is_seen && is_current && ready >= wanted)).then(|| {
        (count(ready, wanted, if is_current { "" } else { "; old pods are going" }), false)
    })
}

fn daemon_set(set: &DaemonSet) -> Option<(String, bool)> {
    let status = set.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation >= set.metadata.generation;
    let wanted = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let available = status.number_available.unwrap_or(0);
    (!(is_seen && updated >= wanted && available >= wanted))
        .then(|| (count(updated.min(available), wanted, ""), false))
}

fn job(job: &Job) -> Option<(String, bool)> {
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        return None;
    }
    let status = job.status.clone().unwrap_or_default();
    let condition = |kind: &str| {
        let mut all = status.conditions.iter().flatten();
        all.find(|condition| condition.type_ == kind && condition.status == "True")
    };
    if condition("Complete").is_some() {
        return None;
    }
    if let Some(failed) = condition("Failed") {
        let words = failed.message.clone().or_else(|| failed.reason.clone());
        return Some((format!("it failed: {}", words.unwrap_or_default()), true));
    }
    Some(("it is at work".to_owned(), false))
}

fn pod(pod: &Pod) -> Option<(String, bool)> {
    cluster::of_pod(pod).map(|reason| (reason.why, reason.is_final))
}

fn claim(claim: &PersistentVolumeClaim) -> Option<(String, bool)> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        Some("Bound") => None,
        Some("Lost") => Some(("its volume is lost".to_owned(), true)),
        _ => Some(("no volume is bound to it yet".to_owned(), false)),
    }
}

fn count(is: i32, wanted: i32, more: &str) -> String {
    format!("{is} of {wanted} ready{more}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cluster::objects::serde_json::{from_value, json};

    #[test]
    fn a_controller_s_numbers_say_whether_it_is_up() {
        let set = |ready: i32, current: &str| -> StatefulSet {
            from_value(
                json!({"metadata": {"generation": 2}, "spec": {"replicas": 2, "serviceName": "s",
                "selector": {}, "template": {}}, "status": {"observedGeneration": 2, "replicas": 2,
                "readyReplicas": ready, "currentRevision": current, "updateRevision": "b"}}),
            )
            .unwrap()
        };
        assert_eq!(stateful_set(&set(2, "b")), None);
        assert_eq!(stateful_set(&set(1, "b")).unwrap().0, "1 of 2 ready");
        assert!(stateful_set(&set(2, "a")).unwrap().0.contains("old pods are going"));
        let failed: Job = from_value(json!({"status": {"conditions": [
            {"type": "Failed", "status": "True", "message": "it has reached its limit"}]}}))
        .unwrap();
        assert!(job(&failed).unwrap().1);
    }
}
