//! Reads from the cluster and the site what is inside: the networks of pods and services, the addresses
//! of nodes, of the API server and of load balancers, the site's registry. Kubernetes has no one place
//! that says it, so several are asked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cluster::objects::api::core::v1::{Node, Pod, Service};
use cluster::objects::api::discovery::v1::EndpointSlice;
use cluster::{Cluster, ObjectScope};
use ipnet::IpNet;
use types::site::Site;

use crate::Result;
use crate::perimeter::{InsideDeclaration, Perimeter};

/// The objects that have the networks of services (Kubernetes 1.33 and newer).
const SERVICE_NETWORKS: (&str, &str) = ("networking.k8s.io/v1", "ServiceCIDR");
/// The API server's option with the same networks, for older clusters.
const SERVICE_OPTION: &str = "--service-cluster-ip-range=";

/// The network of a cluster, as an audit needs it.
#[derive(Debug, Clone, Default)]
pub struct ClusterNetwork {
    /// The networks, addresses and names that are inside.
    pub perimeter: Perimeter,
    /// The nodes that are Ready, with their addresses.
    pub nodes: BTreeMap<String, Vec<IpAddr>>,
}

/// Reads the network from the cluster, the site file, and what the user declared to be inside.
pub async fn read_cluster_network(
    cluster: &Cluster,
    site: Option<&Site>,
    declared: &[InsideDeclaration],
) -> Result<ClusterNetwork> {
    let mut around = ClusterNetwork::default();
    for node in cluster.list_objects::<Node>(ObjectScope::Cluster, "").await? {
        let name = node.metadata.name.unwrap_or_default();
        let spec = node.spec.unwrap_or_default();
        let networks = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
        add_networks(&mut around.perimeter, networks.map(String::as_str));
        let status = node.status.unwrap_or_default();
        let addresses = status.addresses.into_iter().flatten();
        let addresses: Vec<IpAddr> = addresses.filter_map(|a| a.address.parse().ok()).collect();
        for address in &addresses {
            around.perimeter.add_address(*address);
        }
        // A node that is not Ready cannot start a watcher; its addresses are inside all the same.
        let is_ready = |condition: &cluster::objects::api::core::v1::NodeCondition| {
            condition.type_ == "Ready" && condition.status == "True"
        };
        if status.conditions.iter().flatten().any(is_ready) {
            around.nodes.insert(name, addresses);
        }
    }
    add_services(cluster, &mut around.perimeter).await?;
    // The API server may be outside of all these networks, as with a managed control plane: its addresses
    // are the endpoints of the service `kubernetes`.
    let kubernetes = ObjectScope::Namespace("default");
    let label = "kubernetes.io/service-name=kubernetes";
    for slice in cluster.list_objects::<EndpointSlice>(kubernetes, label).await? {
        let endpoints = slice.endpoints.into_iter();
        add_addresses(&mut around.perimeter, endpoints.flat_map(|endpoint| endpoint.addresses));
    }
    // Some network plugins (AWS VPC, Azure) have no pod network that a node names: so the pods' own
    // addresses, too.
    for pod in cluster.list_objects::<Pod>(ObjectScope::Cluster, "").await? {
        let ips = pod.status.and_then(|status| status.pod_ips).into_iter().flatten();
        add_addresses(&mut around.perimeter, ips.map(|ip| ip.ip));
    }
    if let Some(site) = site {
        add_registry(site, &mut around.perimeter).await?;
    }
    for declared in declared {
        around.perimeter.add_declaration(declared);
    }
    Ok(around)
}

/// Adds the networks and addresses of services, and of their load balancers.
async fn add_services(cluster: &Cluster, inside: &mut Perimeter) -> Result<()> {
    let (version, kind) = SERVICE_NETWORKS;
    match cluster.list_manifests(version, kind, ObjectScope::Cluster, "").await {
        Ok(networks) => {
            let cidrs = networks.iter().filter_map(|network| network.pointer("/spec/cidrs"));
            let cidrs = cidrs.filter_map(|cidrs| cidrs.as_array()).flatten();
            add_networks(inside, cidrs.filter_map(|cidr| cidr.as_str()));
        }
        // An older cluster: the option of the API server, where that is a pod in the cluster (kubeadm).
        // Elsewhere the services' own addresses below have to do.
        Err(cluster::Error::NoKind { .. } | cluster::Error::Forbidden { .. }) => {
            let scope = ObjectScope::Namespace("kube-system");
            for pod in cluster.list_objects::<Pod>(scope, "component=kube-apiserver").await? {
                let containers = pod.spec.into_iter().flat_map(|spec| spec.containers);
                let words = containers.flat_map(|c| c.command.into_iter().chain(c.args)).flatten();
                for word in words {
                    let networks = word.strip_prefix(SERVICE_OPTION).unwrap_or_default();
                    add_networks(inside, networks.split(','));
                }
            }
        }
        Err(error) => return Err(error.into()),
    }
    for service in cluster.list_objects::<Service>(ObjectScope::Cluster, "").await? {
        let spec = service.spec.unwrap_or_default();
        add_addresses(inside, spec.cluster_ips.into_iter().chain(spec.external_ips).flatten());
        let balancer = service.status.and_then(|status| status.load_balancer);
        let ingress = balancer.and_then(|balancer| balancer.ingress).into_iter().flatten();
        add_addresses(inside, ingress.filter_map(|ingress| ingress.ip));
    }
    Ok(())
}

/// Adds the site's registry: its address, or its name with the addresses that it resolves to here.
async fn add_registry(site: &Site, inside: &mut Perimeter) -> Result<()> {
    let prefix = site.registry.parse_prefix().map_err(policy::Error::from)?;
    let registry = prefix.registry();
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => registry,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        inside.add_address(address);
        return Ok(());
    }
    inside.add_name(host);
    // Best effort: the audit may run on a machine that cannot resolve the site's names.
    if let Ok(addresses) = tokio::net::lookup_host((host, 443)).await {
        addresses.for_each(|address| inside.add_address(address.ip()));
    }
    Ok(())
}

fn add_networks<'a>(inside: &mut Perimeter, networks: impl Iterator<Item = &'a str>) {
    networks.filter_map(|text| text.parse::<IpNet>().ok()).for_each(|n| inside.add_network(n));
}

fn add_addresses(inside: &mut Perimeter, addresses: impl Iterator<Item = String>) {
    addresses.filter_map(|text| text.parse().ok()).for_each(|address| inside.add_address(address));
}
