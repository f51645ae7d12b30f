//! The claim that models are loaded into: whether it exists and can be used, which pod uses it
//! already, and how it is made where the user wants that.

use cluster::objects::api::core::v1::{PersistentVolumeClaim, Pod};
use cluster::objects::api::storage::v1::StorageClass;
use cluster::objects::serde_json::{from_value, json};
use cluster::pod_spec::list_claims;
use cluster::{Cluster, ObjectScope, mark_as_own};
use types::ByteSize;

use super::error::{Error, Result};
use types::destination::ClaimFolder;
use types::site::NewClaim;

/// A new claim is this much larger than its models: for what the file system keeps for itself (ext4
/// reserves 5 %) and for the small files of the next revision.
const ROOM_PERCENT: u64 = 20;
/// The smallest size of a new claim: several providers round up to this in any case.
const SMALLEST: u64 = 1 << 30;

/// A claim that models are loaded into, as it was found.
#[derive(Debug, Clone)]
pub struct ClaimVolume {
    /// The namespace, name and folder.
    pub path: ClaimFolder,
    /// The claim to be made first, where it does not exist.
    pub to_make: Option<PersistentVolumeClaim>,
    /// The node on which a pod has it mounted, where only one node may (ReadWriteOnce).
    pub node: Option<String>,
    /// A pod that uses it; the seeder takes over its tolerations and node selector.
    pub consumer: Option<Pod>,
}

impl ClaimVolume {
    /// Checks a claim before anything is written. `bytes` is the size of what will be loaded; `new` says
    /// how the claim is made where it does not exist, which is an error without it.
    pub async fn inspect_claim(
        cluster: &Cluster,
        path: &ClaimFolder,
        bytes: u64,
        new: Option<&NewClaim>,
    ) -> Result<Self> {
        let scope = ObjectScope::Namespace(&path.namespace);
        let claim = cluster.get_object::<PersistentVolumeClaim>(scope, &path.name).await?;
        let Some(claim) = claim else {
            let Some(new) = new else {
                return Err(Error::invalid_input(
                    path.to_string(),
                    "there is no such claim",
                    "let Gantry create it with --create (create: in site.yaml), or create it yourself",
                ));
            };
            let claim = build_claim(cluster, path, bytes, new).await?;
            return Ok(Self {
                path: path.clone(),
                to_make: Some(claim),
                node: None,
                consumer: None,
            });
        };
        check_usable(path, &claim)?;
        let consumer = find_consumer(cluster, path).await?;
        let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.clone());
        let modes = modes.unwrap_or_default();
        // ReadWriteMany and ReadOnlyMany volumes can be mounted on several nodes at once.
        let is_of_one_node = !modes.iter().any(|mode| mode.ends_with("Many"));
        if modes == ["ReadWriteOncePod"]
            && let Some(pod) = consumer.as_ref().filter(|pod| node_of_pod(pod).is_some())
        {
            let name = pod.metadata.name.clone().unwrap_or_default();
            return Err(Error::invalid_input(
                path.to_string(),
                format!("its access mode is ReadWriteOncePod, and the pod {name} uses it"),
                "scale that workload to zero, run this command, and scale it up again",
            ));
        }
        let node = consumer.as_ref().and_then(node_of_pod).filter(|_| is_of_one_node);
        Ok(Self { path: path.clone(), to_make: None, node, consumer })
    }

    /// Makes the claim where it does not exist. Returns whether it was made.
    pub async fn create_claim(&self, cluster: &Cluster) -> Result<bool> {
        let Some(claim) = &self.to_make else { return Ok(false) };
        cluster.create_object(ObjectScope::Namespace(&self.path.namespace), claim).await?;
        Ok(true)
    }
}

/// Refuses a claim that no pod could write files to.
fn check_usable(path: &ClaimFolder, claim: &PersistentVolumeClaim) -> Result<()> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if claim.metadata.deletion_timestamp.is_some() {
        let next = "wait until it is deleted, or use another name";
        return Err(Error::invalid_input(path.to_string(), "the claim is being deleted", next));
    }
    if phase == Some("Lost") {
        let next = "its volume does not exist any more: delete the claim and let Gantry create it again with --create";
        return Err(Error::invalid_input(path.to_string(), "the claim is Lost", next));
    }
    let mode = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    if mode == Some("Block") {
        let next = "models need a file system: create a claim with volumeMode: Filesystem";
        return Err(Error::invalid_input(path.to_string(), "its volumeMode is Block", next));
    }
    Ok(())
}

