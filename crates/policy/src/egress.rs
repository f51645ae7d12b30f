//! Writes the network policies of a namespace that block all egress except DNS, pods of the same
//! namespace, the site's registry, and what the user allows.

use std::net::IpAddr;

use serde_json::{Value, json};
use types::destination::ModelDestination;
use types::site::{ModelTarget, Site};

use crate::allowed_flow::AllowedFlow;
use crate::gap::{PolicyGap, PolicyGapKind};
use crate::name::NAME_LABEL;
use crate::{AllowedNamespace, Namespace, Result};

/// What the user asks for: the namespace and what its pods may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressPolicySpec {
    /// The namespace whose egress is restricted.
    pub namespace: Namespace,
    /// Addresses that its pods may reach.
    pub flows: Vec<AllowedFlow>,
    /// Other namespaces whose pods they may reach.
    pub neighbours: Vec<AllowedNamespace>,
}

/// The policies, and what they cannot express.
#[derive(Debug, Clone, PartialEq)]
pub struct EgressPolicies {
    /// The `NetworkPolicy` objects.
    pub manifests: Vec<Value>,
    /// The parts of the site that pods may need and that the policies block.
    pub gaps: Vec<PolicyGap>,
}

impl EgressPolicySpec {
    /// Whether a port is allowed to any address.
    pub fn allows_port(&self, port: u16) -> bool {
        self.flows.iter().any(|flow| flow.port.is_none_or(|own| own == port))
    }
}

/// Writes the policies of a namespace. Fails if the registry in `site` is not valid.
pub fn build_egress_policies(request: &EgressPolicySpec, site: &Site) -> Result<EgressPolicies> {
    let mut gaps = Vec::new();
    // A policy that lists `Egress` and has no rules blocks everything; the others add permissions.
    let everything = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    let mut manifests = vec![
        build_policy(request, "gantry-deny-egress", everything),
        build_allow_policy(request, "gantry-allow-dns", vec![build_dns_rule()]),
        build_allow_policy(
            request,
            "gantry-allow-namespace",
            vec![json!({"to": [{"podSelector": {}}]})],
        ),
    ];
    match find_registry_peer(site)? {
        RegistryPeer::Rule(rule) => {
            manifests.push(build_allow_policy(request, "gantry-allow-site", vec![rule]));
        }
        RegistryPeer::HostName(name, port) if !request.allows_port(port) => gaps.push(PolicyGap {
            subject: format!("registry {name}"),
            why: PolicyGapKind::Name,
            reason: "network policies know addresses, not host names. Nodes can pull images all \
                     the same, but pods that connect to the registry themselves are blocked"
                .to_owned(),
            next: format!("if pods need it, add --allow ADDRESS:{port}"),
        }),
        RegistryPeer::HostName(..) => {}
    }
    gaps.extend(site.models.iter().filter_map(|target| find_bucket_gap(target, request)));
    let declared: Vec<Value> = request
        .flows
        .iter()
        .map(AllowedFlow::to_rule)
        .chain(request.neighbours.iter().map(AllowedNamespace::to_rule))
        .collect();
    if !declared.is_empty() {
        manifests.push(build_allow_policy(request, "gantry-allow-declared", declared));
    }
    Ok(EgressPolicies { manifests, gaps })
}

/// The site's registry, as far as a network policy can express it.
enum RegistryPeer {
    /// The rule that allows it.
    Rule(Value),
    /// Its host name and port, for which there is no rule.
    HostName(String, u16),
}

/// Finds out how to allow the site's registry: by address, or by the namespace of its service.
fn find_registry_peer(site: &Site) -> Result<RegistryPeer> {
    let prefix = site.registry.parse_prefix()?;
    let registry = prefix.registry();
    let (host, port) = match registry.rsplit_once(':') {
        // `[fd00::5]` has colons but no port.
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (registry, None),
    };
    let port = port.unwrap_or(if site.registry.plain_http { 80 } else { 443 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(RegistryPeer::Rule(AllowedFlow::from_host(address, port).to_rule()));
    }
    // `registry.ai.svc` names the namespace `ai`. A policy needs the port of the pods, which may
    // differ from that of the service, so all ports are allowed.
    let service = host.strip_suffix(".cluster.local").unwrap_or(host).strip_suffix(".svc");
    let namespace = service.and_then(|name| name.split_once('.')).map(|(_, namespace)| namespace);
    if let Some(Ok(namespace)) = namespace.map(str::parse) {
        return Ok(RegistryPeer::Rule(AllowedNamespace::from_namespace(namespace).to_rule()));
    }
    Ok(RegistryPeer::HostName(host.to_owned(), port))
}

/// The gap of a model target in a bucket: site.yaml has no address for it, so it cannot be known
/// whether the user's addresses include it.
fn find_bucket_gap(target: &ModelTarget, request: &EgressPolicySpec) -> Option<PolicyGap> {
    let is_bucket = matches!(target.to, ModelDestination::Bucket(_));
    (is_bucket && request.flows.is_empty()).then(|| PolicyGap {
        subject: format!("models at {}", target.to),
        why: PolicyGapKind::Name,
        reason: "pods that read it connect to its endpoint, which is blocked".to_owned(),
        next: "if pods read it, add --allow ADDRESS:PORT for the endpoint, or --allow-namespace"
            .into(),
    })
}

/// The rule for DNS. The pods of CoreDNS and of kube-dns have the same label, `k8s-app: kube-dns`.
fn build_dns_rule() -> Value {
    json!({
        "to": [{
            "namespaceSelector": {"matchLabels": {NAME_LABEL: "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    })
}

/// A policy that allows egress of all pods of the namespace by these rules.
fn build_allow_policy(request: &EgressPolicySpec, name: &str, rules: Vec<Value>) -> Value {
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules});
    build_policy(request, name, spec)
}

/// A `NetworkPolicy` object.
fn build_policy(request: &EgressPolicySpec, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": request.namespace.as_str()},
        "spec": spec,
    })
}
