//! Network policies in the report: the policies that would restrict the audited namespaces to the flows
//! that are needed, and the workloads that no policy restricts as the cluster is now. What no policy
//! can restrict (host networks, other policies that allow more) comes from [`make_policy::coverage`].

use std::collections::BTreeMap;

use policy::PolicyGap;
use policy::coverage::find_gaps;
use policy::egress::{EgressPolicySpec, build_egress_policies};
use policy::{AllowedFlow, AllowedNamespace, Namespace};
use serde::Serialize;
use serde_json::Value;
use types::pod_kinds::PodKind;
use types::site::Site;

use crate::Result;
use crate::pods::Workload;

/// The network policies of a namespace, wanted and present.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceCoverage {
    /// The namespace.
    pub namespace: String,
    /// The policies that would restrict its outgoing connections, for the user to apply.
    #[serde(skip)]
    pub manifests: Vec<Value>,
    /// What these policies would not restrict, or would block although it is needed.
    pub gaps: Vec<PolicyGap>,
    /// The workloads whose outgoing connections no policy in the cluster restricts today.
    pub uncovered: Vec<Workload>,
}

/// The outgoing connections that the user declares as needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredFlows {
    /// To addresses.
    pub addresses: Vec<AllowedFlow>,
    /// To other namespaces.
    pub neighbours: Vec<AllowedNamespace>,
}

/// Writes the policies of a namespace, and finds the workloads that no policy restricts today.
/// `objects` are the rendered objects and the live ones together, `live` the live ones alone.
pub fn cover_namespace(
    namespace: &Namespace,
    site: &Site,
    flows: &DeclaredFlows,
    objects: &[Value],
    live: &[Value],
) -> Result<NamespaceCoverage> {
    let request = EgressPolicySpec {
        namespace: namespace.clone(),
        flows: flows.addresses.clone(),
        neighbours: flows.neighbours.clone(),
    };
    let written = build_egress_policies(&request, site)?;
    let of_it = |object: &&Value| {
        let own = object.pointer("/metadata/namespace").and_then(Value::as_str);
        own.is_none_or(|own| own == namespace.as_str())
    };
    // Policies that an earlier run wrote allow what is declared; they are not gaps.
    let is_ours = |object: &&Value| {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        written.manifests.iter().any(|m| m.pointer("/metadata/name") == Some(&name.into()))
            && object.get("kind") == Some(&"NetworkPolicy".into())
    };
    // Policies add up: another one that allows more makes ours ineffective, and is a gap.
    let mut all = written.gaps;
    all.extend(find_gaps(&request, objects.iter().filter(of_it).filter(|object| !is_ours(object))));
    all.sort_by(|a, b| (&a.subject, &a.reason).cmp(&(&b.subject, &b.reason)));
    all.dedup();
    let live: Vec<&Value> = live.iter().filter(of_it).collect();
    let uncovered = find_uncovered_workloads(namespace.as_str(), &live);
    let manifests = written.manifests;
    Ok(NamespaceCoverage { namespace: namespace.to_string(), manifests, gaps: all, uncovered })
}

/// The workloads whose pods no policy of the namespace selects for egress.
fn find_uncovered_workloads(namespace: &str, live: &[&Value]) -> Vec<Workload> {
    let is_policy = |object: &&&Value| object.get("kind") == Some(&"NetworkPolicy".into());
    let policies: Vec<&Value> = live.iter().filter(is_policy).copied().collect();
    let mut found = Vec::new();
    for object in live {
        let Some(template) = find_created_pods(object) else { continue };
        let labels = template_labels(template);
        let is_held = policies
            .iter()
            .any(|policy| restricts_egress(policy) && selects_labels(policy, &labels));
        if !is_held {
            let text =
                |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            found.push(Workload {
                kind: text("/kind").to_owned(),
                namespace: namespace.to_owned(),
                name: text("/metadata/name").to_owned(),
            });
        }
    }
    found.sort();
    found
}

/// The template of the pods that an object is or creates. A PodTemplate is only stored, so that there
/// is nothing to restrict.
fn find_created_pods(object: &Value) -> Option<&Value> {
    PodKind::of_object(object).filter(|kind| kind.creates_pods())?.template_of(object)
}

/// The labels of a pod template.
fn template_labels(template: &Value) -> BTreeMap<&str, &str> {
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object);
    let pairs = labels.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}

