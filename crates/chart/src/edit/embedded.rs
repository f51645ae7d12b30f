//! Opens the document in a text: the base64 of a Secret, the JSON, YAML, TOML or INI of a ConfigMap.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{ini, toml};
use crate::manifest::Manifests;
use crate::path::{DocumentPath, PathStep, TextEncoding};

/// Decodes base64 with or without line breaks; `None` if it is not base64 of UTF-8.
pub(crate) fn decode_base64(text: &str) -> Option<String> {
    let compact: String = text.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(compact).ok()?).ok()
}

/// Encodes a text as the API server writes the data of a Secret: on one line.
pub(super) fn encode_base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// The text at a path, decoding every encoding on the way: the inverse of the finders. `None` if
/// there is no text or number at this path.
pub(crate) fn resolve_text(document: &Value, path: &DocumentPath) -> Option<String> {
    match follow_path(document, path.steps())?.as_ref() {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The value at the end of these steps, decoding every encoding on the way.
pub(crate) fn follow_path<'a>(document: &'a Value, steps: &[PathStep]) -> Option<Cow<'a, Value>> {
    let mut value = Cow::Borrowed(document);
    for step in steps {
        value = match (step, value) {
            (PathStep::Key(key), Cow::Borrowed(value)) => Cow::Borrowed(value.get(key)?),
            (PathStep::Key(key), Cow::Owned(mut value)) => Cow::Owned(value.get_mut(key)?.take()),
            (PathStep::Index(index), Cow::Borrowed(value)) => Cow::Borrowed(value.get(index)?),
            (PathStep::Index(index), Cow::Owned(mut value)) => {
                Cow::Owned(value.get_mut(index)?.take())
            }
            (PathStep::Inside(encoding), value) => {
                Cow::Owned(open_encoding(*encoding, value.as_str()?)?)
            }
        };
    }
    Some(value)
}

/// Decodes a text as the path says.
fn open_encoding(encoding: TextEncoding, text: &str) -> Option<Value> {
    Some(match encoding {
        TextEncoding::Base64 => Value::String(decode_base64(text)?),
        TextEncoding::Text => Value::String(text.to_owned()),
        TextEncoding::Json | TextEncoding::Yaml | TextEncoding::Toml | TextEncoding::Ini => {
            parse_embedded(text)?.1
        }
    })
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
pub(crate) fn detect_structure(text: &str) -> Option<(TextEncoding, Vec<Value>)> {
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
        return Some(match toml::parse_toml(text) {
            Some(value) => (TextEncoding::Toml, vec![value]),
            None => (TextEncoding::Ini, vec![ini::parse_sections(text)]),
        });
    }
    let parse_properties =
        || ini::parse_properties(text).map(|value| (TextEncoding::Ini, vec![value]));
    // A shell script may happen to parse as YAML.
    if text.starts_with("#!") || !text.contains(':') {
        return parse_properties();
    }
    let read = Manifests::read(text);
    let documents: Vec<Value> = read.documents.into_iter().map(|document| document.value).collect();
    let is_structure = |value: &Value| value.is_object() || value.is_array();
    if read.unread.is_empty() && !documents.is_empty() && documents.iter().all(is_structure) {
        return Some((TextEncoding::Yaml, documents));
    }
    parse_properties()
}
