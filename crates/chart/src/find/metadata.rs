//! Images in annotations, of the objects themselves and of their pod templates. Sidecar injectors
//! and operators read them there (`sidecar.istio.io/proxyImage`).

use serde_json::Value;

use super::findings::{ImageCollector, LocationKind};
use super::walk::StructureWalk;
use super::{custom, pods};
use crate::path::DocumentPath;

/// Annotations that only describe the object; no program starts an image because of them.
const DESCRIPTIONS: &[&str] = &["checksum/", "artifacthub.io/", "meta.helm.sh/"];

/// Finds the images in the annotations of a document.
pub(crate) fn find_images_in_metadata(document: &Value, collector: &mut ImageCollector) {
    pods::visit_objects(document, &DocumentPath::default(), &mut |object, path| {
        find_images_in_annotations(object, path, collector);
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let Some(to_spec) = pods::pod_spec_path(kind).filter(|_| kind != "Pod") else { return };
        let to_pod = to_spec.parent();
        if let Some(pod) = to_pod.find_value(object) {
            find_images_in_annotations(pod, &path.join(&to_pod), collector);
        }
    });
}

/// Searches the annotations of one object or pod template.
fn find_images_in_annotations(object: &Value, path: &DocumentPath, collector: &mut ImageCollector) {
    let annotations = object.get("metadata").and_then(|metadata| metadata.get("annotations"));
    let Some(annotations) = annotations.and_then(Value::as_object) else { return };
    let path = path.key("metadata").key("annotations");
    let acted_on: serde_json::Map<String, Value> = annotations
        .iter()
        .filter(|(key, _)| !DESCRIPTIONS.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    custom::find_images_in_structure(
        &Value::Object(acted_on),
        &path,
        &StructureWalk::new(LocationKind::Annotation),
        collector,
    );
}
