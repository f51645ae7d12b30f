//! Kyverno's `ClusterPolicy` with the same rule: Kyverno judges CEL with the API
//! server's own validator (kyverno, `pkg/engine/handlers/validation/validate_cel.go`).

use serde_json::{Value, json};

use super::{Action, Request, cel};
use crate::Result;

/// Everything that makes pods. Kyverno adds `pods/ephemeralcontainers` to `Pod` by itself
/// (`pkg/controllers/webhook/utils_webhook.go`).
const KINDS: [&str; 9] = [
    "Pod",
    "PodTemplate",
    "ReplicationController",
    "DaemonSet",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "CronJob",
    "Job",
];

pub(super) fn manifests(request: &Request) -> Result<Vec<Value>> {
    let name = &request.name;
    let action = match request.action {
        Action::Deny => "Enforce",
        Action::Warn => "Audit",
    };
    let policy = json!({
        "apiVersion": "kyverno.io/v1",
        "kind": "ClusterPolicy",
        "metadata": {
            "name": name,
            "annotations": {
                "policies.kyverno.io/title": "Only locked images",
                // All kinds are named below; rules made for them would judge twice.
                "pod-policies.kyverno.io/autogen-controllers": "none",
            },
        },
        "spec": {
            "validationFailureAction": action,
            "failurePolicy": "Fail",
            "background": false,
            "rules": [{
                "name": "locked-images",
                "match": {"any": [{"resources": {
                    "kinds": KINDS,
                    "operations": ["CREATE", "UPDATE"],
                    "namespaceSelector": request.scope.selector(),
                }}]},
                "validate": {"cel": {
                    "variables": cel::variables(request)?,
                    "expressions": [cel::validation(request)],
                }},
            }],
        },
    });
    Ok(vec![policy])
}
