//! The rights of the controller, and the admission rule that comes with them. RBAC can narrow a right to
//! objects by name, but for namespaces that do not exist yet only in the whole cluster. With the rule, the
//! API server refuses every write of the pods' service account outside the namespaces that the site
//! selects, so that pods that somebody took over cannot reach the namespaces of others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use types::site_namespaces::{SYSTEM_NAMESPACES, SiteNamespaces};

/// The rights of a controller of namespaces: the names of the objects that it writes, and where.
#[derive(Debug, Clone)]
pub struct NamespaceRights {
    /// The names of the objects in each namespace, by plural kind
    /// ([`deploy::release::SiteNamespaceObjects::list_object_names`]).
    pub objects: BTreeMap<&'static str, BTreeSet<String>>,
    /// The namespaces that the site selects.
    pub namespaces: SiteNamespaces,
}

impl NamespaceRights {
    /// The rules of a ClusterRole. Server-side apply asks for `patch`, and for `create` with the name
    /// where the object does not exist (kubernetes/apiserver, `pkg/endpoints/handlers/patch.go`), so both
    /// are given for these names only; no right lists or deletes anything but namespaces' names.
    pub(crate) fn build_rules(&self) -> Vec<Value> {
        let mut rules = vec![json!({
            "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"],
        })];
        for (resource, names) in self.objects.iter().filter(|(_, names)| !names.is_empty()) {
            let group = if *resource == "networkpolicies" { "networking.k8s.io" } else { "" };
            // Kubernetes and others make service accounts; they are only extended.
            let verbs: &[&str] = match *resource {
                "serviceaccounts" => &["get", "update"],
                _ => &["get", "create", "patch"],
            };
            rules.push(json!({
                "apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": verbs,
            }));
        }
        rules
    }

    /// A `ValidatingAdmissionPolicy` and its binding, both called `NAME-namespaces`, for the service
    /// account `name` in `namespace`.
    pub(crate) fn build_guard_manifests(
        &self,
        name: &str,
        namespace: &str,
        labels: &Value,
    ) -> [Value; 2] {
        let version = "admissionregistration.k8s.io/v1";
        let metadata = json!({"name": format!("{name}-namespaces"), "labels": labels});
        let rule = |group: &str, resources: &[&str]| {
            json!({"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                "resources": resources})
        };
        let policy = json!({
            "apiVersion": version,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [
                    rule("", &["configmaps", "secrets", "serviceaccounts"]),
                    rule("networking.k8s.io", &["networkpolicies"]),
                ]},
                "matchConditions": [
                    {
                        "name": "by-the-controller",
                        "expression": format!(
                            "request.userInfo.username == \"system:serviceaccount:{namespace}:{name}\""
                        ),
                    },
                    {
                        "name": "not-its-own-certificate",
                        "expression": format!(
                            "!(request.namespace == \"{namespace}\" && request.name == \"{name}\")"
                        ),
                    },
                ],
                "validations": [{
                    "expression": self.build_expression(namespace),
                    "message": "the controller may write only in the namespaces that site.yaml selects",
                }],
            },
        });
        let binding = json!({
            "apiVersion": version,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": policy["metadata"],
            "spec": {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]},
        });
        [policy, binding]
    }

    /// CEL: the request's namespace is one that the site selects.
    fn build_expression(&self, own: &str) -> String {
        // A list in JSON is one in CEL: names of namespaces and labels have no characters that differ.
        let mut excluded = SYSTEM_NAMESPACES.to_vec();
        excluded.push(own);
        let mut selected = Vec::new();
        if !self.namespaces.names.is_empty() {
            selected.push(format!("request.namespace in {}", json!(self.namespaces.names)));
        }
        if let Some(selector) = &self.namespaces.selector {
            let labels = "namespaceObject.metadata.labels";
            let has = selector.match_labels.iter().map(|(key, value)| {
                let (key, value) = (json!(key), json!(value));
                format!("{key} in {labels} && {labels}[{key}] == {value}")
            });
            let has = has.collect::<Vec<_>>().join(" && ");
            selected.push(format!("(has({labels}) && {has})"));
        }
        format!("!(request.namespace in {}) && ({})", json!(excluded), selected.join(" || "))
    }
}

#[cfg(test)]
mod tests {
    use types::site_namespaces::NamespaceSelector;

    use super::*;

    fn rights() -> NamespaceRights {
        let names = |all: &[&str]| all.iter().map(|&name| name.to_owned()).collect();
        NamespaceRights {
            objects: BTreeMap::from([
                ("configmaps", names(&["gantry-ca"])),
                ("networkpolicies", names(&["gantry-deny-egress"])),
                ("secrets", names(&["gantry-ca", "site"])),
                ("serviceaccounts", names(&["default"])),
            ]),
            namespaces: SiteNamespaces {
                names: vec!["jobs".into()],
                selector: Some(NamespaceSelector {
                    match_labels: BTreeMap::from([("site".into(), "true".into())]),
                }),
                ..SiteNamespaces::default()
            },
        }
    }

    #[test]
    fn every_right_but_that_to_see_namespaces_is_for_named_objects() {
        let rules = rights().build_rules();
        assert_eq!(rules[0]["resources"], json!(["namespaces"]));
        assert_eq!(rules[0]["verbs"], json!(["get", "list", "watch"]));
        assert_eq!(rules.len(), 5);
        for rule in &rules[1..] {
            assert!(!rule["resourceNames"].as_array().is_none_or(Vec::is_empty), "{rule}");
            let verbs = rule["verbs"].to_string();
            assert!(!verbs.contains("list") && !verbs.contains("delete"), "{rule}");
        }
        assert_eq!(rules[4]["verbs"], json!(["get", "update"]));
        assert_eq!(rules[2]["apiGroups"], json!(["networking.k8s.io"]));
    }

    #[test]
    fn the_rule_admits_the_namespaces_of_the_site_alone() {
        let expression = rights().build_expression("gantry-system");
        assert_eq!(
            expression,
            "!(request.namespace in [\"kube-node-lease\",\"kube-public\",\"kube-system\",\"gantry-system\"]) \
             && (request.namespace in [\"jobs\"] || (has(namespaceObject.metadata.labels) && \
             \"site\" in namespaceObject.metadata.labels && \
             namespaceObject.metadata.labels[\"site\"] == \"true\"))"
        );
    }
}
