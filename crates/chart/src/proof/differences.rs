//! The differences between two rendered documents, leaf by leaf. Texts that hold YAML, JSON or
//! base64 (ConfigMaps, Secrets) are opened, so that one changed key inside is one difference and
//! not a whole file. Used by the proofs of `prove` and of `crate::wiring`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::edit::embedded::{decode_base64, parse_embedded};
use crate::path::{DocumentPath, TextEncoding};
use crate::taint::indexed_render::IndexedRender;

/// A leaf that differs. A side is `None` where the document does not have the leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeafDifference {
    pub(crate) path: DocumentPath,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

/// All differences between two versions of a document. Lists of different lengths are one
/// difference as a whole.
pub(crate) fn find_differences(before: &Value, after: &Value) -> Vec<LeafDifference> {
    let is_secret = before.get("kind").and_then(Value::as_str) == Some("Secret");
    let mut found = Vec::new();
    compare_values(Some(before), Some(after), &DocumentPath::default(), is_secret, &mut found);
    found
}

/// The leaves (document number and path) that differ between two renders of the same values.
pub(crate) fn find_volatile_leaves(
    one: &IndexedRender,
    other: &IndexedRender,
) -> BTreeSet<(usize, DocumentPath)> {
    let mut found = BTreeSet::new();
    for (index, document) in one.manifests.documents.iter().enumerate() {
        let Some(same) = other.find_same_document(one, index) else { continue };
        let after = &other.manifests.documents[same];
        // Most documents are the same text; only the others are worth a walk.
        if document.text != after.text {
            let all = find_differences(&document.value, &after.value);
            found.extend(all.into_iter().map(|difference| (index, difference.path)));
        }
    }
    found
}

/// Adds the differences below one path to `found`.
fn compare_values(
    before: Option<&Value>,
    after: Option<&Value>,
    path: &DocumentPath,
    is_secret: bool,
    found: &mut Vec<LeafDifference>,
) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for (key, value) in a {
                compare_values(Some(value), b.get(key), &path.key(key), is_secret, found);
            }
            // Keys that only the second side has.
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                compare_values(None, Some(value), &path.key(key), is_secret, found);
            }
        }
        // With an item more or less there is no telling which items belong together.
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare_values(Some(a), Some(b), &path.index(index), is_secret, found);
            }
        }
        (Some(Value::String(a)), Some(Value::String(b))) => {
            let before = found.len();
            if let Some((a, b, encoding)) = open_texts(a, b, path, is_secret) {
                compare_values(Some(&a), Some(&b), &path.inside(encoding), is_secret, found);
            }
            // Texts that differ and parse to the same differ in comments or layout: still a change.
            if found.len() == before {
                found.push(new_difference(
                    path,
                    Some(&Value::from(a.as_str())),
                    Some(&Value::from(b.as_str())),
                ));
            }
        }
        (before, after) => found.push(new_difference(path, before, after)),
    }
}

/// The parsed contents of two texts, if both are of the same format.
fn open_texts(
    a: &str,
    b: &str,
    path: &DocumentPath,
    is_secret: bool,
) -> Option<(Value, Value, TextEncoding)> {
    if is_secret && path.is_secret_data() {
        let (a, b) = (decode_base64(a)?, decode_base64(b)?);
        return Some((Value::String(a), Value::String(b), TextEncoding::Base64));
    }
    let ((of_a, a), (of_b, b)) = (parse_embedded(a)?, parse_embedded(b)?);
    (of_a == of_b).then_some((a, b, of_a))
}

/// A difference with both sides as texts; what is not a string is written as JSON.
fn new_difference(
    path: &DocumentPath,
    before: Option<&Value>,
    after: Option<&Value>,
) -> LeafDifference {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    LeafDifference { path: path.clone(), before: before.map(text), after: after.map(text) }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_found_inside_of_what_a_secret_holds() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let secret = |text: &str| json!({"kind": "Secret", "data": {"v": encode(text)}});
        let found = find_differences(&secret("a: 1\nb: x\n"), &secret("a: 1\nb: z\n"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path.to_string(), "data.v|base64|YAML|b");
        assert_eq!((found[0].before.as_deref(), found[0].after.as_deref()), (Some("x"), Some("z")));
    }

    #[test]
    fn what_comes_and_goes_is_a_difference_too() {
        let found = find_differences(&json!({"a": 1, "l": [1]}), &json!({"b": 1, "l": [1, 2]}));
        assert_eq!(found.len(), 3);
    }
}
