//! Decides on one AdmissionReview: a pod that is created or gets another image. The answer is a
//! patch with the images' names at the site, or a denial with the reasons.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::core::admission::{AdmissionRequest, AdmissionResponse, Operation};
use serde_json::{Value, json};

use super::images::{ImageDecision, WebhookImages};

/// What happens to a pod with an image that is not locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceGuard {
    /// The pod is refused.
    Enforce,
    /// The image stays as it is, and the user gets a warning.
    Move,
}

/// An answer, and the figures for the metrics.
#[derive(Debug)]
pub struct AdmissionDecision {
    /// The response for the API server.
    pub response: AdmissionResponse,
    /// How many images are renamed.
    pub moved: usize,
    /// How many images are not locked.
    pub unknown: usize,
}

/// How many images an answer names; of further ones only the number is given.
const NAMED: usize = 5;
/// The most characters of the reasons of a denial: people read it.
const LONGEST: usize = 600;
/// The most characters of a warning: the API server cuts off what is longer than 256.
const LONGEST_WARNING: usize = 250;

/// Decides on the images that a request adds. Images that the object had before are not checked:
/// the pod must stay updatable, or its finalizers could never be removed.
pub fn judge_review(
    request: &AdmissionRequest<Pod>,
    locked: &WebhookImages,
    guard: NamespaceGuard,
) -> AdmissionDecision {
    let response = AdmissionResponse::from(request);
    let before: HashSet<&str> = match request.operation {
        Operation::Update => {
            list_images(request.old_object.as_ref()).map(|(_, image)| image).collect()
        }
        _ => HashSet::new(),
    };
    let mut patch: Vec<Value> = Vec::new();
    let (mut moved, mut unknown) = (Vec::new(), Vec::new());
    let mut is_home = false;
    let is_injected = request.object.as_ref().is_some_and(is_injected);
    for (path, image) in list_images(request.object.as_ref()) {
        // An injector (another webhook) fills these in after us; then we are called again.
        let is_filled_in = image.is_empty() || (image == "auto" && is_injected);
        if is_filled_in || before.contains(image) {
            continue;
        }
        match locked.decide(image) {
            ImageDecision::Stays => is_home = true,
            ImageDecision::Moves(to) => {
                is_home = true;
                patch.push(json!({"op": "replace", "path": path, "value": to}));
                moved.push(format!("{image} is pulled from the site as {to}"));
            }
            ImageDecision::Unknown => unknown.push(image),
        }
    }
    let reasons =
        || first_texts(unknown.iter().map(|image| locked.explain_refusal(image)), unknown.len());
    // A denied pod gets no patch: it is not created at all.
    if !unknown.is_empty() && guard == NamespaceGuard::Enforce {
        let response = refuse_pod(response, &reasons());
        return AdmissionDecision { response, moved: 0, unknown: unknown.len() };
    }
    let spec = request.object.as_ref().and_then(|pod| pod.spec.as_ref());
    // The pull secrets of an existing pod cannot be changed.
    if is_home && request.operation == Operation::Create {
        patch.extend(spec.and_then(|spec| pull_secret_patch(spec, locked)));
    }
    let judged =
        |response| AdmissionDecision { response, moved: moved.len(), unknown: unknown.len() };
    let mut response = match apply_patch(response, patch) {
        Ok(response) => response,
        Err(response) => return judged(response),
    };
    let mut warnings = first_texts(moved.iter().cloned(), moved.len());
    warnings.extend(reasons());
    for warning in &mut warnings {
        *warning = shorten_text(warning, LONGEST_WARNING);
    }
    if !warnings.is_empty() {
        response
            .audit_annotations
            .insert("images".to_owned(), shorten_text(&warnings.join("; "), LONGEST));
        response.warnings = Some(warnings);
    }
    judged(response)
}

/// Whether Istio's injector will handle the pod: it replaces the image `auto` by its own (istio.io,
/// "Installing the Sidecar", "Customizing injection").
fn is_injected(pod: &Pod) -> bool {
    let keys = pod.metadata.labels.iter().chain(&pod.metadata.annotations).flat_map(BTreeMap::keys);
    let mut groups = keys.filter_map(|key| key.split('/').next());
    groups.any(|group| group == "istio.io" || group.ends_with(".istio.io"))
}

