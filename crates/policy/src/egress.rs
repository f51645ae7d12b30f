//! Nothing talks to the outside: the network policies of a namespace. Everything is refused but
//! name service, the namespace itself, the site's registry, and what is declared.

use std::net::IpAddr;

use serde_json::{Value, json};
use types::destination::Destination;
use types::site::{ModelTarget, Site};

use crate::coverage::{Gap, Why};
use crate::flow::Flow;
use crate::name::NAME_LABEL;
use crate::{Namespace, Neighbour, Result};

/// What the policies are written from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The namespace that is closed.
    pub namespace: Namespace,
    /// Addresses that may be reached.
    pub flows: Vec<Flow>,
    /// Other namespaces whose pods may be reached.
    pub neighbours: Vec<Neighbour>,
}

/// The policies, and what they cannot say.
#[derive(Debug, Clone, PartialEq)]
pub struct Egress {
    /// The policies.
    pub manifests: Vec<Value>,
    /// What of the site a network policy cannot express.
    pub gaps: Vec<Gap>,
}

impl Request {
    /// Whether a port is let out somewhere.
    pub fn lets_out(&self, port: u16) -> bool {
        self.flows.iter().any(|flow| flow.port.is_none_or(|own| own == port))
    }
}

/// Writes the policies of a namespace of a site.
pub fn policies(request: &Request, site: &Site) -> Result<Egress> {
    let mut gaps = Vec::new();
    let everything = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    let mut manifests = vec![
        policy(request, "gantry-deny-egress", everything),
        allowing(request, "gantry-allow-dns", vec![dns()]),
        allowing(request, "gantry-allow-namespace", vec![json!({"to": [{"podSelector": {}}]})]),
    ];
    match registry(site)? {
        Place::At(rule) => manifests.push(allowing(request, "gantry-allow-site", vec![rule])),
        Place::Name(name, port) if !request.lets_out(port) => gaps.push(Gap {
            subject: format!("registry {name}"),
            why: Why::Name,
            reason: "a network policy knows addresses, not names of hosts. Nodes pull images in \
                     any case; pods that pull from it themselves are cut off"
                .to_owned(),
            next: format!("where pods need it: --allow ADDRESS:{port}"),
        }),
        Place::Name(..) => {}
    }
    gaps.extend(site.models.iter().filter_map(|target| bucket(target, request)));
    let declared: Vec<Value> = request
        .flows
        .iter()
        .map(Flow::rule)
        .chain(request.neighbours.iter().map(Neighbour::rule))
        .collect();
    if !declared.is_empty() {
        manifests.push(allowing(request, "gantry-allow-declared", declared));
    }
    Ok(Egress { manifests, gaps })
}

/// Where the registry is, as far as a network policy can say it.
enum Place {
    At(Value),
    Name(String, u16),
}

fn registry(site: &Site) -> Result<Place> {
    let prefix = site.registry.prefix()?;
    let registry = prefix.registry();
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (registry, None),
    };
    let port = port.unwrap_or(if site.registry.plain_http { 80 } else { 443 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Place::At(Flow::host(address, port).rule()));
    }
    // A service's name says its namespace; its pods' port it does not say.
    let service = host.strip_suffix(".cluster.local").unwrap_or(host).strip_suffix(".svc");
    let namespace = service.and_then(|name| name.split_once('.')).map(|(_, namespace)| namespace);
    if let Some(Ok(namespace)) = namespace.map(str::parse) {
        return Ok(Place::At(Neighbour::all_of(namespace).rule()));
    }
    Ok(Place::Name(host.to_owned(), port))
}

/// A bucket's address is in no site.yaml, so nobody knows whether it is let out.
fn bucket(target: &ModelTarget, request: &Request) -> Option<Gap> {
    let is_bucket = matches!(target.to, Destination::Bucket(_));
    (is_bucket && request.flows.is_empty()).then(|| Gap {
        subject: format!("models at {}", target.to),
        why: Why::Name,
        reason: "pods that read it reach its endpoint by the network".to_owned(),
        next: "where pods read it: --allow ADDRESS:PORT of the endpoint, or --allow-namespace"
            .into(),
    })
}

/// CoreDNS and kube-dns alike have this label.
fn dns() -> Value {
    json!({
        "to": [{
            "namespaceSelector": {"matchLabels": {NAME_LABEL: "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    })
}

fn allowing(request: &Request, name: &str, rules: Vec<Value>) -> Value {
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules});
    policy(request, name, spec)
}

fn policy(request: &Request, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": request.namespace.as_str()},
        "spec": spec,
    })
}
