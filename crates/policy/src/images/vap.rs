//! The policy for the API server itself: a `ValidatingAdmissionPolicy` and its binding. No webhook
//! is involved that could be down. It fails closed: an error in CEL or an exceeded cost limit
//! refuses the pod.

use serde_json::{Value, json};

use super::{Action, Request, cel};
use crate::Result;

/// Builds the policy and the binding.
pub(super) fn manifests(request: &Request) -> Result<Vec<Value>> {
    let name = &request.name;
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                rule("", &["pods", "pods/ephemeralcontainers", "podtemplates", "replicationcontrollers"]),
                rule("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"]),
                rule("batch", &["cronjobs", "jobs"]),
            ]},
            "variables": cel::variables(request)?,
            "validations": [cel::validation(request)],
        },
    });
    // The API server does not allow Deny together with Warn. Audit adds the message to its audit
    // log.
    let actions = match request.action {
        Action::Deny => json!(["Deny"]),
        Action::Warn => json!(["Warn", "Audit"]),
    };
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": actions,
            "matchResources": {"namespaceSelector": request.scope.selector()},
        },
    });
    Ok(vec![policy, binding])
}

/// A rule that matches the creation and update of these resources.
fn rule(group: &str, resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": resources,
    })
}
