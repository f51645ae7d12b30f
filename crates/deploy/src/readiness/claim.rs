//! Why a claim has no volume.

use cluster::objects::api::core::v1::PersistentVolumeClaim;
use cluster::objects::api::storage::v1::StorageClass;
use cluster::{Cluster, ObjectScope};

/// Why a claim has no volume.
pub(crate) struct UnboundClaim {
    /// The reason.
    pub(crate) why: String,
    /// What the user can do.
    pub(crate) next: String,
}

/// Explains why a claim has no volume; `None` if it has one, or if nothing is known about it.
pub(crate) async fn explain_unbound_claim(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Option<UnboundClaim> {
    let scope = ObjectScope::Namespace(namespace);
    let Ok(found) = cluster.get_object::<PersistentVolumeClaim>(scope, name).await else {
        return None;
    };
    let Some(found) = found else {
        return Some(UnboundClaim {
            why: "it does not exist".to_owned(),
            next: format!(
                "create and fill it: gantry models push BUNDLE_FILE… --to pvc://{namespace}/{name} --create"
            ),
        });
    };
    if found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound") {
        return None;
    }
    let class = found.spec.and_then(|spec| spec.storage_class_name);
    if let (Some(class), Ok(all)) =
        (&class, cluster.list_objects::<StorageClass>(ObjectScope::Cluster, "").await)
        && !class.is_empty()
    {
        let names: Vec<String> = all.into_iter().filter_map(|one| one.metadata.name).collect();
        if !names.contains(class) {
            return Some(UnboundClaim {
                why: format!("the cluster has no storage class {class}"),
                next: format!(
                    "choose another storage class in the values (the cluster has: {})",
                    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                ),
            });
        }
    }
    if class.is_none() {
        return Some(UnboundClaim {
            why: "it names no storage class, and no class is the default".to_owned(),
            next: "name a storage class in the values, or mark one as the default".to_owned(),
        });
    }
    Some(UnboundClaim {
        why: cluster.latest_warning(namespace, name).await?,
        next: "see the message of the storage class's provisioner".to_owned(),
    })
}
