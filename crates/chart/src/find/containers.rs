//! Images in the arguments, commands and environment of containers. Operators and CI runners get
//! the images that they start this way, so the confidence is `Likely`.

use serde_json::Value;

use super::findings::{Confidence, ImageCollector, LocationKind, ReferencePart};
use super::walk::StructureWalk;
use super::{compose, names, pods, positions, text};
use crate::path::{DocumentPath, TextEncoding};
use crate::reference_shape::{self, ReferenceShape};

/// Finds the images in arguments, commands and environments of the pods in a document.
pub(crate) fn find_images_in_containers(document: &Value, collector: &mut ImageCollector) {
    pods::visit_all_containers(document, &mut |container, path| {
        for list in ["command", "args"] {
            if let Some(items) = container.get(list).and_then(Value::as_array) {
                find_images_in_arguments(items, &path.key(list), Confidence::Likely, collector);
            }
        }
        if let Some(items) = container.get("env").and_then(Value::as_array) {
            find_images_in_environment(items, &path.key("env"), Confidence::Likely, collector);
        }
    });
}

/// Finds the images in a list of arguments: `--x-image=IMAGE`, `--x-image IMAGE` (one argument or
/// two), `--images=a=IMAGE,b=IMAGE`, and scripts.
pub(crate) fn find_images_in_arguments(
    items: &[Value],
    path: &DocumentPath,
    sure: Confidence,
    collector: &mut ImageCollector,
) {
    let mut flag_before: Option<&str> = None;
    for (index, item) in items.iter().enumerate() {
        let Some(text) = item.as_str() else { continue };
        let path = path.index(index);
        // More than a flag and its value: a script of `sh -c`, or a configuration file.
        if text.contains('\n') || text.split_whitespace().count() > 2 {
            text::find_images_in_text(
                text,
                &path,
                &StructureWalk::new(LocationKind::Argument),
                collector,
            );
            flag_before = None;
            continue;
        }
        // `KEY=IMAGE` without a dash is no flag; it is searched as a map below.
        let (name, value) = match text.split_once(['=', ' ']) {
            Some((name, value)) if name.starts_with('-') => (Some(name), value),
            _ => (None, text),
        };
        let flag = name.or(flag_before).unwrap_or_default();
        let says_image = names::is_image_key(flag);
        let sure = sure.min(Confidence::Likely);
        if !positions::is_without_images(flag) {
            find_images_in_argument(
                value,
                text.len() == value.len(),
                says_image,
                &path,
                sure,
                collector,
            );
        }
        // `--x-image` alone: the value is the next argument.
        let is_flag = text.starts_with('-') && name.is_none();
        flag_before = is_flag.then_some(text);
    }
}

/// Finds the images in the value of one argument. `is_whole` says that the argument is nothing but
/// this value, `says_image` that the flag names an image, which lets shorter references count.
fn find_images_in_argument(
    value: &str,
    is_whole: bool,
    says_image: bool,
    path: &DocumentPath,
    sure: Confidence,
    collector: &mut ImageCollector,
) {
    let shape = if says_image { ReferenceShape::TaggedWord } else { ReferenceShape::Full };
    let at = |is_whole: bool| if is_whole { path.clone() } else { path.inside(TextEncoding::Text) };
    if reference_shape::parse_image(value).is_some_and(|(_, found)| found >= shape)
        && (says_image || reference_shape::has_image_shape(value))
    {
        collector.add_optional_image(at(is_whole), value, shape, LocationKind::Argument, sure);
        return;
    }
    // A map in one argument, `k=IMAGE,k=IMAGE`.
    for entry in value.split(',').filter(|_| value.contains(['=', ','])) {
        let (key, image) = entry.split_once('=').unwrap_or(("", entry));
        let says_image = says_image || names::is_image_key(key);
        let shape = if says_image { ReferenceShape::TaggedWord } else { ReferenceShape::Full };
        if says_image || reference_shape::has_image_shape(image) {
            collector.add_optional_image(at(false), image, shape, LocationKind::Argument, sure);
        }
    }
}

/// Finds the images in a list of environment variables.
pub(crate) fn find_images_in_environment(
    items: &[Value],
    path: &DocumentPath,
    sure: Confidence,
    collector: &mut ImageCollector,
) {
    // Name and tag may be two variables, so all variables are searched as one map as well.
    let mut variables = serde_json::Map::new();
    let mut places: Vec<(String, DocumentPath)> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let name = item.get("name").and_then(Value::as_str);
        let value = item.get("value").and_then(Value::as_str);
        if let (Some(name), Some(value)) = (name, value)
            && !positions::is_without_images(name)
        {
            variables.insert(name.to_owned(), Value::String(value.to_owned()));
            places.push((name.to_owned(), path.index(index).key("value")));
        }
    }
    let walk = StructureWalk::new(LocationKind::Environment);
    for (name, path) in &places {
        let Some(value) = variables.get(name).and_then(Value::as_str) else { continue };
        let says_image = names::is_image_key(name);
        let shape = if says_image { ReferenceShape::TaggedWord } else { ReferenceShape::Full };
        if says_image || reference_shape::has_image_shape(value) {
            let found = collector.add_optional_image(
                path.clone(),
                value,
                shape,
                LocationKind::Environment,
                sure,
            );
            if found.is_some() {
                continue;
            }
        }
        if value.contains(['\n', '{', ' ', '=']) {
            text::find_images_in_text(value, path, &walk, collector);
        }
    }
    // The composed parts have the variable's name as path; they get that of its value in the list.
    let root = DocumentPath::default();
    let mut all = compose::compose_images(&variables, &root, false);
    let taken: Vec<&DocumentPath> =
        all.iter().flat_map(|c| c.parts.iter().map(|p| &p.path)).collect();
    let repositories = compose::find_repositories(&variables, &root, &taken);
    all.extend(repositories);
    for composed in all {
        let is_env = |part: &ReferencePart| {
            let name = part.path.last_key()?;
            let (_, path) = places.iter().find(|(known, _)| known == name)?;
            let inside = part.path.steps().iter().skip(1).cloned().collect();
            Some(ReferencePart { path: path.join(&inside), ..part.clone() })
        };
        let parts: Vec<ReferencePart> = composed.parts.iter().filter_map(is_env).collect();
        collector.add_composed_image(composed.reference, parts, LocationKind::Environment, sure);
    }
}
