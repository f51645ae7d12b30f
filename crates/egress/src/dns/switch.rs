//! CoreDNS' Corefile, changed and put back: what it was is written down first, and only what the
//! audit itself wrote is replaced.

use std::collections::BTreeMap;

use cluster::objects::api::core::v1::{ConfigMap, Pod};
use cluster::{Cluster, Scope};
use jiff::Timestamp;

use super::CoreDns;
use super::find::NAMESPACE;
use super::record::{Lock, called};
use crate::{Error, Result};

/// A kubelet looks at a changed ConfigMap at the pod's next change, else within a minute or two.
/// This annotation is that change.
const NUDGE: &str = "gantry.dev/audit";
/// Somebody else may write between our read and our write.
const TRIES: usize = 5;

/// Gives CoreDNS the text.
pub(crate) async fn switch(
    cluster: &Cluster,
    coredns: &CoreDns,
    lock: &mut Lock,
    text: &str,
) -> Result<()> {
    lock.will_change(cluster, text).await?;
    if !exchange(cluster, &coredns.config_map, &coredns.key, &coredns.corefile, text).await? {
        let what = format!("ConfigMap {NAMESPACE}/{}", coredns.config_map);
        return Err(Error::ChangedMeanwhile { what, record: called() });
    }
    nudge(cluster, Some(Timestamp::now())).await
}

/// Puts the text from before back, whoever changed it, and says whether there was something to do.
pub(crate) async fn put_back(cluster: &Cluster, lock: &Lock) -> Result<bool> {
    let Lock { entry, before: Some(before), after: Some(after), .. } = lock else {
        return Ok(false);
    };
    let (Some(config_map), Some(key)) = (&entry.config_map, &entry.key) else { return Ok(false) };
    let is_back = exchange(cluster, config_map, key, after, before).await?;
    if is_back {
        // Best effort: CoreDNS takes it up sooner.
        let _ = nudge(cluster, Some(Timestamp::now())).await;
    } else if corefile(cluster, config_map, key).await?.as_ref() != Some(before) {
        let what = format!("ConfigMap {NAMESPACE}/{config_map}");
        return Err(Error::ChangedMeanwhile { what, record: called() });
    }
    nudge(cluster, None).await?;
    Ok(is_back)
}

/// Puts a text in the place of another one; `false` when that other one is not there.
async fn exchange(
    cluster: &Cluster,
    config_map: &str,
    key: &str,
    from: &str,
    to: &str,
) -> Result<bool> {
    let scope = Scope::Namespace(NAMESPACE);
    let mut tries = 0;
    loop {
        let Some(mut map) = cluster.get::<ConfigMap>(scope, config_map).await? else {
            return Ok(false);
        };
        match map.data.as_mut().and_then(|data| data.get_mut(key)) {
            Some(text) if text == from => to.clone_into(text),
            _ => return Ok(false),
        }
        tries += 1;
        match cluster.replace(scope, &map).await {
            Ok(_) => return Ok(true),
            Err(cluster::Error::Conflict { .. }) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn corefile(cluster: &Cluster, config_map: &str, key: &str) -> Result<Option<String>> {
    let map = cluster.get::<ConfigMap>(Scope::Namespace(NAMESPACE), config_map).await?;
    Ok(map.and_then(|map| map.data?.remove(key)))
}

/// Marks CoreDNS' pods so that their nodes look at them at once; `None` takes the mark away.
async fn nudge(cluster: &Cluster, at: Option<Timestamp>) -> Result<()> {
    let scope = Scope::Namespace(NAMESPACE);
    for pod in cluster.list::<Pod>(scope, "k8s-app=kube-dns").await? {
        let is_marked =
            pod.metadata.annotations.is_some_and(|annotations| annotations.contains_key(NUDGE));
        if at.is_none() && !is_marked {
            continue;
        }
        // The mark alone is ours, the pod is not: its other fields stay who they belong to.
        let mut mark = Pod::default();
        mark.metadata.name = pod.metadata.name;
        mark.metadata.annotations =
            at.map(|at| BTreeMap::from([(NUDGE.to_owned(), at.to_string())]));
        match cluster.apply(scope, &mark).await {
            // Without its spec a pod that is just gone cannot be made anew.
            Ok(_) | Err(cluster::Error::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