/// The images of a pod, in all kinds of containers and in image volumes, each with its JSON
/// pointer.
fn list_images(pod: Option<&Pod>) -> impl Iterator<Item = (String, &str)> {
    let spec = pod.and_then(|pod| pod.spec.as_ref());
    let images = spec.into_iter().flat_map(cluster::pod_spec::list_images);
    images.map(|(location, image)| (format!("/spec{location}"), image))
}

/// The patch that adds the site's pull secret; `None` if the pod names it already or the site has
/// none.
fn pull_secret_patch(spec: &PodSpec, locked: &WebhookImages) -> Option<Value> {
    let secret = locked.pull_secret()?;
    let own = spec.image_pull_secrets.as_deref();
    if own.unwrap_or_default().iter().any(|own| own.name == secret) {
        return None;
    }
    let secret = json!({"name": secret});
    // JSON Patch (RFC 6902): `/-` appends to a list, but only to one that exists.
    Some(match own {
        Some(_) => json!({"op": "add", "path": "/spec/imagePullSecrets/-", "value": secret}),
        None => json!({"op": "add", "path": "/spec/imagePullSecrets", "value": [secret]}),
    })
}

/// Puts the patch into the response; a patch that cannot be encoded denies the pod.
fn apply_patch(
    response: AdmissionResponse,
    patch: Vec<Value>,
) -> Result<AdmissionResponse, AdmissionResponse> {
    if patch.is_empty() {
        return Ok(response);
    }
    let failed = response.clone();
    let patch = serde_json::from_value(Value::Array(patch)).map_err(|cause| cause.to_string());
    let patched =
        patch.and_then(|patch| response.with_patch(patch).map_err(|cause| cause.to_string()));
    patched.map_err(|cause| failed.deny(format!("gantry: cannot encode the patch: {cause}")))
}

/// Denies the pod, with the reasons and what to do.
fn refuse_pod(mut response: AdmissionResponse, reasons: &[String]) -> AdmissionResponse {
    let images = shorten_text(&reasons.join("; "), LONGEST);
    response.result.code = 403;
    "Forbidden".clone_into(&mut response.result.reason);
    response.deny(format!(
        "gantry: {images}. Use a locked image, or add the image to gantry.yaml, carry it over \
         (gantry lock, fetch, pack, load), and give the webhook the new lock"
    ))
}

/// The first few of `count` texts, then how many more there are. The others are never computed.
fn first_texts(all: impl Iterator<Item = String>, count: usize) -> Vec<String> {
    let mut told: Vec<String> = all.take(NAMED).collect();
    if count > NAMED {
        told.push(format!("and {} more", count - NAMED));
    }
    told
}

