//! Visits the texts of a document.

use serde_json::Value;

use crate::edit::embedded::decode_base64;
use crate::manifest::ManifestDocument;
use crate::path::DocumentPath;

/// Where a text is in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextOrigin {
    /// It is the key at the end of the path.
    Key,
    /// It is the value at the path.
    Value,
}

/// Calls `visit` with each key and each text below a value, and their paths.
pub(crate) fn visit_texts(
    value: &Value,
    path: &DocumentPath,
    visit: &mut impl FnMut(&DocumentPath, &str, TextOrigin),
) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = path.key(key);
                visit(&path, key, TextOrigin::Key);
                visit_texts(value, &path, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit_texts(item, &path.index(index), visit);
            }
        }
        Value::String(text) => visit(path, text, TextOrigin::Value),
        _ => {}
    }
}

/// Calls `visit` with each text of a document and its path. The data of a Secret is decoded.
pub(crate) fn visit_decoded_texts(
    document: &ManifestDocument,
    visit: &mut impl FnMut(&DocumentPath, &str),
) {
    visit_texts(&document.value, &DocumentPath::default(), &mut |path, text, origin| {
        if origin == TextOrigin::Value {
            match decode_secret_data(document, path, text) {
                Some(decoded) => visit(path, &decoded),
                None => visit(path, text),
            }
        }
    });
}

/// The content of a text at a path, if that is base64 in the data of a Secret.
pub(crate) fn decode_secret_data(
    document: &ManifestDocument,
    path: &DocumentPath,
    text: &str,
) -> Option<String> {
    let is_encoded = path.is_secret_data() && document.kind() == "Secret";
    if is_encoded { decode_base64(text) } else { None }
}
