//! The policy for OPA Gatekeeper: a `ConstraintTemplate` with the rule in Rego (`locked.rego`), and
//! a constraint with the list of images.

use serde_json::{Value, json};
use types::pod_kinds::{CONTAINER_LISTS, PodKind, VOLUME_IMAGE, VOLUMES};

use super::cel;
use super::kinds::{USUAL_TEMPLATE, judged_kinds_by_group, kinds_with_own_path};
use super::spec::{ImagePolicySpec, PolicyAction};

/// The kind of the constraint. Gatekeeper requires that the template's name is its lower case.
const KIND: &str = "GantryLockedImages";
/// The rule. What stands in capitals in it is written by [`write_rule`].
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
                "rego": write_rule(),
            }],
        },
    })
}

/// Writes the rule: the form of a reference, and where the kinds keep their pods.
fn write_rule() -> String {
    let own: Vec<&PodKind> = kinds_with_own_path().collect();
    let quote_all = |texts: &[&str]| {
        texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
    };
    let names: Vec<&str> = own.iter().map(|own| own.kind).collect();
    let pods: Vec<String> = own
        .iter()
        .map(|own| {
            let path = own.spec_path().collect::<Vec<_>>().join(".");
            let kind = own.kind;
            format!(
                "pod(object) = spec {{\n  object.kind == \"{kind}\"\n  spec := object.{path}\n}}"
            )
        })
        .collect();
    REGO.replace("FORM", cel::FORM)
        .replace("CONTAINER_LISTS", &quote_all(&CONTAINER_LISTS))
        .replace("VOLUME_IMAGES", &format!("{VOLUMES}[_].{}", VOLUME_IMAGE.join(".")))
        .replace("KINDS_WITH_OWN_PATH", &quote_all(&names))
        .replace("PODS_AT_OWN_PATH", &pods.join("\n\n"))
        .replace("USUAL_TEMPLATE", &USUAL_TEMPLATE.join("."))
}

/// The constraint: where it applies, and the list of one lock.
fn build_constraint(request: &ImagePolicySpec) -> Value {
    let action = match request.action {
        PolicyAction::Deny => "deny",
        PolicyAction::Warn => "warn",
    };
    let kinds: Vec<Value> = judged_kinds_by_group()
        .map(|(group, kinds)| {
            let kinds: Vec<&str> = kinds.iter().map(|own| own.kind).collect();
            json!({"apiGroups": [group], "kinds": kinds})
        })
        .collect();
    json!({
        "apiVersion": "constraints.gatekeeper.sh/v1beta1",
        "kind": KIND,
        "metadata": {"name": request.name},
        "spec": {
            "enforcementAction": action,
            "match": {
                "kinds": kinds,
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
