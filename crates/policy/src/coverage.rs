//! What of a chart the policies of a namespace do not hold: workloads that no policy reaches, the
//! chart's own policies that let out more, and what will be cut off and may be needed.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::egress::Request;

/// Something that the policies do not hold, or that they hold against its need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// What it is about: an object's kind and name, or a part of the site.
    pub subject: String,
    /// Which sort.
    pub why: Why,
    /// The sort in a sentence, with what it means here.
    pub reason: String,
    /// What to do.
    pub next: String,
}

/// The sorts of gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A name of a host, which a network policy does not know.
    Name,
    /// A pod in the node's own network: out of any network policy's reach.
    HostNetwork,
    /// It is in another namespace.
    OtherNamespace,
    /// A network policy of the chart that lets out more; policies add up.
    LetsOutMore,
    /// A service that leads to a name outside.
    ExternalName,
    /// It may talk to the API server, which is cut off.
    ApiServer,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.subject, self.reason, self.next)
    }
}

/// Ports that API servers listen on.
const API_PORTS: [u16; 2] = [443, 6443];

/// What the policies of `request` do not hold of rendered objects.
pub fn gaps<'a>(request: &Request, documents: impl IntoIterator<Item = &'a Value>) -> Vec<Gap> {
    let objects: Vec<&Value> = documents.into_iter().flat_map(objects).collect();
    let bound = bound_accounts(request, &objects);
    let reaches_api = API_PORTS.iter().any(|port| request.lets_out(*port));
    let mut gaps = Vec::new();
    for object in objects {
        if let Some(spec) = pod_spec(object) {
            gaps.extend(workload(request, object, spec));
            let account = text(spec, "serviceAccountName").unwrap_or("default");
            let key = (namespace(request, object).to_owned(), account.to_owned());
            if !reaches_api && bound.contains(&key) && key.0 == request.namespace.as_str() {
                gaps.push(Gap {
                    subject: subject(object),
                    why: Why::ApiServer,
                    reason: format!(
                        "its service account {account} has roles, so it may talk to the API server, \
                         which has no labels that a policy could select"
                    ),
                    next: "where it does: --allow ADDRESS:6443 for each control plane node".into(),
                });
            }
        }
        match text(object, "kind") {
            Some("NetworkPolicy") => gaps.extend(lets_out_more(request, object)),
            Some("Service") => gaps.extend(external(object)),
            _ => {}
        }
    }
    gaps
}

fn workload(request: &Request, object: &Value, spec: &Value) -> Option<Gap> {
    let own = namespace(request, object);
    if own != request.namespace.as_str() {
        return Some(Gap {
            subject: subject(object),
            why: Why::OtherNamespace,
            reason: format!("it is in the namespace {own}, which these policies do not close"),
            next: format!("gantry policy egress --namespace {own}"),
        });
    }
    (spec.get("hostNetwork") == Some(&Value::Bool(true))).then(|| Gap {
        subject: subject(object),
        why: Why::HostNetwork,
        reason: "it runs in the node's own network, out of any network policy's reach".into(),
        next: "turn hostNetwork off, or close the node's firewall".into(),
    })
}

/// Policies add up: one that lets out more makes a hole into those that refuse.
fn lets_out_more(request: &Request, object: &Value) -> Option<Gap> {
    if namespace(request, object) != request.namespace.as_str() {
        return None;
    }
    let rules = object.pointer("/spec/egress").and_then(Value::as_array)?;
    let is_open = |rule: &&Value| match rule.get("to").and_then(Value::as_array) {
        None => true,
        Some(peers) => peers.is_empty() || peers.iter().any(|peer| peer.get("ipBlock").is_some()),
    };
    let open = rules.iter().find(is_open)?;
    let blocks = open.get("to").and_then(Value::as_array).into_iter().flatten();
    let cidrs: Vec<&str> =
        blocks.filter_map(|peer| peer.pointer("/ipBlock/cidr").and_then(Value::as_str)).collect();
    let to = if cidrs.is_empty() { "everywhere".to_owned() } else { cidrs.join(", ") };
    Some(Gap {
        subject: subject(object),
        why: Why::LetsOutMore,
        reason: format!("it lets its pods out to {to}, and policies add up"),
        next: "turn it off in the chart's values, or narrow it".into(),
    })
}

fn external(object: &Value) -> Option<Gap> {
    let name = object.pointer("/spec/externalName").and_then(Value::as_str)?;
    Some(Gap {
        subject: subject(object),
        why: Why::ExternalName,
        reason: format!("it leads to {name}, which a network policy cannot name"),
        next: "set the address of the site's own service, and give it with --allow".into(),
    })
}

/// The service accounts that roles are bound to, with their namespaces.
fn bound_accounts(request: &Request, objects: &[&Value]) -> BTreeSet<(String, String)> {
    let is_binding = |object: &&&Value| {
        matches!(text(object, "kind"), Some("RoleBinding" | "ClusterRoleBinding"))
    };
    let subjects = objects.iter().filter(is_binding).flat_map(|binding| {
        let all = binding.get("subjects").and_then(Value::as_array).into_iter().flatten();
        all.map(|subject| (namespace(request, binding), subject))
    });
    subjects
        .filter(|(_, subject)| text(subject, "kind") == Some("ServiceAccount"))
        .filter_map(|(own, subject)| {
            let namespace = text(subject, "namespace").unwrap_or(own);
            Some((namespace.to_owned(), text(subject, "name")?.to_owned()))
        })
        .collect()
}

/// The document, or the items of a list.
fn objects(document: &Value) -> Vec<&Value> {
    let is_list = text(document, "kind").is_some_and(|kind| kind.ends_with("List"));
    match document.get("items").and_then(Value::as_array) {
        Some(items) if is_list => items.iter().collect(),
        _ => vec![document],
    }
}

/// The pod that an object is or makes.
fn pod_spec(object: &Value) -> Option<&Value> {
    let path = match text(object, "kind")? {
        "Pod" => "/spec",
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "Job"
        | "ReplicationController" => "/spec/template/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => return None,
    };
    object.pointer(path)
}

fn namespace<'a>(request: &'a Request, object: &'a Value) -> &'a str {
    let own = object.pointer("/metadata/namespace").and_then(Value::as_str);
    own.filter(|own| !own.is_empty()).unwrap_or(request.namespace.as_str())
}

fn subject(object: &Value) -> String {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    format!("{} {name}", text(object, "kind").unwrap_or_default())
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}
