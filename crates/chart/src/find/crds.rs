//! Images that a CustomResourceDefinition has as defaults: the API server fills them in where a
//! resource does not set the field.

use serde_json::Value;

use super::found::{Collector, Confidence, Pattern};
use super::names;
use crate::form::Shape;
use crate::path::Path;

/// Finds the defaults in the schemas of a CustomResourceDefinition.
pub(crate) fn find(document: &Value, collector: &mut Collector) {
    let spec = document.get("spec");
    let versions = spec.and_then(|spec| spec.get("versions")).and_then(Value::as_array);
    for (index, version) in versions.into_iter().flatten().enumerate() {
        let Some(schema) = version.get("schema").and_then(|s| s.get("openAPIV3Schema")) else {
            continue;
        };
        let path = Path::default().key("spec").key("versions").index(index);
        in_schema("", schema, &path.key("schema").key("openAPIV3Schema"), collector);
    }
}

/// Searches one schema and all schemas below it. `name` is the key that the schema describes.
fn in_schema(name: &str, schema: &Value, path: &Path, collector: &mut Collector) {
    if let Some(default) = schema.get("default").and_then(Value::as_str) {
        let shape = if names::is_image(name) { Shape::TaggedWord } else { Shape::Full };
        let path = path.key("default");
        collector.maybe(path, default, shape, Pattern::CrdDefault, Confidence::Possible);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, property) in properties.into_iter().flatten() {
        in_schema(key, property, &path.key("properties").key(key), collector);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(inner) {
            in_schema(name, schema, &path.key(inner), collector);
        }
    }
}
