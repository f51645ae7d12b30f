//! Decides which objects of a release have to become ready, and whether they are: Deployments,
//! StatefulSets, DaemonSets, Jobs, Pods and claims, by the status that their controllers report.
//! `wait` polls this and explains what is missing.

use std::collections::BTreeSet;

use cluster::objects::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use cluster::objects::api::batch::v1::Job;
use cluster::objects::api::core::v1::{PersistentVolumeClaim, Pod};
use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use cluster::{Cluster, ObjectId, ObjectScope, TypedObject};

use super::objects::RenderedObject;
use crate::Result;

/// The objects of a release that a deploy waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct AwaitedObjects {
    /// Their identities.
    pub(super) ids: BTreeSet<ObjectId>,
}

/// One of these objects that is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnreadyObject {
    pub(super) id: ObjectId,
    /// Its `metadata.uid`, by which its pods name their owner; empty if it does not exist.
    pub(super) uid: String,
    /// Why, by the status that its controller reports.
    pub(super) why: String,
    /// Whether waiting cannot help.
    pub(super) is_final: bool,
}

/// All pods of a namespace, and the ReplicaSets between them and their Deployments.
pub(super) struct NamespacePods {
    pub(super) pods: Vec<Pod>,
    sets: Vec<ReplicaSet>,
}

impl AwaitedObjects {
    /// Selects from a release's objects those that have to become ready.
    pub(super) fn from_objects(objects: &[RenderedObject]) -> Self {
        let is_waited_for = |id: &&ObjectId| {
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

    /// The namespaces of these objects.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        self.ids.iter().filter_map(|id| id.namespace.clone()).collect()
    }

    /// Returns the objects that are not ready. One that does not exist yet counts as not ready.
    pub(super) async fn find_unready(&self, cluster: &Cluster) -> Result<Vec<UnreadyObject>> {
        let mut waiting = Vec::new();
        for id in &self.ids {
            let state = match id.kind.as_str() {
                "Deployment" => judge_object(cluster, id, judge_deployment).await?,
                "StatefulSet" => judge_object(cluster, id, judge_stateful_set).await?,
                "DaemonSet" => judge_object(cluster, id, judge_daemon_set).await?,
                "Job" => judge_object(cluster, id, judge_job).await?,
                "Pod" => judge_object(cluster, id, judge_pod).await?,
                _ => judge_object(cluster, id, judge_claim).await?,
            };
            if let Some((uid, why, is_final)) = state {
                waiting.push(UnreadyObject { id: id.clone(), uid, why, is_final });
            }
        }
        Ok(waiting)
    }
}

impl NamespacePods {
    /// Lists the pods of a namespace.
    pub(super) async fn list(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let scope = ObjectScope::Namespace(namespace);
        let pods = cluster.list_objects::<Pod>(scope, "").await?;
        // Without the right to list ReplicaSets, pods cannot be assigned to their Deployments; the
        // status of the Deployment still says how many are missing.
        let sets = cluster.list_objects::<ReplicaSet>(scope, "").await.unwrap_or_default();
        Ok(Self { pods, sets })
    }

    /// The pods that an object owns, directly or through a ReplicaSet.
    pub(super) fn pods_owned_by<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().filter(move |pod| {
            pod.metadata.uid.as_deref() == Some(uid)
                || list_owner_uids(&pod.metadata).any(|owner| {
                    let mut sets = self.sets.iter();
                    let by_set = |set: &ReplicaSet| {
                        set.metadata.uid.as_deref() == Some(owner)
                            && list_owner_uids(&set.metadata).any(|above| above == uid)
                    };
                    owner == uid || sets.any(by_set)
                })
        })
    }

    /// The pods of an object that are not being deleted: itself, or those that it owns, directly or
    /// through a ReplicaSet.
    pub(super) fn pods_of<'a>(&'a self, id: &'a ObjectId) -> impl Iterator<Item = &'a Pod> {
        let living = self.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        living.filter(move |pod| {
            let is_it = id.kind == "Pod" && pod.metadata.name.as_ref() == Some(&id.name);
            is_it
                || is_owned_by(&pod.metadata, id)
                || list_owner_uids(&pod.metadata).any(|owner| {
                    let mut sets = self.sets.iter();
                    sets.any(|set| {
                        set.metadata.uid.as_deref() == Some(owner) && is_owned_by(&set.metadata, id)
                    })
                })
        })
    }
}

