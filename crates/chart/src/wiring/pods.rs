//! The pods of a render with their containers, from all kinds of objects that have a pod template.
//! The other files of this module look at containers only through this.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::find::pods;
use crate::manifest::Manifests;
use crate::path::DocumentPath;

/// Where a container or the spec of a pod is: the number of the document, and the path in it.
pub(super) type SpecLocation = (usize, DocumentPath);

/// A pod: an object of a render with the spec of its pod template.
#[derive(Debug, Clone)]
pub(super) struct RenderedPod<'a> {
    /// Where the spec is.
    pub(super) spot: SpecLocation,
    /// The whole object: a Deployment, say.
    pub(super) object: &'a Value,
    pub(super) spec: &'a Value,
    /// Whether helm runs the object as a hook.
    pub(super) is_hook: bool,
    /// Its containers, init containers included.
    pub(super) containers: Vec<RenderedContainer<'a>>,
}

/// A container of a pod.
#[derive(Debug, Clone)]
pub(super) struct RenderedContainer<'a> {
    pub(super) spot: SpecLocation,
    pub(super) value: &'a Value,
}

impl RenderedContainer<'_> {
    /// The container's name.
    pub(super) fn name(&self) -> &str {
        text_field(self.value, "name")
    }
}

impl RenderedPod<'_> {
    /// The object as reports name it: `Deployment web`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", text_field(self.object, "kind"), self.name())
    }

    /// The object's name.
    pub(super) fn name(&self) -> &str {
        self.object.get("metadata").map(|metadata| text_field(metadata, "name")).unwrap_or_default()
    }

    /// The namespace that the object names; `None` where it is the release's.
    pub(super) fn namespace(&self) -> Option<&str> {
        let metadata = self.object.get("metadata")?;
        Some(text_field(metadata, "namespace")).filter(|namespace| !namespace.is_empty())
    }

    /// One of its containers as reports name it: `Deployment web, container app`.
    pub(super) fn describe_container(&self, container: &RenderedContainer) -> String {
        format!("{}, container {}", self.title(), container.name())
    }
}

/// All pods of a render.
pub(super) fn find_pods(manifests: &Manifests) -> Vec<RenderedPod<'_>> {
    let mut found = Vec::new();
    for (index, document) in manifests.documents.iter().enumerate() {
        pods::visit_objects(&document.value, &DocumentPath::default(), &mut |object, path| {
            let Some(to_spec) = pods::pod_spec_path(text_field(object, "kind")) else { return };
            let Some(spec) = to_spec.find_value(object) else { return };
            let path = path.join(&to_spec);
            let mut containers = Vec::new();
            pods::visit_containers(spec, &path, &mut |value, path| {
                containers.push(RenderedContainer { spot: (index, path.clone()), value });
            });
            let is_hook = document.is_hook();
            found.push(RenderedPod { spot: (index, path), object, spec, is_hook, containers });
        });
    }
    found
}

/// The text of a field; empty if there is none.
pub(super) fn text_field<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list field; none if there is no list.
pub(super) fn list_field<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The names of the ConfigMaps whose keys a container takes as variables (`envFrom`). Those with a
/// prefix are left out, since their keys are not the variables' names.
pub(super) fn config_maps_in_env_from(container: &Value) -> BTreeSet<&str> {
    let plain =
        list_field(container, "envFrom").filter(|from| text_field(from, "prefix").is_empty());
    plain.filter_map(|from| from.get("configMapRef")?.get("name")?.as_str()).collect()
}
