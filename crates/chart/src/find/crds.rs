//! Images that a CustomResourceDefinition has as defaults: the API server fills them in where a
//! resource does not set the field.

use serde_json::Value;

use super::findings::{Confidence, ImageCollector, LocationKind};
use super::names;
use crate::path::DocumentPath;
use crate::reference_shape::ReferenceShape;

/// Finds the defaults in the schemas of a CustomResourceDefinition.
pub(crate) fn find_default_images(document: &Value, collector: &mut ImageCollector) {
    let spec = document.get("spec");
    let versions = spec.and_then(|spec| spec.get("versions")).and_then(Value::as_array);
    for (index, version) in versions.into_iter().flatten().enumerate() {
        let Some(schema) = version.get("schema").and_then(|s| s.get("openAPIV3Schema")) else {
            continue;
        };
        let path = DocumentPath::default().key("spec").key("versions").index(index);
        find_images_in_schema("", schema, &path.key("schema").key("openAPIV3Schema"), collector);
    }
}

/// Searches one schema and all schemas below it. `name` is the key that the schema describes.
fn find_images_in_schema(
    name: &str,
    schema: &Value,
    path: &DocumentPath,
    collector: &mut ImageCollector,
) {
    if let Some(default) = schema.get("default").and_then(Value::as_str) {
        let shape = if names::is_image_key(name) {
            ReferenceShape::TaggedWord
        } else {
            ReferenceShape::Full
        };
        let path = path.key("default");
        collector.add_optional_image(
            path,
            default,
            shape,
            LocationKind::CrdDefault,
            Confidence::Possible,
        );
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, property) in properties.into_iter().flatten() {
        find_images_in_schema(key, property, &path.key("properties").key(key), collector);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(inner) {
            find_images_in_schema(name, schema, &path.key(inner), collector);
        }
    }
}
