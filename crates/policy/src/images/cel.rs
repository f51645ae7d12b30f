//! The rule in CEL, for the API server's own `ValidatingAdmissionPolicy` and for Kyverno, which
//! runs the same library. Each step is a variable, so that a reader can follow it.
//!
//! An update is judged by the images that it brings: an object from before the policy must stay
//! updatable (a finalizer that cannot be removed keeps a namespace from going).

use serde_json::{Value, json};

use super::{Request, list};
use crate::Result;

/// What stands behind the site in a reference: path, tag, digest (distribution/reference). What
/// has another form no runtime reads as we would, so it is refused before it is cut up.
pub(super) const FORM: &str = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*\
    (:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?$";

/// The variables, in the order that they are built on each other.
pub(super) fn variables(request: &Request) -> Result<Value> {
    let site = &request.allowed.site;
    // A raw string: the form's backslashes are the regular expression's.
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
        length = site.len(),
    );
    let maps = list::maps(&request.allowed)?;
    let names: Vec<String> = (1..=maps.len()).map(|number| format!("locked{number}")).collect();
    let refused = format!(
        "variables.parts.filter(p, ![{}].exists(locked,
  p.path in locked && p.version in locked[p.path].split(\" \"))).map(p, p.image)",
        names.iter().map(|name| format!("variables.{name}")).collect::<Vec<_>>().join(", ")
    );
    let locked =
        names.iter().zip(&maps).map(|(name, map)| json!({"name": name, "expression": map}));
    let steps = [
        ("pod", pod("object")),
        ("oldPod", format!("oldObject == null ? {{}} : {}", pod("oldObject"))),
        ("images", images("pod")),
        ("oldImages", images("oldPod")),
        // A template may leave the image to an injector; the pod that comes of it may not.
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

/// The one validation, with a message that names the images and the next step.
pub(super) fn validation(request: &Request) -> Value {
    let advice = request.advice();
    json!({
        "expression": "size(variables.refused) == 0",
        "messageExpression": format!("variables.refused.join(\", \") + \": {advice}\""),
        "message": format!("an image is {advice}"),
        "reason": "Forbidden",
    })
}

/// Where the pod's spec stands in an object. `dyn`: the kinds differ, and so do their fields.
fn pod(object: &str) -> String {
    format!(
        "({object}.kind == \"Pod\" ? dyn({object}).?spec
: {object}.kind == \"CronJob\" ? dyn({object}).?spec.?jobTemplate.?spec.?template.?spec
: {object}.kind == \"PodTemplate\" ? dyn({object}).?template.?spec
: dyn({object}).?spec.?template.?spec).orValue({{}})"
    )
}

fn images(pod: &str) -> String {
    format!(
        "(variables.{pod}.?initContainers.orValue([]) + variables.{pod}.?containers.orValue([])
+ variables.{pod}.?ephemeralContainers.orValue([])).map(c, string(c.?image.orValue(\"\")))
+ variables.{pod}.?volumes.orValue([]).filter(v, has(v.image)).map(v, string(v.image.?reference.orValue(\"\")))"
    )
}
