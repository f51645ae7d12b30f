//! Parses the YAML that helm rendered into Kubernetes objects, and finds the pod specifications in
//! them. The rest of this module works on these objects.

use crate::Result;
use chart::manifest::{ManifestDocument, Manifests};
use cluster::ObjectId;
use serde_json::Value;
use types::pod_kinds::list_objects;

/// How deep pod specifications are searched in an object. CronJobs have theirs at a depth of 5;
/// custom resources nest more, but a bound keeps hostile input from exhausting the stack.
const DEEPEST: usize = 24;

/// One object of a release: its identity and its whole content.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RenderedObject {
    pub(crate) id: ObjectId,
    pub(crate) value: Value,
}

/// Parses a stream of YAML documents. Objects that name no namespace get `namespace`.
///
/// # Errors
/// A document that is not valid YAML or not a Kubernetes object.
pub(crate) fn read_objects(stream: &str, namespace: &str) -> Result<Vec<RenderedObject>> {
    let manifests = Manifests::read(stream);
    if let Some(unread) = manifests.unread.first() {
        return Err(chart::Error::Unread {
            template: unread.template.clone().unwrap_or_else(|| "a document".to_owned()),
            line: unread.line,
            fault: unread.reason.clone(),
        }
        .into());
    }
    let mut objects = Vec::new();
    for ManifestDocument { value, .. } in manifests.documents {
        for object in list_objects(&value) {
            let id = ObjectId::from_manifest(object, namespace)?;
            objects.push(RenderedObject { id, value: object.clone() });
        }
    }
    Ok(objects)
}

/// Finds the pod specifications in an object. Custom resources are searched as well, so a pod is
/// any map that has a list of containers with images.
pub(super) fn find_pod_specs(value: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    collect_pod_specs(value, DEEPEST, &mut found);
    found
}

fn collect_pod_specs<'a>(value: &'a Value, depth: usize, found: &mut Vec<&'a Value>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Object(fields) => {
            let containers = fields.get("containers").and_then(Value::as_array);
            if containers.is_some_and(|all| all.iter().any(|one| one.get("image").is_some())) {
                found.push(value);
                return;
            }
            for inner in fields.values() {
                collect_pod_specs(inner, depth - 1, found);
            }
        }
        Value::Array(items) => {
            for inner in items {
                collect_pod_specs(inner, depth - 1, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn objects_are_read_with_their_namespace_and_their_pods() {
        let stream = "kind: CronJob\napiVersion: batch/v1\nmetadata: {name: a}\nspec: {jobTemplate: {spec: \
            {template: {spec: {containers: [{image: x}]}}}}}\n---\nkind: List\napiVersion: v1\nitems:\n\
            - {kind: ConfigMap, apiVersion: v1, metadata: {name: b, namespace: other}}\n";

        let objects = read_objects(stream, "own").unwrap();

        assert_eq!(objects[0].id.to_string(), "CronJob own/a");
        assert_eq!(objects[1].id.to_string(), "ConfigMap other/b");
        assert_eq!(find_pod_specs(&objects[0].value).len(), 1);
        assert!(find_pod_specs(&objects[1].value).is_empty());
    }
}
