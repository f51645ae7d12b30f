//! Visits the texts of a document.

use serde_json::Value;

use crate::edit::embedded::{decode_base64, parse_embedded};
use crate::find::positions;
use crate::manifest::ManifestDocument;
use crate::path::{DocumentPath, TextEncoding};

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

/// The most documents inside each other that are opened: base64, YAML in it, JSON in that, and one
/// more.
const DEEPEST: usize = 4;

/// Calls `visit` with each text of a document that may hold an image or the mention of one, and with
/// its path. The data of a Secret is decoded. Where a text that is wanted holds a document, the texts
/// in that are visited instead: nobody reads an image in a comment or a key of it, nor in the fields
/// that Kubernetes has for something else.
pub(crate) fn visit_texts_of_images(
    document: &ManifestDocument,
    is_wanted: &dyn Fn(&str) -> bool,
    visit: &mut dyn FnMut(&DocumentPath, &str),
) {
    let mut search = ImageTextSearch { document, is_wanted, visit };
    search.visit_document(&document.value, &DocumentPath::default(), 0);
}

/// The search of [`visit_texts_of_images`].
struct ImageTextSearch<'a> {
    document: &'a ManifestDocument,
    is_wanted: &'a dyn Fn(&str) -> bool,
    visit: &'a mut dyn FnMut(&DocumentPath, &str),
}

impl ImageTextSearch<'_> {
    /// Visits the texts of a document, which is at a path of the whole one.
    fn visit_document(&mut self, value: &Value, base: &DocumentPath, depth: usize) {
        visit_texts(value, &DocumentPath::default(), &mut |own, text, origin| {
            if origin == TextOrigin::Key {
                return;
            }
            let path = base.join(own);
            let decoded = decode_secret_data(self.document, &path, text);
            let (path, text) = match &decoded {
                Some(decoded) => (path.inside(TextEncoding::Base64), decoded.as_str()),
                None => (path, text),
            };
            if (self.is_wanted)(text) && !positions::is_place_without_images(value, own) {
                self.visit_text(text, &path, depth);
            }
        });
    }

    fn visit_text(&mut self, text: &str, path: &DocumentPath, depth: usize) {
        let embedded = if depth < DEEPEST { parse_embedded(text) } else { None };
        // Any text with a line in brackets counts as a file of sections, so all of it is visited.
        if matches!(embedded, None | Some((TextEncoding::Ini, _))) {
            (self.visit)(path, text);
        }
        if let Some((encoding, value)) = embedded {
            self.visit_document(&value, &path.inside(encoding), depth + 1);
        }
    }
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
