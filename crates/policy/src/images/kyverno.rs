//! The policy for Kyverno: a `ClusterPolicy` with the same CEL rule as for the API server, whose
//! validator Kyverno uses (kyverno, `pkg/engine/handlers/validation/validate_cel.go`).

use serde_json::{Value, json};

use super::{Action, Request, cel};
use crate::Result;

/// All kinds that are or create pods. Kyverno adds `pods/ephemeralcontainers` to `Pod` by itself
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

/// Builds the policy.
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
                // Kyverno would generate rules for the kinds that create pods; all are listed
                // below.
                "pod-policies.kyverno.io/autogen-controllers": "none",
            },
        },
        "spec": {
            "validationFailureAction": action,
            "failurePolicy": "Fail",
            // Background scans have no old object, by which updates are judged.
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
