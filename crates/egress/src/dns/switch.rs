//! Writes the changed Corefile into the cluster, and restores the original. The original is recorded
//! first, and only a text that the audit itself wrote is ever replaced.

use std::collections::BTreeMap;

use cluster::objects::api::core::v1::{ConfigMap, Pod};
use cluster::{Cluster, ObjectScope};
use jiff::Timestamp;

use super::CoreDns;
use super::audit_lock::{AuditLock, lock_object_name};
use super::find::NAMESPACE;
use crate::{Error, Result};

/// A kubelet updates a pod's mounted ConfigMap within a minute or two, but at once when the pod changes.
/// This annotation is such a change.
const NUDGE: &str = "gantry.dev/audit";
/// Tries when somebody else writes the ConfigMap between our read and our write.
const TRIES: usize = 5;

/// Gives CoreDNS the changed Corefile.
pub(crate) async fn switch_corefile(
    cluster: &Cluster,
    coredns: &CoreDns,
    lock: &mut AuditLock,
    text: &str,
) -> Result<()> {
    lock.write_planned_change(cluster, text).await?;
    if !replace_text(cluster, &coredns.config_map, &coredns.key, &coredns.corefile, text).await? {
        let what = format!("ConfigMap {NAMESPACE}/{}", coredns.config_map);
        return Err(Error::ChangedMeanwhile { what, record: lock_object_name() });
    }
    annotate_coredns_pods(cluster, Some(Timestamp::now())).await
}

/// Restores the Corefile from before the audit that holds the lock. Returns whether there was something
/// to restore. Fails where somebody else has changed it meanwhile.
pub(crate) async fn restore_corefile(cluster: &Cluster, lock: &AuditLock) -> Result<bool> {
    let AuditLock { holder: entry, before: Some(before), after: Some(after), .. } = lock else {
        return Ok(false);
    };
    let (Some(config_map), Some(key)) = (&entry.config_map, &entry.key) else { return Ok(false) };
    let is_back = replace_text(cluster, config_map, key, after, before).await?;
    if is_back {
        // Best effort: without it, CoreDNS reloads a minute later.
        let _ = annotate_coredns_pods(cluster, Some(Timestamp::now())).await;
    } else if read_corefile(cluster, config_map, key).await?.as_ref() != Some(before) {
        let what = format!("ConfigMap {NAMESPACE}/{config_map}");
        return Err(Error::ChangedMeanwhile { what, record: lock_object_name() });
    }
    annotate_coredns_pods(cluster, None).await?;
    Ok(is_back)
}

/// Replaces the text `from` by `to`; `false` when the ConfigMap has another text than `from`.
async fn replace_text(
    cluster: &Cluster,
    config_map: &str,
    key: &str,
    from: &str,
    to: &str,
) -> Result<bool> {
    let scope = ObjectScope::Namespace(NAMESPACE);
    let mut tries = 0;
    loop {
        let Some(mut map) = cluster.get_object::<ConfigMap>(scope, config_map).await? else {
            return Ok(false);
        };
        match map.data.as_mut().and_then(|data| data.get_mut(key)) {
            Some(text) if text == from => to.clone_into(text),
            _ => return Ok(false),
        }
        tries += 1;
        // With the version that was read: the API server refuses it if somebody wrote meanwhile.
        match cluster.replace_object(scope, &map).await {
            Ok(_) => return Ok(true),
            Err(cluster::Error::Conflict { .. }) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The Corefile that is in the cluster.
async fn read_corefile(cluster: &Cluster, config_map: &str, key: &str) -> Result<Option<String>> {
    let map =
        cluster.get_object::<ConfigMap>(ObjectScope::Namespace(NAMESPACE), config_map).await?;
    Ok(map.and_then(|map| map.data?.remove(key)))
}

/// Sets the annotation on CoreDNS' pods so that the kubelets update their volumes at once; `None` removes
/// it.
async fn annotate_coredns_pods(cluster: &Cluster, at: Option<Timestamp>) -> Result<()> {
    let scope = ObjectScope::Namespace(NAMESPACE);
    for pod in cluster.list_objects::<Pod>(scope, "k8s-app=kube-dns").await? {
        let is_marked =
            pod.metadata.annotations.is_some_and(|annotations| annotations.contains_key(NUDGE));
        if at.is_none() && !is_marked {
            continue;
        }
        // Server-side apply with this field alone: all other fields keep their owners.
        let mut mark = Pod::default();
        mark.metadata.name = pod.metadata.name;
        mark.metadata.annotations =
            at.map(|at| BTreeMap::from([(NUDGE.to_owned(), at.to_string())]));
        match cluster.apply_object(scope, &mark).await {
            // The pod may have been deleted meanwhile. Apply would create it, but a pod without a spec is
            // refused, which is what we want.
            Ok(_) | Err(cluster::Error::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
