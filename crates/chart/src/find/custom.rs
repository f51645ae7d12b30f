//! Images in custom resources, and in every other structure that is no pod: any field that names an
//! image by its key or by its form, maps whose values make one up, containers at any depth. What
//! is found here an operator will start.

use serde_json::{Map, Value};

use super::compose::{self, Above};
use super::found::{Collector, Confidence, Pattern};
use super::{containers, names, text};
use crate::form::{self, Shape};
use crate::path::Path;

/// Groups of Kubernetes itself; their fields are known and hold images in pods only.
const BUILT_IN: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Documents nest finitely; a hostile one is not followed without end.
const DEEPEST: usize = 64;

/// Whether documents of this API group are custom resources.
pub(crate) fn is_custom(group: &str) -> bool {
    !BUILT_IN.contains(&group)
}

/// What a walk through a structure carries along.
#[derive(Clone)]
pub(crate) struct Walk {
    /// What the finds are called.
    pub(crate) pattern: Pattern,
    above: Above,
    /// Whether the nearest key names an image.
    is_image: bool,
    depth: usize,
}

impl Walk {
    pub(crate) fn new(pattern: Pattern) -> Self {
        Self { pattern, above: Above::default(), is_image: false, depth: 0 }
    }

    fn deeper(&self) -> Self {
        Self { depth: self.depth + 1, ..self.clone() }
    }
}

/// Finds the images in a structure.
pub(crate) fn find(value: &Value, path: &Path, walk: &Walk, collector: &mut Collector) {
    if walk.depth > DEEPEST {
        return;
    }
    match value {
        Value::Object(map) => in_map(map, path, walk, collector),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find(item, &path.index(index), &walk.deeper(), collector);
            }
        }
        Value::String(string) => in_string(string, path, walk, collector),
        _ => {}
    }
}

fn in_map(map: &Map<String, Value>, path: &Path, walk: &Walk, collector: &mut Collector) {
    let composed = compose::images(map, path, walk.is_image);
    let taken: Vec<&Path> = composed.iter().flat_map(|c| c.parts.iter().map(|p| &p.path)).collect();
    let above = walk.above.below(map, path);
    for (key, value) in map {
        let path = path.key(key);
        if names::is_example(key) || taken.contains(&&path) {
            continue;
        }
        let is_image = names::is_image(key);
        let below = Walk { above: above.clone(), is_image, ..walk.deeper() };
        match (key.as_str(), value) {
            ("args" | "command", Value::Array(items)) => {
                containers::arguments(items, &path, Confidence::Likely, collector);
            }
            ("env", Value::Array(items)) => {
                containers::environment(items, &path, Confidence::Likely, collector);
            }
            ("image", Value::String(name)) if looks_like_container(map) => {
                match above.compose(&path, name) {
                    Some((reference, parts)) if is_bare(name) => {
                        collector.composed(reference, parts, walk.pattern, Confidence::Likely);
                    }
                    _ => {
                        let shape = Shape::Word;
                        collector.maybe(path, name, shape, walk.pattern, Confidence::Likely);
                    }
                }
            }
            _ => find(value, &path, &below, collector),
        }
    }
    for composed in composed {
        collector.composed(composed.reference, composed.parts, walk.pattern, Confidence::Likely);
    }
}

fn in_string(string: &str, path: &Path, walk: &Walk, collector: &mut Collector) {
    if walk.is_image {
        if is_bare(string)
            && let Some((reference, parts)) = walk.above.compose(path, string)
        {
            collector.composed(reference, parts, walk.pattern, Confidence::Likely);
            return;
        }
        let shape = Shape::TaggedWord;
        let found = collector.maybe(path.clone(), string, shape, walk.pattern, Confidence::Likely);
        if found.is_some() {
            return;
        }
    }
    if form::is_image_by_form(string) {
        collector.maybe(path.clone(), string, Shape::Full, walk.pattern, Confidence::Likely);
    } else if string.contains(['\n', '{', ' ', '=']) {
        text::find(string, path, walk, collector);
    }
}

/// A name without registry and tag, which something above completes.
fn is_bare(name: &str) -> bool {
    matches!(form::image(name), Some((_, Shape::Word)))
}

/// A map with an `image` beside what containers have: then also a bare word is an image.
fn looks_like_container(map: &Map<String, Value>) -> bool {
    const BESIDE: &[&str] = &[
        "args",
        "command",
        "env",
        "envFrom",
        "imagePullPolicy",
        "lifecycle",
        "livenessProbe",
        "ports",
        "resources",
        "securityContext",
        "source",
        "volumeMounts",
    ];
    // An operator that puts repository, image and version together has got none of them here.
    if map.contains_key("repository") || map.contains_key("registry") {
        return false;
    }
    BESIDE.iter().any(|key| map.contains_key(*key)) || map.contains_key("name") && map.len() <= 3
}