/// Whether a policy restricts outgoing connections. Without `policyTypes` it does only when it has egress
/// rules (Kubernetes API, NetworkPolicySpec).
fn restricts_egress(policy: &Value) -> bool {
    match policy.pointer("/spec/policyTypes").and_then(Value::as_array) {
        Some(types) => types.iter().any(|kind| kind == "Egress"),
        None => policy.pointer("/spec/egress").is_some(),
    }
}

/// Whether a policy's `podSelector` selects pods with these labels; an empty one selects all. All of
/// `matchLabels` and `matchExpressions` have to match (Kubernetes API, LabelSelector).
fn selects_labels(policy: &Value, labels: &BTreeMap<&str, &str>) -> bool {
    let Some(selector) = policy.pointer("/spec/podSelector") else { return true };
    let wanted = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let mut expressions =
        selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    wanted.into_iter().all(|(key, value)| labels.get(key.as_str()).copied() == value.as_str())
        && expressions.all(|expression| {
            let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or_default();
            let has = labels.get(text("key"));
            let values = expression.get("values").and_then(Value::as_array);
            let is_in = has.is_some_and(|has| values.into_iter().flatten().any(|v| v == *has));
            match text("operator") {
                "In" => is_in,
                // Pods without the label match as well.
                "NotIn" => !is_in,
                "Exists" => has.is_some(),
                "DoesNotExist" => has.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use types::pod_kinds::{POD_KINDS, sample};

    use super::*;

    fn make_policy(spec: Value) -> Value {
        json!({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
    }

    fn uncovered_names(policies: &[Value]) -> Vec<String> {
        let pod = |name: &str, app: &str| {
            json!({"kind": "Deployment", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"template": {"metadata": {"labels": {"app": app}}}}})
        };
        let mut objects = vec![pod("web", "web"), pod("db", "db")];
        objects.extend_from_slice(policies);
        let live: Vec<&Value> = objects.iter().collect();
        find_uncovered_workloads("shop", &live).into_iter().map(|workload| workload.name).collect()
    }

    #[test]
    fn a_workload_is_covered_by_a_policy_that_selects_it_for_what_goes_out() {
        assert_eq!(uncovered_names(&[]), ["db", "web"]);
        let all = json!({"podSelector": {}, "policyTypes": ["Egress"]});
        assert_eq!(uncovered_names(&[make_policy(all)]), [""; 0]);
        let ingress = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
        assert_eq!(
            uncovered_names(&[make_policy(ingress), make_policy(json!({"podSelector": {}}))]),
            ["db", "web"]
        );
        let web = json!({"podSelector": {"matchLabels": {"app": "web"}}, "egress": []});
        assert_eq!(uncovered_names(&[make_policy(web)]), ["db"]);
        let but_db = json!({"podSelector": {"matchExpressions": [
            {"key": "app", "operator": "NotIn", "values": ["db"]}, {"key": "app", "operator": "Exists"}]},
            "policyTypes": ["Egress"]});
        assert_eq!(uncovered_names(&[make_policy(but_db)]), ["db"]);
    }

    #[test]
    fn a_pod_of_every_kind_needs_a_policy() {
        let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}});
        let policy =
            make_policy(json!({"podSelector": {"matchLabels": {"app": "a"}}, "egress": []}));
        for kind in POD_KINDS {
            let object = sample::object_of_kind(kind, &template);
            let expected = usize::from(kind.creates_pods());
            assert_eq!(find_uncovered_workloads("shop", &[&object]).len(), expected, "{kind:?}");
            assert!(find_uncovered_workloads("shop", &[&object, &policy]).is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn our_own_policies_are_no_holes_and_others_are() {
        let text = "version: 1\nregistry: {url: \"10.0.0.5:5000\"}\n";
        let site = Site::parse("site.yaml", text).unwrap();
        let namespace: Namespace = "shop".parse().unwrap();
        let flows = DeclaredFlows::default();
        let ours = cover_namespace(&namespace, &site, &flows, &[], &[]).unwrap().manifests;
        let mut objects = ours.clone();
        let open = json!({"podSelector": {}, "egress": [{}]});
        assert!(
            cover_namespace(&namespace, &site, &flows, &objects, &objects).unwrap().gaps.is_empty()
        );
        objects.push(make_policy(open));
        let closed = cover_namespace(&namespace, &site, &flows, &objects, &objects).unwrap();
        assert_eq!(closed.gaps[0].subject, "NetworkPolicy p");
    }
}
