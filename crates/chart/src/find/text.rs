//! Images in texts: the data of ConfigMaps and Secrets, scripts, and documents inside documents.
//! Base64 is decoded; JSON, YAML, TOML and INI are parsed and searched by `custom`, so that a name
//! and a tag in separate fields are found together; everything else is read word by word.

use std::borrow::Cow;

use base64::Engine as _;
use serde_json::{Map, Value};

use super::custom::{self, StructureWalk};
use super::findings::{Confidence, ImageCollector, LocationKind};
use super::{names, pods};
use crate::manifest;
use crate::path::{DocumentPath, PathStep, TextEncoding};
use crate::reference_shape::{self, ReferenceShape};

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

/// Decodes base64 with or without line breaks; `None` if it is not base64 of UTF-8.
pub(crate) fn decode_base64(text: &str) -> Option<String> {
    let compact: String = text.split_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(compact).ok()?;
    String::from_utf8(bytes).ok()
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
        || text
            .split(is_word_separator)
            .any(|word| reference_shape::has_image_shape(trim_punctuation(word)))
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
        let to_spec =
            to_spec.steps().iter().fold(path.clone(), |path, step| path.then(step.clone()));
        pods::find_images_in_pod_spec(spec, &to_spec, Confidence::Likely, collector);
    }
    custom::find_images_in_structure(document, path, &StructureWalk::new(walk.pattern), collector);
}

/// The text at a path, decoding every encoding on the way: the inverse of the finders. `None` if
/// there is no text or number at this path.
pub(crate) fn resolve_text(document: &Value, path: &DocumentPath) -> Option<String> {
    let mut value = Cow::Borrowed(document);
    for step in path.steps() {
        value = match (step, value) {
            (PathStep::Key(key), Cow::Borrowed(value)) => Cow::Borrowed(value.get(key)?),
            (PathStep::Key(key), Cow::Owned(mut value)) => Cow::Owned(value.get_mut(key)?.take()),
            (PathStep::Index(index), Cow::Borrowed(value)) => Cow::Borrowed(value.get(index)?),
            (PathStep::Index(index), Cow::Owned(mut value)) => {
                Cow::Owned(value.get_mut(index)?.take())
            }
            (PathStep::Inside(encoding), value) => open_encoding(*encoding, value.as_str()?)?,
        };
    }
    match value.as_ref() {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Decodes a text as the path says.
fn open_encoding(encoding: TextEncoding, text: &str) -> Option<Cow<'static, Value>> {
    Some(Cow::Owned(match encoding {
        TextEncoding::Base64 => Value::String(decode_base64(text)?),
        TextEncoding::Text => Value::String(text.to_owned()),
        TextEncoding::Json | TextEncoding::Yaml | TextEncoding::Toml | TextEncoding::Ini => {
            parse_embedded(text)?.1
        }
    }))
}

/// Parses the document in a text; several documents become a list. `None` for plain text.
pub(crate) fn parse_embedded(text: &str) -> Option<(TextEncoding, Value)> {
    let (encoding, mut documents) = detect_structure(text)?;
    let value = match documents.len() {
        1 => documents.remove(0),
        _ => Value::Array(documents),
    };
    Some((encoding, value))
}

/// Detects the format of a text and parses it. `None` for plain text. There is no file name to go
/// by for most texts, so the content decides.
fn detect_structure(text: &str) -> Option<(TextEncoding, Vec<Value>)> {
    let trimmed = text.trim_start();
    if trimmed.starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str::<Value>(trimmed)
    {
        return Some((TextEncoding::Json, vec![value]));
    }
    // YAML takes nearly every single line for a string or, with a colon, for a map.
    if !text.contains('\n') && !trimmed.starts_with('{') {
        return None;
    }
    let has_section =
        text.lines().any(|line| line.starts_with('[') && line.trim_end().ends_with(']'));
    // `[section]` alone on a line is TOML or INI; as YAML it would be a list.
    if has_section {
        if let Ok(value) = toml::from_str::<Value>(text) {
            return Some((TextEncoding::Toml, vec![value]));
        }
        return Some((TextEncoding::Ini, vec![parse_ini(text)]));
    }
    // A shell script may happen to parse as YAML.
    if text.starts_with("#!") || !text.contains(':') {
        return parse_properties(text).map(|value| (TextEncoding::Ini, vec![value]));
    }
    let read = manifest::Manifests::read(text);
    let documents: Vec<Value> = read.documents.into_iter().map(|document| document.value).collect();
    let is_structure = |value: &Value| value.is_object() || value.is_array();
    if read.unread.is_empty() && !documents.is_empty() && documents.iter().all(is_structure) {
        return Some((TextEncoding::Yaml, documents));
    }
    parse_properties(text).map(|value| (TextEncoding::Ini, vec![value]))
}

/// Parses sections of `key = value` lines, as Python's configparser and Grafana read them.
fn parse_ini(text: &str) -> Value {
    let mut sections = Map::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            let entries =
                sections.entry(section.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Some(entries) = entries.as_object_mut() {
                entries.insert(key.trim().to_owned(), Value::String(strip_quotes(value)));
            }
        }
    }
    Value::Object(sections)
}

/// Parses lines of `key=value`, as in properties and env files; `None` if there is any other line.
fn parse_properties(text: &str) -> Option<Value> {
    let mut entries = Map::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';', '!']) {
            continue;
        }
        let (key, value) = line.split_once('=')?;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(is_name) {
            return None;
        }
        entries.insert(key.to_owned(), Value::String(strip_quotes(value)));
    }
    (!entries.is_empty()).then_some(Value::Object(entries))
}

/// A value without blanks and quotes around it.
fn strip_quotes(value: &str) -> String {
    value.trim().trim_matches(['"', '\'']).to_owned()
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
        for word in line.split(is_word_separator).filter(|word| !word.is_empty()) {
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

/// Whether a character separates words. Colon, slash, at sign and dot do not: they are part of
/// image references.
pub(crate) fn is_word_separator(letter: char) -> bool {
    matches!(
        letter,
        ' ' | '\n'
            | '\t'
            | '\r'
            | '"'
            | '\''
            | '`'
            | '='
            | ','
            | ';'
            | '('
            | ')'
            | '['
            | ']'
            | '{'
            | '}'
            | '<'
            | '>'
            | '|'
            | '&'
    ) || !letter.is_ascii() && letter.is_whitespace()
}
