//! `ValidatingAdmissionPolicy` and its binding: the API server judges by itself, with nothing that
//! could be down. Fails closed: an error or a spent budget refuses.

use serde_json::{Value, json};

use super::{Action, Request, cel};
use crate::Result;

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

fn rule(group: &str, resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": resources,
    })
}
