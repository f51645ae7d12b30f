//! Images in texts: the data of ConfigMaps and Secrets, scripts, and documents inside documents.
//! Base64 is decoded; JSON, YAML, TOML and INI are parsed and searched by `custom`, so that a name
//! and a tag in separate fields are found together; everything else is read word by word.

use serde_json::{Map, Value};

use super::findings::{Confidence, ImageCollector, LocationKind};
use super::walk::StructureWalk;
use super::{custom, names, pods};
use crate::edit::embedded::{decode_base64, detect_structure};
use crate::path::{DocumentPath, PathStep, TextEncoding};
use crate::reference_shape::{self, ReferenceShape};
use crate::words::split_text_words;

/// How many encodings inside each other are decoded: base64 of a Secret, YAML in it, JSON in that,
/// and one more.
const DEEPEST: usize = 4;
/// The longest text that is searched. etcd rejects objects beyond 1.5 MiB, so a longer text can
/// only be in a stream that no cluster accepts.
const LONGEST: usize = 4 << 20;

/// Finds the images in the data of a ConfigMap or Secret.
pub(crate) fn find_images_in_data(
    object: &Value,
    path: &DocumentPath,
    collector: &mut ImageCollector,
) {
    let is_secret = object.get("kind").and_then(Value::as_str) == Some("Secret");
    for (field, is_base64) in [("data", is_secret), ("stringData", false), ("binaryData", true)] {
        let Some(data) = object.get(field).and_then(Value::as_object) else { continue };
        let path = path.key(field);
        let mut plain = Map::new();
        for (key, value) in data {
            let Some(text) = value.as_str().filter(|_| !names::is_example_key(key)) else {
                continue;
            };
            if !is_base64 {
                plain.insert(key.clone(), Value::String(text.to_owned()));
            } else if let Some(text) = decode_base64(text) {
                plain.insert(key.clone(), Value::String(text));
            }
        }
        // The decoded entries are searched as one map, since a name and its tag may be two entries.
        // The paths are corrected afterwards.
        let root = DocumentPath::default();
        let walk = StructureWalk::new(LocationKind::Text);
        let before = collector.len();
        custom::find_images_in_structure(&Value::Object(plain), &root, &walk, collector);
        collector.move_images_below(before, &path, is_base64);
    }
}

/// Finds the images in one text, whatever its format.
pub(crate) fn find_images_in_text(
    text: &str,
    path: &DocumentPath,
    walk: &StructureWalk,
    collector: &mut ImageCollector,
) {
    // Each encoding is a step of the path, so their number is the depth.
    let opened = path.steps().iter().filter(|s| matches!(s, PathStep::Inside(_))).count();
    if text.len() > LONGEST || opened >= DEEPEST || !may_hold_images(text) {
        return;
    }
    match detect_structure(text) {
        Some((encoding, documents)) => {
            let path = path.inside(encoding);
            match documents.as_slice() {
                // Only a stream of several documents has an index in the path.
                [document] => find_images_in_embedded_document(document, &path, walk, collector),
                many => {
                    for (index, document) in many.iter().enumerate() {
                        find_images_in_embedded_document(
                            document,
                            &path.index(index),
                            walk,
                            collector,
                        );
                    }
                }
            }
        }
        None => find_images_in_words(text, &path.inside(TextEncoding::Text), walk, collector),
    }
}

/// Whether a text is worth parsing: a key in it may name an image, or one of its words is an image.
fn may_hold_images(text: &str) -> bool {
    names::may_name_images(text)
        || split_text_words(text)
            .any(|(_, word)| reference_shape::has_image_shape(trim_punctuation(word)))
}

/// Searches one document inside a text. It may itself be a Kubernetes object, such as the pod
/// template that a CI runner starts its jobs from.
fn find_images_in_embedded_document(
    document: &Value,
    path: &DocumentPath,
    walk: &StructureWalk,
    collector: &mut ImageCollector,
) {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    if let Some(to_spec) = pods::pod_spec_path(kind)
        && let Some(spec) = to_spec.find_value(document)
    {
        pods::find_images_in_pod_spec(spec, &path.join(&to_spec), Confidence::Likely, collector);
    }
    custom::find_images_in_structure(document, path, &StructureWalk::new(walk.pattern), collector);
}

/// Searches a text word by word for complete references, and for shorter ones after a word that
/// names an image (`--image app:1`). Comment lines are skipped.
fn find_images_in_words(
    text: &str,
    path: &DocumentPath,
    walk: &StructureWalk,
    collector: &mut ImageCollector,
) {
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) || line.starts_with("//") {
            continue;
        }
        let mut before = "";
        for (_, word) in split_text_words(line) {
            let word = trim_punctuation(word);
            // `image: x`, `--image x` and `$IMAGE x` name the same key.
            let key = before.trim_end_matches(':').trim_start_matches(['-', '$']);
            let says_image = names::is_image_key(key);
            if reference_shape::has_image_shape(word) {
                collector.add_optional_image(
                    path.clone(),
                    word,
                    ReferenceShape::Full,
                    walk.pattern,
                    Confidence::Likely,
                );
            } else if says_image {
                let shape = ReferenceShape::TaggedPath;
                collector.add_optional_image(
                    path.clone(),
                    word,
                    shape,
                    walk.pattern,
                    Confidence::Likely,
                );
            }
            before = word;
        }
    }
}

/// A word without the punctuation that ends a sentence or a line of a shell script.
fn trim_punctuation(word: &str) -> &str {
    word.trim_end_matches(['.', ':', '\\'])
}
