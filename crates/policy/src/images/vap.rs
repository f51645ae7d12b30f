//! `ValidatingAdmissionPolicy` and its binding: the API server judges by itself, with nothing that
//! could be down. Fails closed: an error, a missing list or a spent budget refuses.

use serde_json::{Value, json};

use super::{Action, Request, cel, list};
use crate::Result;

pub(super) fn manifests(request: &Request) -> Result<Vec<Value>> {
    let name = &request.name;
    let mut all = list::manifests(request)?;
    all.push(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": {"resourceRules": [
                rule("", &["pods", "pods/ephemeralcontainers", "podtemplates", "replicationcontrollers"]),
                rule("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"]),
                rule("batch", &["cronjobs", "jobs"]),
            ]},
            "variables": cel::variables(request),
            "validations": [cel::validation(request)],
        },
    }));
    let actions = match request.action {
        Action::Deny => json!(["Deny"]),
        Action::Warn => json!(["Warn", "Audit"]),
    };
    all.push(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": actions,
            "paramRef": {
                "name": name,
                "namespace": request.list_namespace.as_str(),
                "parameterNotFoundAction": "Deny",
            },
            "matchResources": {"namespaceSelector": request.scope.selector()},
        },
    }));
    Ok(all)
}

fn rule(group: &str, resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": resources,
    })
}
