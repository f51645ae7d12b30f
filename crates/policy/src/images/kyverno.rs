//! The policy for Kyverno: a `ClusterPolicy` with the same CEL rule as for the API server, whose
//! validator Kyverno uses (kyverno, `pkg/engine/handlers/validation/validate_cel.go`).

use serde_json::{Value, json};

use super::cel;
use super::kinds::judged_kinds_by_group;
use super::spec::{ImagePolicySpec, PolicyAction};
use crate::Result;

/// Builds the policy.
pub(super) fn build_kyverno_manifests(request: &ImagePolicySpec) -> Result<Vec<Value>> {
    let name = &request.name;
    let action = match request.action {
        PolicyAction::Deny => "Enforce",
        PolicyAction::Warn => "Audit",
    };
    // Kyverno adds `pods/ephemeralcontainers` to `Pod` by itself
    // (`pkg/controllers/webhook/utils_webhook.go`).
    let kinds: Vec<&str> =
        judged_kinds_by_group().flat_map(|(_, kinds)| kinds).map(|own| own.kind).collect();
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
                    "kinds": kinds,
                    "operations": ["CREATE", "UPDATE"],
                    "namespaceSelector": request.scope.to_selector(),
                }}]},
                "validate": {"cel": {
                    "variables": cel::build_variables(request)?,
                    "expressions": [cel::build_validation(request)],
                }},
            }],
        },
    });
    Ok(vec![policy])
}