/// A pod that uses the claim, if there is one; preferably one that has a node. Gantry's own pods do not
/// count.
async fn find_consumer(cluster: &Cluster, path: &ClaimFolder) -> Result<Option<Pod>> {
    let pods = cluster.list_objects::<Pod>(ObjectScope::Namespace(&path.namespace), "").await?;
    let uses = |pod: &Pod| list_claims(pod).any(|claim| claim == path.name);
    let has_ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let using = pods
        .into_iter()
        .filter(|pod| uses(pod) && !has_ended(pod) && !cluster::is_own(&pod.metadata));
    // A pod that has a node tells where a ReadWriteOnce volume can be mounted.
    Ok(using.max_by_key(|pod| node_of_pod(pod).is_some()))
}

fn node_of_pod(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

/// The claim as it will be made. Its storage class has to exist: else the claim would stay Pending.
async fn build_claim(
    cluster: &Cluster,
    path: &ClaimFolder,
    bytes: u64,
    new: &NewClaim,
) -> Result<PersistentVolumeClaim> {
    let classes = cluster.list_objects::<StorageClass>(ObjectScope::Cluster, "").await?;
    let names: Vec<String> =
        classes.iter().filter_map(|class| class.metadata.name.clone()).collect();
    let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    match &new.storage_class {
        Some(class) if !names.contains(class) => {
            return Err(Error::invalid_input(
                path.to_string(),
                format!("the cluster has no storage class {class:?}"),
                format!("use one of: {has}"),
            ));
        }
        None if !classes.iter().any(cluster::is_default_storage_class) => {
            return Err(Error::invalid_input(
                path.to_string(),
                "the cluster has no default storage class",
                format!(
                    "choose one with --storage-class, or storageClass: in site.yaml; the cluster has: {has}"
                ),
            ));
        }
        _ => {}
    }
    // Whole MiB: some storage drivers refuse or round odd sizes.
    let size = new.size.map_or_else(
        || (bytes + bytes / 100 * ROOM_PERCENT).max(SMALLEST).next_multiple_of(1 << 20),
        |size| size.0,
    );
    if size < bytes {
        return Err(Error::invalid_input(
            path.to_string(),
            format!(
                "--size {} is less than the size of the models, {}",
                ByteSize(size),
                ByteSize(bytes)
            ),
            "give a larger --size, or leave it out",
        ));
    }
    let claim = json!({
        "metadata": {"name": path.name, "namespace": path.namespace},
        "spec": {
            "accessModes": [new.access_mode.as_str()],
            "resources": {"requests": {"storage": size.to_string()}},
        },
    });
    let claim = from_value::<PersistentVolumeClaim>(claim);
    let mut claim = claim.map_err(|error| {
        Error::invalid_input(path.to_string(), error, "this is a bug in Gantry, please report it")
    })?;
    mark_as_own(&mut claim.metadata, "models");
    if let Some(spec) = &mut claim.spec {
        spec.storage_class_name.clone_from(&new.storage_class);
    }
    Ok(claim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn make_path() -> ClaimFolder {
        ClaimFolder { namespace: "ai".into(), name: "models".into(), folder: String::new() }
    }

    fn check(claim: cluster::objects::serde_json::Value) -> Result<()> {
        check_usable(&make_path(), &from_value(claim).unwrap())
    }

    #[test]
    fn a_claim_that_no_pod_could_write_to_is_refused_with_a_next_step() {
        for (claim, reason) in [
            (
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                "is being deleted; wait",
            ),
            (json!({"metadata": {}, "status": {"phase": "Lost"}}), "is Lost; its volume"),
            (
                json!({"metadata": {}, "spec": {"volumeMode": "Block"}}),
                "volumeMode is Block; models need",
            ),
        ] {
            let error = check(claim).unwrap_err().to_string();
            assert!(error.contains("pvc://ai/models") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_claim_that_waits_for_its_first_pod_is_usable() {
        let pending = json!({"metadata": {}, "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}});
        assert!(check(pending).is_ok());
        assert!(check(json!({"metadata": {}})).is_ok());
    }
}
