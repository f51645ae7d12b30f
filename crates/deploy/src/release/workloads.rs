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
use crate::readiness::{self, JobStatus, WorkloadStatus};

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
                "Deployment" => {
                    let judge =
                        |one: &Deployment| judge_replicas(&readiness::judge_deployment(one));
                    judge_object(cluster, id, judge).await?
                }
                "StatefulSet" => {
                    let judge =
                        |one: &StatefulSet| judge_replicas(&readiness::judge_stateful_set(one));
                    judge_object(cluster, id, judge).await?
                }
                "DaemonSet" => {
                    let judge = |one: &DaemonSet| judge_replicas(&readiness::judge_daemon_set(one));
                    judge_object(cluster, id, judge).await?
                }
                "Job" => judge_object(cluster, id, judge_awaited_job).await?,
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
        let living = self.pods.iter().filter(|pod| !cluster::is_being_deleted(pod));
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

fn judge_replicas(status: &WorkloadStatus) -> Option<(String, bool)> {
    (!status.is_ready).then(|| (status.describe(), false))
}

fn judge_awaited_job(job: &Job) -> Option<(String, bool)> {
    match readiness::judge_job(job) {
        JobStatus::Complete | JobStatus::Suspended => None,
        JobStatus::Failed(words) => Some((format!("it failed: {words}"), true)),
        JobStatus::Running { .. } => Some(("it is still running".to_owned(), false)),
    }
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
