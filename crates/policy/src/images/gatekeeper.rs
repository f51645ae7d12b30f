//! The policy for OPA Gatekeeper: a `ConstraintTemplate` with the rule in Rego (`locked.rego`), and
//! a constraint with the list of images.

use serde_json::{Value, json};

use super::{ImagePolicySpec, PolicyAction, cel};

/// The kind of the constraint. Gatekeeper requires that the template's name is its lower case.
const KIND: &str = "GantryLockedImages";
/// The rule; `FORM` in it stands for the form of a reference.
const REGO: &str = include_str!("locked.rego");

/// Builds the template and the constraint.
pub(super) fn build_gatekeeper_manifests(request: &ImagePolicySpec) -> Vec<Value> {
    vec![build_template(), build_constraint(request)]
}

/// The template. It contains nothing of a particular lock, since the constraints of all locks share
/// it.
fn build_template() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "apiVersion": "templates.gatekeeper.sh/v1",
        "kind": "ConstraintTemplate",
        "metadata": {
            "name": KIND.to_lowercase(),
            "annotations": {"description": "Admits only the site's names of locked images."},
        },
        "spec": {
            "crd": {"spec": {
                "names": {"kind": KIND},
                "validation": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "site": {
                            "description": "The beginning of all image names at the site.",
                            "type": "string",
                        },
                        "advice": {
                            "description": "The advice when an image is refused.",
                            "type": "string",
                        },
                        "images": {
                            "description": "Tags and digests by the repository's path.",
                            "type": "object",
                            "additionalProperties": texts,
                        },
                    },
                }},
            }},
            "targets": [{
                "target": "admission.k8s.gatekeeper.sh",
                "rego": REGO.replace("FORM", cel::FORM),
            }],
        },
    })
}

/// The constraint: where it applies, and the list of one lock.
fn build_constraint(request: &ImagePolicySpec) -> Value {
    let action = match request.action {
        PolicyAction::Deny => "deny",
        PolicyAction::Warn => "warn",
    };
    json!({
        "apiVersion": "constraints.gatekeeper.sh/v1beta1",
        "kind": KIND,
        "metadata": {"name": request.name},
        "spec": {
            "enforcementAction": action,
            "match": {
                "kinds": [
                    {"apiGroups": [""], "kinds": ["Pod", "PodTemplate", "ReplicationController"]},
                    {"apiGroups": ["apps"], "kinds": ["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]},
                    {"apiGroups": ["batch"], "kinds": ["CronJob", "Job"]},
                ],
                "namespaceSelector": request.scope.to_selector(),
            },
            "parameters": {
                "site": request.allowed.site,
                "advice": request.refusal_advice(),
                "images": request.allowed.images,
            },
        },
    })
}
