//! The rule in CEL, for the API server's own `ValidatingAdmissionPolicy` and for Kyverno, which
//! runs the same library. Each step is a variable, so that a reader can follow it.
//!
//! An update is judged by the images that it brings: an object from before the policy must stay
//! updatable (a finalizer that cannot be removed keeps a namespace from going).

use serde_json::{Value, json};

use super::Request;
use super::list::SLASH;

/// What stands behind the site in a reference: path, tag, digest (distribution/reference). What
/// has another form no runtime reads as we would, so it is refused before it is cut up.
pub(super) const FORM: &str = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*\
    (:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?$";

/// The variables, in the order that they are built on each other.
pub(super) fn variables(request: &Request) -> Value {
    let site = &request.allowed.site;
    // A raw string: the form's backslashes are the regular expression's.
    let parts = format!(
        "variables.brought.map(i,
  i.startsWith(\"{site}\") && i.substring({length}).matches(r'{FORM}')
  ? {{
    \"image\": i,
    \"key\": i.substring({length}).split(\"@\")[0].split(\":\")[0].replace(\"/\", \"{SLASH}\"),
    \"version\": i.contains(\"@\") ? i.split(\"@\")[1]
      : i.substring({length}).contains(\":\") ? i.substring({length}).split(\":\")[1]
      : \"latest\"
  }}
  : {{\"image\": i, \"key\": \"\", \"version\": \"\"}})",
        length = site.len(),
    );
    json!([
        {"name": "pod", "expression": pod("object")},
        {"name": "oldPod", "expression": format!("oldObject == null ? {{}} : {}", pod("oldObject"))},
        {"name": "images", "expression": images("pod")},
        {"name": "oldImages", "expression": images("oldPod")},
        // A template may leave the image to an injector; the pod that comes of it may not.
        {"name": "brought", "expression": "variables.images.filter(i, !(i in variables.oldImages)
  && !(object.kind != \"Pod\" && i in [\"\", \"auto\"]))"},
        {"name": "parts", "expression": parts},
        {"name": "refused", "expression": "variables.parts.filter(p,
  !(p.key in params.data && p.version in params.data[p.key].split(\" \"))).map(p, p.image)"},
    ])
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
