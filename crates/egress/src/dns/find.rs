//! Finds CoreDNS and its configuration by its own pods: distributions have different names for the
//! ConfigMap, but all start CoreDNS with `-conf FILE`, a file in a mounted ConfigMap.

use std::net::{IpAddr, SocketAddr};

use cluster::objects::api::core::v1::{ConfigMap, Container, Namespace, Pod, PodSpec};
use cluster::{Cluster, ObjectScope};

use crate::{Error, Result};

/// The namespace of the DNS service on all distributions but OpenShift.
pub(crate) const NAMESPACE: &str = "kube-system";
/// The label of CoreDNS' pods: it still has the name of kube-dns, its predecessor.
const SELECTOR: &str = "k8s-app=kube-dns";
/// The label of NodeLocal DNSCache: it answers pods on their own node, without asking CoreDNS.
const NODE_LOCAL: &str = "k8s-app=node-local-dns";
/// The namespace of OpenShift's DNS.
const OPENSHIFT: &str = "openshift-dns";
/// The port of DNS, where a pod declares none.
const PORT: u16 = 53;

/// The cluster's CoreDNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreDns {
    /// The ConfigMap's namespace.
    pub namespace: String,
    /// The ConfigMap's name.
    pub config_map: String,
    /// The key of the Corefile in it.
    pub key: String,
    /// The text of the Corefile.
    pub corefile: String,
    /// CoreDNS' pods: their names and the addresses that they listen on.
    pub pods: Vec<(String, SocketAddr)>,
    /// Whether pods ask a cache on their node first, which forwards foreign names itself.
    pub is_behind_node_local: bool,
}

/// Finds the cluster's CoreDNS. The error says what there is instead, and what can be done.
pub async fn find_coredns(cluster: &Cluster) -> Result<CoreDns> {
    let scope = ObjectScope::Namespace(NAMESPACE);
    let pods = cluster.list_objects::<Pod>(scope, SELECTOR).await?;
    let Some((config_map, key)) = pods.iter().find_map(find_corefile_source) else {
        return Err(explain_no_coredns(cluster, &pods).await?);
    };
    let what = format!("ConfigMap {NAMESPACE}/{config_map}");
    let map = cluster.get_object::<ConfigMap>(scope, &config_map).await?;
    let data = map.and_then(|map| map.data).unwrap_or_default();
    let corefile = data.get(&key).cloned().ok_or_else(|| Error::NameService {
        reason: format!("{what} has no key {key}, the file that CoreDNS is started with"),
        next: "audit without DNS names (--no-dns)".to_owned(),
    })?;
    let node_local = cluster.list_objects::<Pod>(scope, NODE_LOCAL).await?;
    Ok(CoreDns {
        namespace: NAMESPACE.to_owned(),
        config_map,
        key,
        corefile,
        pods: pods.iter().filter_map(dns_address).collect(),
        is_behind_node_local: !node_local.is_empty(),
    })
}

/// The ConfigMap, and the key in it, of the file that a pod's CoreDNS is started with.
fn find_corefile_source(pod: &Pod) -> Option<(String, String)> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().find_map(|container| corefile_source_of(spec, container))
}

/// The same for one container: the file is looked up in the mounts, the mount in the volumes.
fn corefile_source_of(spec: &PodSpec, container: &Container) -> Option<(String, String)> {
    let words: Vec<&String> = container.command.iter().chain(&container.args).flatten().collect();
    let at = words.iter().position(|word| matches!(word.as_str(), "-conf" | "--conf"))?;
    let file = words.get(at + 1)?;
    let mounts = container.volume_mounts.iter().flatten();
    let inside = mounts.into_iter().filter_map(|mount| {
        let rest = file.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
        Some((&mount.name, rest.strip_prefix('/')?))
    });
    // A mount hides what is below it in another one: the deepest counts, the one that leaves the
    // shortest path.
    let (volume, path) = inside.min_by_key(|(_, rest)| rest.len())?;
    let volume = spec.volumes.iter().flatten().find(|known| known.name == *volume)?;
    let source = volume.config_map.as_ref()?;
    // `items` may give a key another file name.
    let mut items = source.items.iter().flatten();
    let key = items.find(|item| item.path == path).map_or(path, |item| item.key.as_str());
    Some((source.name.clone(), key.to_owned()))
}

/// A pod's name and the address that it answers DNS on.
fn dns_address(pod: &Pod) -> Option<(String, SocketAddr)> {
    let address: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.protocol.as_deref() == Some("UDP"));
    let port = port.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(PORT);
    Some((pod.metadata.name.clone()?, SocketAddr::new(address, port)))
}

/// Why no CoreDNS was found, and what can be done by hand.
async fn explain_no_coredns(cluster: &Cluster, pods: &[Pod]) -> Result<Error> {
    if cluster.get_object::<Namespace>(ObjectScope::Cluster, OPENSHIFT).await?.is_some() {
        return Ok(Error::NameService {
            reason: "OpenShift's DNS operator owns CoreDNS' configuration and would revert the change"
                .to_owned(),
            next: "run the sink yourself (gantry audit sink --listen ADDRESS:PORT), make the operator \
                   forward to it with `oc edit dns.operator/default` (upstreamResolvers: {policy: \
                   Sequential, upstreams: [{type: Network, address: ADDRESS, port: PORT}]}), and \
                   audit with --no-dns; which pod asked is not known then"
                .to_owned(),
        });
    }
    let reason = match pods.len() {
        0 => format!("there are no pods with the label {SELECTOR} in {NAMESPACE}"),
        _ => format!(
            "the pods with the label {SELECTOR} in {NAMESPACE} do not run CoreDNS with a Corefile"
        ),
    };
    Ok(Error::NameService { reason, next: "audit without DNS names (--no-dns)".to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cluster::objects::serde_json::{from_value, json};

    use super::*;

    fn make_pod(args: &[&str], items: serde_json::Value) -> Pod {
        from_value(json!({
            "metadata": {"name": "coredns-1"},
            "spec": {
                "containers": [{"name": "coredns", "args": args,
                    "ports": [{"containerPort": 9153, "protocol": "TCP"}, {"containerPort": 1053, "protocol": "UDP"}],
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "config", "mountPath": "/etc/coredns/"},
                        {"name": "custom", "mountPath": "/etc/coredns/custom"}]}],
                "volumes": [{"name": "config", "configMap": {"name": "rke2-coredns", "items": items}},
                    {"name": "custom", "configMap": {"name": "coredns-custom"}}]},
            "status": {"podIP": "10.244.0.2"},
        }))
        .unwrap()
    }

    #[test]
    fn the_configmap_is_found_by_what_coredns_is_started_with() {
        let plain = make_pod(&["-conf", "/etc/coredns/Corefile"], json!([]));
        assert_eq!(find_corefile_source(&plain), Some(("rke2-coredns".into(), "Corefile".into())));
        let renamed = make_pod(
            &["-conf", "/etc/coredns/Corefile"],
            json!([{"key": "main", "path": "Corefile"}]),
        );
        assert_eq!(find_corefile_source(&renamed).unwrap().1, "main");
        assert_eq!(find_corefile_source(&make_pod(&["--logtostderr"], json!([]))), None);
        let (name, address) = dns_address(&plain).unwrap();
        assert_eq!((name.as_str(), address.to_string().as_str()), ("coredns-1", "10.244.0.2:1053"));
    }
}
