//! Finds the pod that had an address at a moment: records the pods of the cluster as they come and go,
//! keeps those that are gone, and knows the workload that a person knows them by.

use std::collections::HashMap;
use std::net::IpAddr;

use cluster::objects::api::core::v1::Pod;
use cluster::{WatchedChange, objects::jiff::Timestamp};
use serde::Serialize;

/// Clocks of nodes and API server differ, and a packet is reported a little later than it was sent: so
/// much before a pod's start and after its end its address still counts as its own.
const GRACE: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

/// What made a pod: the object that a person edits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// `Deployment`, `CronJob`, …; `Pod` for a pod that no controller made.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A pod and its workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentity {
    /// The workload that it belongs to.
    pub workload: Workload,
    /// Its name.
    pub pod: String,
    /// The node that it ran on.
    pub node: String,
}

/// All pods that were seen during an audit, by uid.
#[derive(Debug, Default)]
pub struct PodAddressBook {
    pods: HashMap<String, KnownPod>,
}

/// What is known of one pod.
#[derive(Debug)]
struct KnownPod {
    identity: PodIdentity,
    addresses: Vec<IpAddr>,
    /// Whether it uses its node's network, and so has the node's address.
    is_on_host: bool,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl PodAddressBook {
    /// Records a change of a pod.
    pub fn apply_change(&mut self, change: &WatchedChange<Pod>) {
        let now = Timestamp::now();
        match change {
            WatchedChange::Restarted => {}
            WatchedChange::Present(pod) => self.record_pod(pod, None),
            WatchedChange::Gone(pod) => self.record_pod(pod, Some(now)),
        }
    }

    /// The pod that had an address of its own at that time.
    pub fn find_pod(&self, address: IpAddr, at: Timestamp) -> Option<&PodIdentity> {
        let address = address.to_canonical();
        let had = |known: &&KnownPod| !known.is_on_host && known.addresses.contains(&address);
        let was_there = |known: &&KnownPod| {
            known.from.is_none_or(|from| from <= at + GRACE)
                && known.to.is_none_or(|to| at <= to + GRACE)
        };
        let mut having: Vec<&KnownPod> = self.pods.values().filter(had).collect();
        having.sort_by_key(|known| known.from);
        // The address of a pod that ended is soon given to another: of those that had it, the youngest
        // that existed at that time.
        having.iter().rev().find(|known| was_there(known)).map(|known| &known.identity)
    }

    /// Whether some pod has or had this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.pods.values().any(|known| known.addresses.contains(&address))
    }

    /// The pods that use a node's own network. All have the node's address, so nobody can tell which of
    /// them sent a packet.
    pub fn host_network_pods(&self, node: &str) -> Vec<&PodIdentity> {
        // The audit's own watchers are there, too, and send nothing.
        let is_ours = |known: &KnownPod| known.identity.workload.namespace == crate::NAMESPACE;
        let on_it =
            |known: &&KnownPod| known.is_on_host && known.identity.node == node && !is_ours(known);
        let mut pods: Vec<&PodIdentity> =
            self.pods.values().filter(on_it).map(|k| &k.identity).collect();
        pods.sort();
        pods
    }

    /// Records a pod as it is; `to` is set when it was deleted.
    fn record_pod(&mut self, pod: &Pod, to: Option<Timestamp>) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let ips = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        let mut addresses: Vec<IpAddr> = ips.filter_map(|ip| ip.ip.parse().ok()).collect();
        let who = PodIdentity {
            workload: workload_of(pod),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        };
        let known = self.pods.remove(&uid);
        // A pod that ends may lose its address before it is deleted.
        addresses.extend(known.iter().flat_map(|known| known.addresses.iter().copied()));
        addresses.sort();
        addresses.dedup();
        let known = KnownPod {
            identity: who,
            addresses,
            is_on_host: spec.and_then(|spec| spec.host_network) == Some(true),
            from: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            // A pod that was deleted stays so: a late event must not bring it back.
            to: known.and_then(|known| known.to).or(to),
        };
        self.pods.insert(uid, known);
    }
}

/// The workload of a pod, from the pod alone: no rights to read other kinds are needed for it.
fn workload_of(pod: &Pod) -> Workload {
    let metadata = &pod.metadata;
    let owners = metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
    let (kind, name) = match owner {
        None => ("Pod".to_owned(), metadata.name.clone().unwrap_or_default()),
        Some(owner) => {
            let labels = metadata.labels.as_ref();
            let hash = labels.and_then(|labels| labels.get("pod-template-hash"));
            // A Deployment names its ReplicaSets `<its name>-<pod-template-hash>`.
            let deployment =
                hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            match deployment {
                Some(name) if owner.kind == "ReplicaSet" => ("Deployment".into(), name.to_owned()),
                _ => (owner.kind.clone(), owner.name.clone()),
            }
        }
    };
    Workload { kind, namespace: metadata.namespace.clone().unwrap_or_default(), name }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cluster::objects::serde_json::{Value, from_value, json};

    use super::*;

    fn make_pod(uid: &str, name: &str, ip: &str, rest: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"uid": uid, "name": name, "namespace": "shop"},
            "spec": {"nodeName": "node1", "containers": []},
            "status": {"podIPs": [{"ip": ip}]},
        });
        for (key, value) in rest.as_object().unwrap() {
            pod["metadata"][key] = value.clone();
        }
        from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_is_known_by_its_workload() {
        let owner = |kind: &str, name: &str| json!([{"apiVersion": "v1", "uid": "x", "kind": kind, "name": name, "controller": true}]);
        let called =
            |rest| workload_of(&make_pod("1", "web-5d4-x2", "10.244.1.7", rest)).to_string();
        let hash = json!({"pod-template-hash": "5d4"});
        assert_eq!(
            called(json!({"ownerReferences": owner("ReplicaSet", "web-5d4"), "labels": hash})),
            "Deployment shop/web"
        );
        assert_eq!(
            called(json!({"ownerReferences": owner("StatefulSet", "db")})),
            "StatefulSet shop/db"
        );
        assert_eq!(called(json!({})), "Pod shop/web-5d4-x2");
    }

    #[test]
    fn an_address_belongs_to_the_pod_that_had_it_then_also_when_that_is_gone() {
        let mut book = PodAddressBook::default();
        let now = Timestamp::now();
        let ago = |seconds| now - jiff::SignedDuration::from_secs(seconds);
        let time = |at: Timestamp| json!({"creationTimestamp": at.to_string()});
        let old = make_pod("1", "old", "10.244.1.7", time(ago(100)));
        book.apply_change(&WatchedChange::Present(old.clone()));
        book.apply_change(&WatchedChange::Gone(old));
        book.apply_change(&WatchedChange::Present(make_pod(
            "2",
            "new",
            "10.244.1.7",
            time(now + jiff::SignedDuration::from_secs(60)),
        )));
        let address = "10.244.1.7".parse().unwrap();
        assert_eq!(book.find_pod(address, ago(50)).unwrap().pod, "old");
        let later = now + jiff::SignedDuration::from_secs(70);
        assert_eq!(book.find_pod(address, later).unwrap().pod, "new");
        assert_eq!(book.find_pod("10.244.1.8".parse().unwrap(), now), None);
    }
}
