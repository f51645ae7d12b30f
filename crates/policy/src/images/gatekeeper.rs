//! OPA Gatekeeper's form: a `ConstraintTemplate` with the rule in Rego (`locked.rego`), and a
//! constraint that holds the list.

use serde_json::{Value, json};

use super::{Action, Request, cel};

/// The kind of the constraint; the template's name is the same in lower case, as Gatekeeper asks.
const KIND: &str = "GantryLockedImages";
const REGO: &str = include_str!("locked.rego");

pub(super) fn manifests(request: &Request) -> Vec<Value> {
    vec![template(), constraint(request)]
}

/// Says nothing of any lock: all constraints share it.
fn template() -> Value {
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
                            "description": "What all names of the site start with.",
                            "type": "string",
                        },
                        "advice": {
                            "description": "What is told of an image that is refused.",
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

fn constraint(request: &Request) -> Value {
    let action = match request.action {
        Action::Deny => "deny",
        Action::Warn => "warn",
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
                "namespaceSelector": request.scope.selector(),
            },
            "parameters": {
                "site": request.allowed.site,
                "advice": request.advice(),
                "images": request.allowed.images,
            },
        },
    })
}
