//! Shows what changes in an object as a unified diff of its YAML, for the output of a dry run. The
//! values of Secrets never appear in it.

use serde_json::{Map, Value};
use similar::TextDiff;

/// Unchanged lines around a change, as in `diff -u`.
const AROUND: usize = 3;

/// Returns the changed lines. The diff of an object that exists only before or only after is empty:
/// listing it as created or removed says enough.
pub(super) fn print_unified_diff(old: Option<&Value>, new: Option<&Value>) -> String {
    let (Some(old), Some(new)) = (old, new) else { return String::new() };
    let (old, new) = (print_object(old, new, "before"), print_object(new, old, "after"));
    let diff = TextDiff::from_lines(&old, &new);
    diff.unified_diff().context_radius(AROUND).to_string()
}

/// Prints an object as YAML with sorted keys, and with the values of a Secret hidden. `other` is
/// the object that it is compared with; `side` (`before` or `after`) names which of the two this
/// one is.
fn print_object(object: &Value, other: &Value, side: &str) -> String {
    let mut object = sort_keys(object);
    if object.get("kind").and_then(Value::as_str) == Some("Secret") {
        for key in ["data", "stringData"] {
            hide_values(&mut object, other, key, side);
        }
    }
    serde_saphyr::to_string(&object).unwrap_or_else(|_| object.to_string())
}

/// Replaces the values of a Secret. A value that changes gets a different text on each side, so
/// that the diff shows the line even if both values have the same length.
fn hide_values(object: &mut Value, other: &Value, key: &str, side: &str) {
    let Some(fields) = object.get_mut(key).and_then(Value::as_object_mut) else { return };
    for (name, value) in fields {
        let length = value.as_str().map_or(0, str::len);
        let beside = other.get(key).and_then(|fields| fields.get(name));
        *value = Value::String(if beside == Some(value) {
            "(hidden)".to_owned()
        } else {
            format!("(hidden, {length} characters {side})")
        });
    }
}

fn sort_keys(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            let pairs = keys.into_iter().map(|key| (key.clone(), sort_keys(&fields[key])));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sort_keys).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_s_new_value_of_the_same_length_is_told_and_not_shown() {
        let secret = |value: &str| json!({"kind": "Secret", "data": {"a": value, "b": "same"}});
        let diff = print_unified_diff(Some(&secret("b2xk")), Some(&secret("bmV3")));
        assert!(diff.contains("-  a: (hidden, 4 characters before)"), "{diff}");
        assert!(
            !diff.contains("b2xk") && !diff.contains("bmV3") && !diff.contains("same"),
            "{diff}"
        );
    }
}