/// The text, cut off after so many characters.
fn shorten_text(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let start: String = text.chars().take(longest).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kube::core::admission::AdmissionReview;

    use super::*;
    use crate::webhook::{ImagePinning, test_sample};

    fn sample_request(operation: &str, object: &Value, old: &Value) -> AdmissionRequest<Pod> {
        let review: AdmissionReview<Pod> = serde_json::from_value(json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "operation": operation, "userInfo": {}, "object": object, "oldObject": old,
            },
        }))
        .unwrap();
        review.try_into().unwrap()
    }

    fn sample_pod(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    }

    fn judge_creation(spec: Value, guard: NamespaceGuard) -> (AdmissionDecision, Value) {
        let judged = judge_review(
            &sample_request("CREATE", &sample_pod(spec), &Value::Null),
            &test_sample::sample_images(ImagePinning::AsNamed),
            guard,
        );
        let patch = judged
            .response
            .patch
            .as_deref()
            .map_or(Value::Null, |patch| serde_json::from_slice(patch).unwrap());
        (judged, patch)
    }

    #[test]
    fn every_sort_of_container_and_image_volumes_are_moved() {
        let image = |name: &str| json!([{"name": name, "image": "nginx:1.25"}]);
        let (judged, patch) = judge_creation(
            json!({
                "containers": image("a"), "initContainers": image("b"),
                "ephemeralContainers": image("c"),
                "volumes": [{"name": "x", "emptyDir": {}}, {"name": "m", "image": {"reference": "ghcr.io/shop/web:2.1"}}],
            }),
            NamespaceGuard::Enforce,
        );
        assert!(judged.response.allowed);
        assert_eq!(judged.moved, 4);
        let paths: Vec<&str> =
            patch.as_array().unwrap().iter().map(|step| step["path"].as_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "/spec/initContainers/0/image",
                "/spec/containers/0/image",
                "/spec/ephemeralContainers/0/image",
                "/spec/volumes/1/image/reference",
                "/spec/imagePullSecrets",
            ]
        );
        assert_eq!(patch[3]["value"], "site:5000/ai/shop/web:2.1");
        assert_eq!(patch[4]["value"], json!([{"name": "site"}]));
    }

    #[test]
    fn a_pull_secret_is_added_to_others_and_never_twice() {
        let spec = |secrets: Value| json!({"containers": [{"name": "a", "image": "nginx:1.25"}], "imagePullSecrets": secrets});
        let (_, patch) = judge_creation(spec(json!([{"name": "own"}])), NamespaceGuard::Enforce);
        assert_eq!(
            patch[1],
            json!({"op": "add", "path": "/spec/imagePullSecrets/-", "value": {"name": "site"}})
        );
        let (_, patch) = judge_creation(spec(json!([{"name": "site"}])), NamespaceGuard::Enforce);
        assert_eq!(patch.as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_foreign_image_is_refused_or_told_as_the_guard_says() {
        let spec = || json!({"containers": [{"name": "a", "image": "nginx:1.25"}, {"name": "b", "image": "evil.example/x:1"}]});
        let (judged, patch) = judge_creation(spec(), NamespaceGuard::Enforce);
        assert!(!judged.response.allowed && patch.is_null());
        assert!(judged.response.result.message.contains("evil.example/x:1 is not locked"));
        assert_eq!(judged.response.result.code, 403);
        let (judged, patch) = judge_creation(spec(), NamespaceGuard::Move);
        assert!(judged.response.allowed);
        assert_eq!(patch[0]["path"], "/spec/containers/0/image");
        let warnings = judged.response.warnings.unwrap();
        assert!(warnings[1].contains("evil.example/x:1 is not locked"), "{warnings:?}");
    }

    #[test]
    fn an_update_is_judged_by_the_images_that_it_brings() {
        let old = sample_pod(json!({"containers": [{"name": "a", "image": "evil.example/x:1"}]}));
        let locked = test_sample::sample_images(ImagePinning::AsNamed);
        let same =
            judge_review(&sample_request("UPDATE", &old, &old), &locked, NamespaceGuard::Enforce);
        assert!(same.response.allowed && same.response.patch.is_none());
        let mut new = old.clone();
        new["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "nginx:1.25"}]);
        let moved =
            judge_review(&sample_request("UPDATE", &new, &old), &locked, NamespaceGuard::Enforce);
        assert_eq!(moved.moved, 1);
        let patch: Value = serde_json::from_slice(&moved.response.patch.unwrap()).unwrap();
        assert_eq!(patch.as_array().unwrap().len(), 1, "no pull secret: {patch}");
    }

    #[test]
    fn an_answer_stays_short_however_many_images_there_are() {
        let containers: Vec<Value> = (0..500)
            .map(|n| json!({"name": format!("c{n}"), "image": format!("evil.example/{}:{n}", "x".repeat(200))}))
            .collect();
        let (judged, _) =
            judge_creation(json!({"containers": containers}), NamespaceGuard::Enforce);
        assert!(judged.response.result.message.len() < 1200);
        let (judged, _) = judge_creation(json!({"containers": containers}), NamespaceGuard::Move);
        let warnings = judged.response.warnings.unwrap();
        assert!(
            warnings.len() == NAMED + 1
                && warnings.iter().all(|warning| warning.chars().count() < 256)
        );
    }

    #[test]
    fn what_an_injector_fills_in_later_is_left_to_it() {
        let spec = json!({"containers": [{"name": "proxy", "image": "auto"}]});
        let mut injected = sample_pod(spec.clone());
        injected["metadata"]["labels"] = json!({"sidecar.istio.io/inject": "true"});
        let asked = sample_request("CREATE", &injected, &Value::Null);

        let judged = judge_review(
            &asked,
            &test_sample::sample_images(ImagePinning::AsNamed),
            NamespaceGuard::Enforce,
        );

        assert!(judged.response.allowed && judged.response.patch.is_none());
        // Without an injector it is an image like any other, and not locked.
        assert!(!judge_creation(spec, NamespaceGuard::Enforce).0.response.allowed);
    }
}
