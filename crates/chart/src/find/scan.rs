//! Runs all finders over the documents of a stream.

use std::borrow::Cow;

use serde_json::Value;

use super::findings::{FoundImage, ImageCollector, ImageScan, LocationKind};
use super::walk::StructureWalk;
use super::{api_groups, containers, crds, custom, metadata, pods, positions, text};
use crate::manifest::{ManifestDocument, Manifests, api_group};
use crate::path::DocumentPath;
use crate::rules::OperatorRules;

/// Finds the images in a stream of manifests (from `helm template`, `kustomize build` or written by
/// hand), with those that operators pull for it according to the built-in rules.
pub fn find_images(rendered: &str) -> ImageScan {
    find_images_with_rules(rendered, OperatorRules::builtin())
}

/// Finds the images in a stream of manifests, with the caller's own table of operator rules.
pub fn find_images_with_rules(rendered: &str, rules: &OperatorRules) -> ImageScan {
    let manifests = Manifests::read(rendered);
    let mut findings = find_images_in_manifests(&manifests);
    rules.apply(&manifests, &mut findings);
    findings
}

/// Finds the images that parsed manifests name, without applying operator rules.
pub fn find_images_in_manifests(manifests: &Manifests) -> ImageScan {
    let mut findings = ImageScan { unread: manifests.unread.clone(), ..ImageScan::default() };
    for (index, document) in manifests.documents.iter().enumerate() {
        find_images_in_document(document, &mut ImageCollector::new(index, document, &mut findings));
    }
    findings
}

/// Finds what looks like an image in a chart's values. `document` gives the template, kind and name
/// of the locations.
pub(crate) fn find_images_in_values(
    document: &ManifestDocument,
    values: &Value,
) -> Vec<FoundImage> {
    let mut findings = ImageScan::default();
    let mut collector = ImageCollector::new(0, document, &mut findings);
    custom::find_images_in_structure(
        values,
        &DocumentPath::default(),
        &StructureWalk::new(LocationKind::Value),
        &mut collector,
    );
    findings.images
}

/// Runs all finders over one document. The order matters: a location counts once, for the first
/// finder that adds it, so the one with the highest confidence goes first.
fn find_images_in_document(document: &ManifestDocument, collector: &mut ImageCollector) {
    let value = &document.value;
    pods::find_images_in_pods(value, collector);
    containers::find_images_in_containers(value, collector);
    metadata::find_images_in_metadata(value, collector);
    pods::visit_objects(value, &DocumentPath::default(), &mut |object, path| match object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "ConfigMap" | "Secret" => text::find_images_in_data(object, path, collector),
        "CustomResourceDefinition" => crds::find_default_images(object, collector),
        _ if api_groups::is_custom_group(api_group(object)) => {
            find_images_in_custom_resource(object, path, collector);
        }
        _ => {}
    });
}

/// Searches all fields of a custom resource except its metadata, which `metadata` searches.
fn find_images_in_custom_resource(
    object: &Value,
    path: &DocumentPath,
    collector: &mut ImageCollector,
) {
    let mut object = Cow::Borrowed(object);
    if positions::is_image_a_model(&object)
        && let Some(spec) = object.to_mut().get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.shift_remove("image");
    }
    for (key, value) in object.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            custom::find_images_in_structure(
                value,
                &path.key(key),
                &StructureWalk::new(LocationKind::CustomResource),
                collector,
            );
        }
    }
}
