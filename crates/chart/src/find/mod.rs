//! Finds every image that rendered manifests name: the reference, its location, and how certain it
//! is that the image will be pulled.
//!
//! One module for each kind of location: `pods` (container fields, which the kubelet pulls),
//! `containers` (arguments and environment), `metadata` (annotations), `text` (ConfigMaps and
//! Secrets), `crds` (defaults in CustomResourceDefinitions) and `custom` (everything else by the
//! name of its key or by its form). They add what they find to the collector in `found`.

mod compose;
mod containers;
mod crds;
mod custom;
mod found;
mod metadata;
pub(crate) mod names;
pub(crate) mod pods;
pub(crate) mod text;

pub use found::{Broken, Confidence, Findings, Found, Part, Pattern, Place, Role};

use serde_json::Value;

use crate::manifest::{Document, Manifests};
use crate::path::Path;
use crate::rules::Rules;
use custom::Walk;
use found::Collector;

/// Finds the images in a stream of manifests (from `helm template`, `kustomize build` or written by
/// hand), with those that operators pull for it according to the built-in rules.
pub fn images(rendered: &str) -> Findings {
    images_with(rendered, Rules::builtin())
}

/// Finds the images in a stream of manifests, with the caller's own table of operator rules.
pub fn images_with(rendered: &str, rules: &Rules) -> Findings {
    let manifests = Manifests::read(rendered);
    let mut findings = in_manifests(&manifests);
    rules.apply(&manifests, &mut findings);
    findings
}

/// Finds the images that parsed manifests name, without applying operator rules.
pub fn in_manifests(manifests: &Manifests) -> Findings {
    let mut findings = Findings { unread: manifests.unread.clone(), ..Findings::default() };
    for (index, document) in manifests.documents.iter().enumerate() {
        in_document(document, &mut Collector::new(index, document, &mut findings));
    }
    findings
}

/// Finds what looks like an image in a chart's values. `document` gives the template, kind and name
/// of the locations.
pub(crate) fn in_values(document: &Document, values: &Value) -> Vec<Found> {
    let mut findings = Findings::default();
    let mut collector = Collector::new(0, document, &mut findings);
    custom::find(values, &Path::default(), &Walk::new(Pattern::Value), &mut collector);
    findings.images
}

/// Runs all finders over one document. The order matters: a location counts once, for the first
/// finder that adds it, so the one with the highest confidence goes first.
fn in_document(document: &Document, collector: &mut Collector) {
    let value = &document.value;
    pods::find(value, collector);
    containers::find(value, collector);
    metadata::find(value, collector);
    pods::objects(value, &Path::default(), &mut |object, path| match object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "ConfigMap" | "Secret" => text::in_data(object, path, collector),
        "CustomResourceDefinition" => crds::find(object, collector),
        _ if custom::is_custom(group(object)) => {
            custom_resource(object, path, collector);
        }
        _ => {}
    });
}

/// Searches all fields of a custom resource except its metadata, which `metadata` searches.
fn custom_resource(object: &Value, path: &Path, collector: &mut Collector) {
    for (key, value) in object.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            custom::find(value, &path.key(key), &Walk::new(Pattern::CustomResource), collector);
        }
    }
}

/// The API group: `apiVersion` without the version, such as `apps`; empty for the core group.
fn group(object: &Value) -> &str {
    let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    version.split_once('/').map_or("", |(group, _)| group)
}
