//! The admission rule in CEL, for the API server's own `ValidatingAdmissionPolicy` and for Kyverno,
//! which uses the same library. Each step is a variable, so that a reader can follow it.
//!
//! An update is judged only by the images that it adds. Objects from before the policy must stay
//! updatable: if a finalizer could not be removed, their namespace could never be deleted.

use serde_json::{Value, json};
use types::pod_kinds::{CONTAINER_LISTS, VOLUME_IMAGE, VOLUMES};

use super::kinds::{USUAL_TEMPLATE, kinds_with_own_path};
use super::list;
use super::spec::ImagePolicySpec;
use crate::Result;

/// The form of a reference after the site's prefix: path, tag, digest (distribution/reference,
/// `regexp.go`). Anything else is refused before it is split, since a runtime may read it
/// differently than the rule does.
pub(super) const FORM: &str = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*\
    (:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?$";

/// The variables of the policy, in the order in which they use each other.
pub(super) fn build_variables(request: &ImagePolicySpec) -> Result<Value> {
    let site = &request.allowed.site;
    // A raw string of CEL (`r'…'`), so that the backslashes reach the regular expression.
    let parts = format!(
        "variables.brought.map(i,
  i.startsWith(\"{site}\") && i.substring({length}).matches(r'{FORM}')
  ? {{
    \"image\": i,
    \"path\": i.substring({length}).split(\"@\")[0].split(\":\")[0],
    \"version\": i.contains(\"@\") ? i.split(\"@\")[1]
      : i.substring({length}).contains(\":\") ? i.substring({length}).split(\":\")[1]
      : \"latest\"
  }}
  : {{\"image\": i, \"path\": \"\", \"version\": \"\"}})",
        // CEL counts code points, Rust bytes: the same here, since image names are ASCII.
        length = site.len(),
    );
    let maps = list::build_locked_maps(&request.allowed)?;
    let names: Vec<String> = (1..=maps.len()).map(|number| format!("locked{number}")).collect();
    let refused = format!(
        "variables.parts.filter(p, ![{}].exists(locked,
  p.path in locked && p.version in locked[p.path].split(\" \"))).map(p, p.image)",
        names.iter().map(|name| format!("variables.{name}")).collect::<Vec<_>>().join(", ")
    );
    let locked =
        names.iter().zip(&maps).map(|(name, map)| json!({"name": name, "expression": map}));
    let steps = [
        ("pod", pod_spec_expression("object")),
        ("oldPod", format!("oldObject == null ? {{}} : {}", pod_spec_expression("oldObject"))),
        ("images", images_expression("pod")),
        ("oldImages", images_expression("oldPod")),
        // A pod template may leave the image to a sidecar injector (Istio's `auto`); the pod that
        // is created from it is judged after the injection.
        (
            "brought",
            "variables.images.filter(i, !(i in variables.oldImages)
  && !(object.kind != \"Pod\" && i in [\"\", \"auto\"]))"
                .to_owned(),
        ),
        ("parts", parts),
        ("refused", refused),
    ];
    let steps = steps.map(|(name, expression)| json!({"name": name, "expression": expression}));
    Ok(locked.chain(steps).collect())
}

/// The validation, with a message that names the refused images and the next step.
pub(super) fn build_validation(request: &ImagePolicySpec) -> Value {
    let advice = request.refusal_advice();
    json!({
        "expression": "size(variables.refused) == 0",
        "messageExpression": format!("variables.refused.join(\", \") + \": {advice}\""),
        "message": format!("an image is {advice}"),
        "reason": "Forbidden",
    })
}

/// The expression for the pod's spec in an object of any of the matched kinds. `dyn` turns off type
/// checking: the fields differ from kind to kind.
fn pod_spec_expression(object: &str) -> String {
    let path_expression = |keys: &mut dyn Iterator<Item = &str>| {
        keys.fold(format!("dyn({object})"), |path, key| format!("{path}.?{key}"))
    };
    let mut cases = String::new();
    for own in kinds_with_own_path() {
        let path = path_expression(&mut own.spec_path());
        cases.push_str(&format!("{object}.kind == \"{}\" ? {path}\n: ", own.kind));
    }
    let usual = path_expression(&mut USUAL_TEMPLATE.into_iter().chain(["spec"]));
    format!("({cases}{usual}).orValue({{}})")
}

/// The expression for the list of all images of a pod.
fn images_expression(pod: &str) -> String {
    let containers = CONTAINER_LISTS.map(|list| format!("variables.{pod}.?{list}.orValue([])"));
    let [image, reference] = VOLUME_IMAGE;
    format!(
        "({}).map(c, string(c.?image.orValue(\"\")))
+ variables.{pod}.?{VOLUMES}.orValue([]).filter(v, has(v.{image})).map(v, string(v.{image}.?{reference}.orValue(\"\")))",
        containers.join("\n+ ")
    )
}
