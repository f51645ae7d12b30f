//! The claim: whether it is there and can be used, making it where that is asked for, and who uses
//! it already.

use cluster::objects::api::core::v1::{PersistentVolumeClaim, Pod};
use cluster::objects::api::storage::v1::StorageClass;
use cluster::objects::serde_json::{from_value, json};
use cluster::{Cluster, Scope, own};
use types::ByteSize;

use super::error::{Error, Result};
use types::destination::Claim;
use types::site::{AccessMode, NewClaim};

/// The annotation that makes a class the cluster's default (kubernetes.io/docs, "Storage Classes").
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// A claim is made this much larger than its models, for the next revision's small files and what the
/// file system keeps for itself.
const ROOM_PERCENT: u64 = 20;
/// The smallest claim that is made.
const SMALLEST: u64 = 1 << 30;

/// A claim that models go to.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Where.
    pub path: Claim,
    /// The claim that is to be made first.
    pub to_make: Option<PersistentVolumeClaim>,
    /// The node on which a pod has it mounted, where only one may.
    pub node: Option<String>,
    /// A pod that uses it, whose tolerations and node selector the seeder takes.
    pub consumer: Option<Pod>,
}

impl Volume {
    /// Looks at a claim before anything is written. `bytes` is what goes there; `new` how it is made
    /// where it is not there.
    pub async fn find(
        cluster: &Cluster,
        path: &Claim,
        bytes: u64,
        new: Option<&NewClaim>,
    ) -> Result<Self> {
        let scope = Scope::Namespace(&path.namespace);
        let claim = cluster.get::<PersistentVolumeClaim>(scope, &path.name).await?;
        let Some(claim) = claim else {
            let Some(new) = new else {
                return Err(Error::input(
                    path.to_string(),
                    "there is no such claim",
                    "make it with --create, or create it yourself",
                ));
            };
            let claim = make(cluster, path, bytes, new).await?;
            return Ok(Self {
                path: path.clone(),
                to_make: Some(claim),
                node: None,
                consumer: None,
            });
        };
        usable(path, &claim)?;
        let consumer = consumer(cluster, path).await?;
        let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.clone());
        let modes = modes.unwrap_or_default();
        let is_of_one_node = !modes.iter().any(|mode| mode.ends_with("Many"));
        if modes == ["ReadWriteOncePod"]
            && let Some(pod) = consumer.as_ref().filter(|pod| node_of(pod).is_some())
        {
            let name = pod.metadata.name.clone().unwrap_or_default();
            return Err(Error::input(
                path.to_string(),
                format!("it is ReadWriteOncePod, and the pod {name} has it"),
                "scale that workload to zero, push, and scale it up again",
            ));
        }
        let node = consumer.as_ref().and_then(node_of).filter(|_| is_of_one_node);
        Ok(Self { path: path.clone(), to_make: None, node, consumer })
    }

    /// Makes the claim, if it has to be. Whether it was made.
    pub async fn make(&self, cluster: &Cluster) -> Result<bool> {
        let Some(claim) = &self.to_make else { return Ok(false) };
        cluster.create(Scope::Namespace(&self.path.namespace), claim).await?;
        Ok(true)
    }

    /// Why no pod gets the claim, where it is the claim's fault: its own last event.
    pub async fn why(cluster: &Cluster, path: &Claim) -> Option<String> {
        let scope = Scope::Namespace(&path.namespace);
        let claim = cluster.get::<PersistentVolumeClaim>(scope, &path.name).await.ok()??;
        let phase = claim.status.as_ref().and_then(|status| status.phase.clone());
        if phase.as_deref() == Some("Bound") {
            return None;
        }
        let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone());
        let class = class.unwrap_or_else(|| "(none)".to_owned());
        let phase = phase.unwrap_or_else(|| "Pending".to_owned());
        let event = cluster.warning(&path.namespace, &path.name).await;
        let event = event.map(|event| format!(": {event}")).unwrap_or_default();
        Some(format!("the claim is {phase}, its storage class {class}{event}"))
    }
}

