//! Images in structures without a known schema: custom resources, annotations, documents in
//! ConfigMaps, and a chart's values. A field counts as an image if its key says so (`baseImage`),
//! if its content has the shape of a full reference (`ghcr.io/org/app:1`), if several fields of a
//! map compose one, or if it is the `image` of something that looks like a container.
//!
//! # Example
//!
//! ```yaml
//! apiVersion: x.example/v1
//! kind: App
//! spec:
//!   mesh: {hub: docker.io/istio, tag: "1.27", proxy: {image: proxyv2}}
//!   worker: {repository: quay.io/org/worker, tag: "2"}
//!   baseImage: redis:7
//!   sidecars:
//!   - {name: log, image: busybox, args: [--init-image=alpine:3]}
//!   note: see ghcr.io/org/tool:5
//! ```
//!
//! 1. `spec.mesh`: `hub` and `tag` alone compose no image, since there is no name. They are handed
//!    down to the maps inside.
//! 2. `spec.mesh.proxy.image` has a key that names an image, and a bare word as content. With the
//!    inherited parts it is `docker.io/istio/proxyv2:1.27`, made of `spec.mesh.hub`,
//!    `spec.mesh.proxy.image` and `spec.mesh.tag`.
//! 3. `spec.worker`: `repository` and `tag` have the same (empty) stem and compose
//!    `quay.io/org/worker:2`. Both fields are used up and not searched again.
//! 4. `spec.baseImage` has a key that names an image, so a short reference is enough:
//!    `docker.io/library/redis:7`.
//! 5. `spec.sidecars[0]` has `image` beside `name` and `args`, so it looks like a container. Only
//!    there a bare word without anything inherited counts: `docker.io/library/busybox:latest`. Its
//!    `args` are searched as those of a pod's container: `docker.io/library/alpine:3`.
//! 6. The key `spec.note` says nothing. Its content has blanks, so it is searched word by word,
//!    where only a full reference counts: `ghcr.io/org/tool:5` at `spec.note|text|`.
//!
//! All six are `Likely`: an operator will probably start them, but no pod names them.

use serde_json::{Map, Value};

use super::compose;
use super::findings::{Confidence, ImageCollector};
use super::walk::StructureWalk;
use super::{containers, names, positions, text};
use crate::path::{DEEPEST_NESTING, DocumentPath};
use crate::reference_shape::{self, ReferenceShape};

/// Finds the images in a structure.
pub(crate) fn find_images_in_structure(
    value: &Value,
    path: &DocumentPath,
    walk: &StructureWalk,
    collector: &mut ImageCollector,
) {
    if walk.depth > DEEPEST_NESTING {
        return;
    }
    match value {
        Value::Object(map) => find_images_in_map(map, path, walk, collector),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_images_in_structure(
                    item,
                    &path.index(index),
                    &walk.one_level_deeper(),
                    collector,
                );
            }
        }
        Value::String(string) => find_images_in_string(string, path, walk, collector),
        _ => {}
    }
}

/// Searches a map: first for images that its fields compose, then field by field.
fn find_images_in_map(
    map: &Map<String, Value>,
    path: &DocumentPath,
    walk: &StructureWalk,
    collector: &mut ImageCollector,
) {
    let mut composed = compose::compose_images(map, path, walk.is_image);
    let parts: Vec<&DocumentPath> =
        composed.iter().flat_map(|c| c.parts.iter().map(|p| &p.path)).collect();
    let repositories = compose::find_repositories(map, path, &parts);
    composed.extend(repositories);
    // The parts of a composed image are no images by themselves.
    let taken: Vec<&DocumentPath> =
        composed.iter().flat_map(|c| c.parts.iter().map(|p| &p.path)).collect();
    let above = walk.above.inherit_from(map, path);
    for (key, value) in map {
        let path = path.key(key);
        if names::is_example_key(key) || positions::is_without_images(key) || taken.contains(&&path)
        {
            continue;
        }
        // `images: {default: org/app:1}`: below a plural, each key is a name of an image.
        let is_image = names::is_image_key(key) || walk.is_image_map && value.is_string();
        let is_image_map = is_image && names::is_plural_image_key(key);
        let below = StructureWalk {
            above: above.clone(),
            is_image,
            is_image_map,
            ..walk.one_level_deeper()
        };
        match (key.as_str(), value) {
            ("args" | "command", Value::Array(items)) => {
                containers::find_images_in_arguments(items, &path, Confidence::Likely, collector);
            }
            ("env", Value::Array(items)) => {
                containers::find_images_in_environment(items, &path, Confidence::Likely, collector);
            }
            ("image", Value::String(name)) if looks_like_container(map) => {
                // A container of Istio's injector inherits hub and tag; any other is complete.
                match above.compose_image(&path, name) {
                    Some((reference, parts)) if is_bare_name(name) => {
                        collector.add_composed_image(
                            reference,
                            parts,
                            walk.pattern,
                            Confidence::Likely,
                        );
                    }
                    _ => {
                        let shape = ReferenceShape::Word;
                        collector.add_optional_image(
                            path,
                            name,
                            shape,
                            walk.pattern,
                            Confidence::Likely,
                        );
                    }
                }
            }
            _ => find_images_in_structure(value, &path, &below, collector),
        }
    }
    for composed in composed {
        collector.add_composed_image(
            composed.reference,
            composed.parts,
            walk.pattern,
            Confidence::Likely,
        );
    }
}

/// Searches a string: as an image if the key or its shape says so, else as a text with images in
/// it.
fn find_images_in_string(
    string: &str,
    path: &DocumentPath,
    walk: &StructureWalk,
    collector: &mut ImageCollector,
) {
    if walk.is_image {
        if is_bare_name(string)
            && let Some((reference, parts)) = walk.above.compose_image(path, string)
        {
            collector.add_composed_image(reference, parts, walk.pattern, Confidence::Likely);
            return;
        }
        let shape = ReferenceShape::TaggedWord;
        let found = collector.add_optional_image(
            path.clone(),
            string,
            shape,
            walk.pattern,
            Confidence::Likely,
        );
        if found.is_some() {
            return;
        }
    }
    if reference_shape::has_image_shape(string) {
        collector.add_optional_image(
            path.clone(),
            string,
            ReferenceShape::Full,
            walk.pattern,
            Confidence::Likely,
        );
    } else if string.contains(['\n', '{', ' ', '=']) {
        text::find_images_in_text(string, path, walk, collector);
    }
}

/// Whether a name has neither registry nor tag, so that inherited parts may complete it.
fn is_bare_name(name: &str) -> bool {
    matches!(reference_shape::parse_image(name), Some((_, ReferenceShape::Word)))
}

/// Whether a map with an `image` also has fields of a container; then a bare word is an image too.
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
    // Fields of an image to be composed (gpu-operator, Istio); composing it failed, so the name alone
    // is not an image.
    const PARTS: &[&str] = &["repository", "registry", "hub", "tag"];
    if PARTS.iter().any(|part| map.contains_key(*part)) {
        return false;
    }
    // `{name: x, image: y}` with at most one more field is a short form of a container.
    BESIDE.iter().any(|key| map.contains_key(*key)) || map.contains_key("name") && map.len() <= 3
}
