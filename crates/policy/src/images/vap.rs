//! The policy for the API server itself: a `ValidatingAdmissionPolicy` and its binding. No webhook
//! is involved that could be down. It fails closed: an error in CEL or an exceeded cost limit
//! refuses the pod.

use serde_json::{Value, json};

use super::cel;
use super::kinds::judged_kinds_by_group;
use super::spec::{ImagePolicySpec, PolicyAction};
use crate::Result;

/// Builds the policy and the binding.
pub(super) fn build_vap_manifests(request: &ImagePolicySpec) -> Result<Vec<Value>> {
    let name = &request.name;
    let rules: Vec<Value> = judged_kinds_by_group()
        .map(|(group, kinds)| {
            let mut resources: Vec<&str> = Vec::new();
            for own in kinds {
                resources.push(own.resource);
                if own.kind == "Pod" {
                    // `kubectl debug` adds containers to a running pod by this one.
                    resources.push("pods/ephemeralcontainers");
                }
            }
            build_resource_rule(group, &resources)
        })
        .collect();
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules},
            "variables": cel::build_variables(request)?,
            "validations": [cel::build_validation(request)],
        },
    });
    // The API server does not allow Deny together with Warn. Audit adds the message to its audit
    // log.
    let actions = match request.action {
        PolicyAction::Deny => json!(["Deny"]),
        PolicyAction::Warn => json!(["Warn", "Audit"]),
    };
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": actions,
            "matchResources": {"namespaceSelector": request.scope.to_selector()},
        },
    });
    Ok(vec![policy, binding])
}

/// A rule that matches the creation and update of these resources.
fn build_resource_rule(group: &str, resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": resources,
    })
}