fn usable(path: &Claim, claim: &PersistentVolumeClaim) -> Result<()> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if claim.metadata.deletion_timestamp.is_some() {
        let next = "wait until it is gone, or take another name";
        return Err(Error::input(path.to_string(), "the claim is being deleted", next));
    }
    if phase == Some("Lost") {
        let next = "its volume is gone: delete the claim and make it again with --create";
        return Err(Error::input(path.to_string(), "the claim is Lost", next));
    }
    let mode = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    if mode == Some("Block") {
        let next = "models need a file system: make a claim with volumeMode Filesystem";
        return Err(Error::input(path.to_string(), "it is a block device", next));
    }
    Ok(())
}

/// A pod that uses the claim; a running one before others. Gantry's own do not count.
async fn consumer(cluster: &Cluster, path: &Claim) -> Result<Option<Pod>> {
    let pods = cluster.list::<Pod>(Scope::Namespace(&path.namespace), "").await?;
    let uses = |pod: &Pod| {
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
        volumes.unwrap_or_default().iter().any(|volume| {
            let claim = volume.persistent_volume_claim.as_ref();
            claim.is_some_and(|claim| claim.claim_name == path.name)
        })
    };
    let has_ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let using = pods
        .into_iter()
        .filter(|pod| uses(pod) && !has_ended(pod) && !cluster::is_own(&pod.metadata));
    Ok(using.max_by_key(|pod| node_of(pod).is_some()))
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

/// The claim as it will be made; its class is looked at first.
async fn make(
    cluster: &Cluster,
    path: &Claim,
    bytes: u64,
    new: &NewClaim,
) -> Result<PersistentVolumeClaim> {
    let classes = cluster.list::<StorageClass>(Scope::Cluster, "").await?;
    let names: Vec<String> =
        classes.iter().filter_map(|class| class.metadata.name.clone()).collect();
    let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    match &new.storage_class {
        Some(class) if !names.contains(class) => {
            return Err(Error::input(
                path.to_string(),
                format!("the cluster has no storage class {class:?}"),
                format!("it has: {has}"),
            ));
        }
        None if !classes.iter().any(is_default) => {
            return Err(Error::input(
                path.to_string(),
                "the cluster has no default storage class",
                format!(
                    "name one with --storage-class or storageClass in site.yaml; it has: {has}"
                ),
            ));
        }
        _ => {}
    }
    let size = new.size.map_or_else(
        || (bytes + bytes / 100 * ROOM_PERCENT).max(SMALLEST).next_multiple_of(1 << 20),
        |size| size.0,
    );
    if size < bytes {
        return Err(Error::input(
            path.to_string(),
            format!("--size {} is less than the models' {}", ByteSize(size), ByteSize(bytes)),
            "leave --size away, or give more",
        ));
    }
    let mode = match new.access_mode {
        AccessMode::ReadWriteOnce => "ReadWriteOnce",
        AccessMode::ReadWriteMany => "ReadWriteMany",
    };
    let claim = json!({
        "metadata": {"name": path.name, "namespace": path.namespace},
        "spec": {
            "accessModes": [mode],
            "resources": {"requests": {"storage": size.to_string()}},
        },
    });
    let claim = from_value::<PersistentVolumeClaim>(claim);
    let mut claim = claim.map_err(|error| {
        Error::input(
            path.to_string(),
            error.to_string(),
            "this is a fault of Gantry, please report it",
        )
    })?;
    own(&mut claim.metadata, "models");
    if let Some(spec) = &mut claim.spec {
        spec.storage_class_name.clone_from(&new.storage_class);
    }
    Ok(claim)
}

fn is_default(class: &StorageClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DEFAULT_CLASS)).is_some_and(|value| value == "true")
}
