//! Lists what the network policies of a namespace do not restrict in a chart (workloads out of
//! their reach, policies of the chart that allow more), and what they block although it may be
//! needed.

use std::collections::BTreeSet;

use serde_json::Value;
use types::pod_kinds::{find_pod_spec, list_objects};

use crate::egress::EgressPolicySpec;
use crate::gap::{PolicyGap, PolicyGapKind};

/// Ports that API servers listen on.
const API_PORTS: [u16; 2] = [443, 6443];

/// Finds the gaps between the policies of `request` and rendered objects.
pub fn find_gaps<'a>(
    request: &EgressPolicySpec,
    documents: impl IntoIterator<Item = &'a Value>,
) -> Vec<PolicyGap> {
    let objects: Vec<&Value> = documents.into_iter().flat_map(list_objects).collect();
    let bound = find_bound_accounts(request, &objects);
    let reaches_api = API_PORTS.iter().any(|port| request.allows_port(*port));
    let mut gaps = Vec::new();
    for object in objects {
        if let Some(spec) = find_pod_spec(object) {
            gaps.extend(find_workload_gap(request, object, spec));
            let account = text_field(spec, "serviceAccountName").unwrap_or("default");
            let key = (object_namespace(request, object).to_owned(), account.to_owned());
            if !reaches_api && bound.contains(&key) && key.0 == request.namespace.as_str() {
                gaps.push(PolicyGap {
                    subject: format_subject(object),
                    why: PolicyGapKind::ApiServer,
                    reason: format!(
                        "its service account {account} has roles, so it may need the API server, \
                         which is blocked: a network policy cannot select it by labels"
                    ),
                    next: "if it does, add --allow ADDRESS:6443 for each control plane node".into(),
                });
            }
        }
        match text_field(object, "kind") {
            Some("NetworkPolicy") => gaps.extend(find_open_policy(request, object)),
            Some("Service") => gaps.extend(find_external_name(object)),
            _ => {}
        }
    }
    gaps
}

/// The gap of a workload that no policy of this namespace reaches.
fn find_workload_gap(
    request: &EgressPolicySpec,
    object: &Value,
    spec: &Value,
) -> Option<PolicyGap> {
    let own = object_namespace(request, object);
    if own != request.namespace.as_str() {
        return Some(PolicyGap {
            subject: format_subject(object),
            why: PolicyGapKind::OtherNamespace,
            reason: format!("it is in the namespace {own}, which these policies do not cover"),
            next: format!("run gantry policy egress --namespace {own}"),
        });
    }
    (spec.get("hostNetwork") == Some(&Value::Bool(true))).then(|| PolicyGap {
        subject: format_subject(object),
        why: PolicyGapKind::HostNetwork,
        reason: "it uses the node's network, which network policies do not restrict".into(),
        next: "turn hostNetwork off, or restrict egress in the node's firewall".into(),
    })
}

/// The gap of a network policy of the chart that allows egress to addresses. A rule without `to`
/// allows everything; one with only selectors stays in the cluster.
fn find_open_policy(request: &EgressPolicySpec, object: &Value) -> Option<PolicyGap> {
    if object_namespace(request, object) != request.namespace.as_str() {
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
    Some(PolicyGap {
        subject: format_subject(object),
        why: PolicyGapKind::LetsOutMore,
        reason: format!("it allows egress to {to}, and network policies only add permissions"),
        next: "turn it off or restrict it in the chart's values".into(),
    })
}

/// The gap of a service that is an alias of a host name.
fn find_external_name(object: &Value) -> Option<PolicyGap> {
    let name = object.pointer("/spec/externalName").and_then(Value::as_str)?;
    Some(PolicyGap {
        subject: format_subject(object),
        why: PolicyGapKind::ExternalName,
        reason: format!("it is an alias of {name}; network policies know only addresses"),
        next: "set it to a service of the site, and allow the address of that with --allow".into(),
    })
}

/// The service accounts that have roles, as (namespace, name).
fn find_bound_accounts(
    request: &EgressPolicySpec,
    objects: &[&Value],
) -> BTreeSet<(String, String)> {
    let is_binding = |object: &&&Value| {
        matches!(text_field(object, "kind"), Some("RoleBinding" | "ClusterRoleBinding"))
    };
    let subjects = objects.iter().filter(is_binding).flat_map(|binding| {
        let all = binding.get("subjects").and_then(Value::as_array).into_iter().flatten();
        all.map(|subject| (object_namespace(request, binding), subject))
    });
    subjects
        .filter(|(_, subject)| text_field(subject, "kind") == Some("ServiceAccount"))
        .filter_map(|(own, subject)| {
            let namespace = text_field(subject, "namespace").unwrap_or(own);
            Some((namespace.to_owned(), text_field(subject, "name")?.to_owned()))
        })
        .collect()
}

/// The namespace of an object; without one it goes to the namespace of the release.
fn object_namespace<'a>(request: &'a EgressPolicySpec, object: &'a Value) -> &'a str {
    let own = object.pointer("/metadata/namespace").and_then(Value::as_str);
    own.filter(|own| !own.is_empty()).unwrap_or(request.namespace.as_str())
}

/// Kind and name of an object.
fn format_subject(object: &Value) -> String {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    format!("{} {name}", text_field(object, "kind").unwrap_or_default())
}

/// The string at a key of a map.
fn text_field<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use types::pod_kinds::{POD_KINDS, sample};

    use super::*;

    #[test]
    fn a_pod_of_every_kind_is_seen() {
        let request = EgressPolicySpec {
            namespace: "shop".parse().unwrap(),
            flows: Vec::new(),
            neighbours: Vec::new(),
        };
        let template = json!({"spec": {"hostNetwork": true, "containers": []}});
        for kind in POD_KINDS {
            let list = json!({"kind": "List", "items": [
                {"kind": "List", "items": [sample::object_of_kind(kind, &template)]}]});
            let gaps = find_gaps(&request, [&list]);
            assert_eq!(gaps.len(), 1, "{}", kind.kind);
            assert_eq!(gaps[0].why, PolicyGapKind::HostNetwork, "{}", kind.kind);
        }
    }
}
