//! Removes a release of manifests: its objects in the reverse order of application, then its records.

use cluster::objects::api::core::v1::PersistentVolumeClaim;
use cluster::{Cluster, Error as Cause, ObjectId, ObjectScope};

use super::super::claim_retention::{ClaimRetention, list_own_claims};
use super::super::objects::RenderedObject;
use super::desired::identify_object;
use super::marks::{ObjectOwner, find_owner, find_reason_to_keep};
use super::record::{self, ManifestHistory, RevisionState};
use crate::Result;

/// Removes a release. Returns what was kept, each with the reason.
pub(in crate::release) async fn undeploy_manifests(
    cluster: &Cluster,
    namespace: &str,
    release: &str,
    claims: ClaimRetention,
) -> Result<Vec<String>> {
    let history = ManifestHistory::read(cluster, namespace, release).await?;
    let Some(newest) = history.newest() else { return Ok(vec![]) };
    record::note_state(cluster, (release, namespace), newest.number, RevisionState::Uninstalling)
        .await?;
    let mut objects: Vec<RenderedObject> = Vec::new();
    for object in history.list_possible_objects() {
        let id = identify_object(cluster, object, namespace).await?;
        if !objects.iter().any(|known| known.id == id) {
            objects.push(RenderedObject { id, value: object.clone() });
        }
    }
    // Looked up first: claims of a set are known by the set.
    let own_claims = list_own_claims(cluster, namespace, &objects).await?;
    let mut kept = Vec::new();
    for object in objects.iter().rev() {
        if let Some(why) = remove_object(cluster, &object.id, (release, namespace), claims).await? {
            kept.push(format!("{}: {why}", object.id));
        }
    }
    let scope = ObjectScope::Namespace(namespace);
    for claim in own_claims {
        let is_object = |object: &RenderedObject| {
            object.id.kind == "PersistentVolumeClaim" && object.id.name == claim
        };
        match claims {
            ClaimRetention::Deleted => {
                cluster.delete_object::<PersistentVolumeClaim>(scope, &claim).await?;
            }
            ClaimRetention::Kept if !objects.iter().any(is_object) => {
                kept.push(format!("PersistentVolumeClaim {namespace}/{claim}: its data is kept"));
            }
            ClaimRetention::Kept => {}
        }
    }
    for revision in &history.revisions {
        record::delete_record(cluster, (release, namespace), revision.number).await?;
    }
    Ok(kept)
}

/// Deletes an object of a release. Returns why it is kept, if it is.
async fn remove_object(
    cluster: &Cluster,
    id: &ObjectId,
    (release, namespace): (&str, &str),
    claims: ClaimRetention,
) -> Result<Option<&'static str>> {
    let live = match cluster.read_manifest(id).await {
        Ok(Some(live)) => live,
        Ok(None) | Err(Cause::NoKind { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if find_owner(&live, release, namespace) != ObjectOwner::ThisRelease {
        return Ok(None);
    }
    let is_data = id.kind == "PersistentVolumeClaim";
    match find_reason_to_keep(id, &live) {
        Some(why) if !(is_data && claims == ClaimRetention::Deleted) => Ok(Some(why)),
        _ => {
            cluster.delete_manifest(id).await?;
            Ok(None)
        }
    }
}
