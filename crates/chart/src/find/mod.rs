//! Finds every image that rendered manifests name, with the place where each stands and how sure
//! it is that it will be pulled. Each kind of place is a module of its own.

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

/// Finds the images in a rendered stream: what `helm template`, `kustomize build` or a person wrote.
/// The built-in rules tell what operators will pull for it.
pub fn images(rendered: &str) -> Findings {
    images_with(rendered, Rules::builtin())
}

/// Finds the images in a rendered stream, with a table of rules of one's own.
pub fn images_with(rendered: &str, rules: &Rules) -> Findings {
    let manifests = Manifests::read(rendered);
    let mut findings = in_manifests(&manifests);
    rules.apply(&manifests, &mut findings);
    findings
}

/// Finds the images that stand in manifests, without what only rules know.
pub fn in_manifests(manifests: &Manifests) -> Findings {
    let mut findings = Findings { unread: manifests.unread.clone(), ..Findings::default() };
    for (index, document) in manifests.documents.iter().enumerate() {
        in_document(document, &mut Collector::new(index, document, &mut findings));
    }
    findings
}

/// Finds what looks like an image in a chart's values. `values` is walked, `document` says what the
/// finds are called.
pub(crate) fn in_values(document: &Document, values: &Value) -> Vec<Found> {
    let mut findings = Findings::default();
    let mut collector = Collector::new(0, document, &mut findings);
    custom::find(values, &Path::default(), &Walk::new(Pattern::Value), &mut collector);
    findings.images
}

/// The surest finder goes first: a place counts once, for the first that knows it.
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

/// Everything of a custom resource but its metadata, which is not its own.
fn custom_resource(object: &Value, path: &Path, collector: &mut Collector) {
    for (key, value) in object.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            custom::find(value, &path.key(key), &Walk::new(Pattern::CustomResource), collector);
        }
    }
}

/// `apiVersion` without the version: `apps`; empty for the core group.
fn group(object: &Value) -> &str {
    let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    version.split_once('/').map_or("", |(group, _)| group)
}