/// Whether the owner of an object is the object with this identity.
fn is_owned_by(metadata: &ObjectMeta, id: &ObjectId) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| {
        owner.api_version == id.api_version && owner.kind == id.kind && owner.name == id.name
    })
}

fn list_owner_uids(metadata: &ObjectMeta) -> impl Iterator<Item = &str> {
    metadata.owner_references.iter().flatten().map(|owner| owner.uid.as_str())
}

/// Reads an object and judges it with `why`, which returns why the object is not ready and whether
/// waiting cannot help. Returns its uid with that, or `None` if it is ready.
async fn judge_object<K: TypedObject>(
    cluster: &Cluster,
    id: &ObjectId,
    why: impl Fn(&K) -> Option<(String, bool)>,
) -> Result<Option<(String, String, bool)>> {
    let scope = id.namespace.as_deref().map_or(ObjectScope::Cluster, ObjectScope::Namespace);
    let Some(object) = cluster.get_object::<K>(scope, &id.name).await? else {
        return Ok(Some((String::new(), "it does not exist yet".to_owned(), false)));
    };
    let uid = object.meta().uid.clone().unwrap_or_default();
    Ok(why(&object).map(|(why, is_final)| (uid, why, is_final)))
}

fn judge_deployment(deployment: &Deployment) -> Option<(String, bool)> {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    // Until the controller has seen the new specification, its numbers are those of the old one.
    // The conditions are the same as in `kubectl rollout status` (kubectl, `polymorphichelpers`).
    let is_seen = status.observed_generation >= deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    let all = status.replicas.unwrap_or(0);
    // `all <= updated`: the pods of the revision before are gone, so the answer comes from the new
    // ones.
    if is_seen && updated >= wanted && available >= wanted && all <= updated {
        return None;
    }
    // Quotas and admission webhooks refuse pods, not the Deployment; the reason is in this
    // condition.
    let failure = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    if let Some(words) = failure.and_then(|condition| condition.message.clone()) {
        return Some((words, false));
    }
    let current = updated.min(available);
    Some((
        format_ready_count(
            current,
            wanted,
            if all > updated { "; old pods are terminating" } else { "" },
        ),
        false,
    ))
}

fn judge_stateful_set(set: &StatefulSet) -> Option<(String, bool)> {
    let spec = set.spec.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let status = set.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation >= set.metadata.generation;
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    // With the strategy OnDelete, or below a partition, old pods stay until somebody deletes them:
    // waiting for them would never end.
    let is_rolling = strategy.type_.as_deref() != Some("OnDelete")
        && strategy.rolling_update.and_then(|rolling| rolling.partition).unwrap_or(0) == 0;
    let is_current = !is_rolling || status.current_revision == status.update_revision;
    let ready = status.ready_replicas.unwrap_or(0);
    (!(is_seen && is_current && ready >= wanted)).then(|| {
        (
            format_ready_count(
                ready,
                wanted,
                if is_current { "" } else { "; old pods are terminating" },
            ),
            false,
        )
    })
}

fn judge_daemon_set(set: &DaemonSet) -> Option<(String, bool)> {
    let status = set.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation >= set.metadata.generation;
    let wanted = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let available = status.number_available.unwrap_or(0);
    (!(is_seen && updated >= wanted && available >= wanted))
        .then(|| (format_ready_count(updated.min(available), wanted, ""), false))
}

fn judge_job(job: &Job) -> Option<(String, bool)> {
    // A suspended job is a decision of its author, and would never complete.
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
    Some(("it is still running".to_owned(), false))
}

fn judge_pod(pod: &Pod) -> Option<(String, bool)> {
    cluster::explain_pod(pod).map(|reason| (reason.why, reason.is_final))
}

fn judge_claim(claim: &PersistentVolumeClaim) -> Option<(String, bool)> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        Some("Bound") => None,
        Some("Lost") => Some(("its volume no longer exists (phase Lost)".to_owned(), true)),
        _ => Some(("no volume is bound to it yet".to_owned(), false)),
    }
}

fn format_ready_count(is: i32, wanted: i32, more: &str) -> String {
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
        assert_eq!(judge_stateful_set(&set(2, "b")), None);
        assert_eq!(judge_stateful_set(&set(1, "b")).unwrap().0, "1 of 2 ready");
        assert!(judge_stateful_set(&set(2, "a")).unwrap().0.contains("old pods are terminating"));
        let failed: Job = from_value(json!({"status": {"conditions": [
            {"type": "Failed", "status": "True", "message": "it has reached its limit"}]}}))
        .unwrap();
        assert!(judge_job(&failed).unwrap().1);
    }
}
