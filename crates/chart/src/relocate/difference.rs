//! The differences between two rendered documents, leaf by leaf. Texts that hold YAML, JSON or
//! base64 (ConfigMaps, Secrets) are opened, so that one changed key inside is one difference and
//! not a whole file. Used by the proofs of `prove` and of `crate::wiring`.

use serde_json::Value;

use crate::find::text;
use crate::path::{Encoding, Path, Step};

/// A leaf that differs. A side is `None` where the document does not have the leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) path: Path,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

/// All differences between two versions of a document. Lists of different lengths are one
/// difference as a whole.
pub(crate) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let is_secret = before.get("kind").and_then(Value::as_str) == Some("Secret");
    let mut found = Vec::new();
    compare(Some(before), Some(after), &Path::default(), is_secret, &mut found);
    found
}

/// Adds the differences below one path to `found`.
fn compare(
    before: Option<&Value>,
    after: Option<&Value>,
    path: &Path,
    is_secret: bool,
    found: &mut Vec<Difference>,
) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for (key, value) in a {
                compare(Some(value), b.get(key), &path.key(key), is_secret, found);
            }
            // Keys that only the second side has.
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                compare(None, Some(value), &path.key(key), is_secret, found);
            }
        }
        // With an item more or less there is no telling which items belong together.
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(Some(a), Some(b), &path.index(index), is_secret, found);
            }
        }
        (Some(Value::String(a)), Some(Value::String(b))) => {
            let before = found.len();
            if let Some((a, b, encoding)) = opened(a, b, path, is_secret) {
                compare(Some(&a), Some(&b), &path.inside(encoding), is_secret, found);
            }
            // Texts that differ and parse to the same differ in comments or layout: still a change.
            if found.len() == before {
                found.push(difference(
                    path,
                    Some(&Value::from(a.as_str())),
                    Some(&Value::from(b.as_str())),
                ));
            }
        }
        (before, after) => found.push(difference(path, before, after)),
    }
}

/// The parsed contents of two texts, if both are of the same format. The values below `data` of a
/// Secret are base64 (Kubernetes API, Secret v1).
fn opened(a: &str, b: &str, path: &Path, is_secret: bool) -> Option<(Value, Value, Encoding)> {
    if is_secret
        && let [Step::Key(data), Step::Key(_)] = path.steps()
        && data == "data"
    {
        let (a, b) = (text::decode(a)?, text::decode(b)?);
        return Some((Value::String(a), Value::String(b), Encoding::Base64));
    }
    let ((of_a, a), (of_b, b)) = (text::opened(a)?, text::opened(b)?);
    (of_a == of_b).then_some((a, b, of_a))
}

/// A difference with both sides as texts; what is not a string is written as JSON.
fn difference(path: &Path, before: Option<&Value>, after: Option<&Value>) -> Difference {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Difference { path: path.clone(), before: before.map(text), after: after.map(text) }
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
        let found = differences(&secret("a: 1\nb: x\n"), &secret("a: 1\nb: z\n"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path.to_string(), "data.v|base64|YAML|b");
        assert_eq!((found[0].before.as_deref(), found[0].after.as_deref()), (Some("x"), Some("z")));
    }

    #[test]
    fn what_comes_and_goes_is_a_difference_too() {
        let found = differences(&json!({"a": 1, "l": [1]}), &json!({"b": 1, "l": [1, 2]}));
        assert_eq!(found.len(), 3);
    }
}
