//! The overlay, a values file of Gantry's own: its settings, and how it is written as YAML for people
//! to read, with the keys in the order of the chart's values and a comment above each value that says
//! what it does. The same overlay always gives the same bytes, so that it can be kept in version
//! control.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::path::DocumentPath;
use crate::values;

/// One value of the overlay.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct OverlaySetting {
    /// The path of the value.
    pub path: DocumentPath,
    /// What it is set to. A list has all of its items, since helm replaces lists as a whole.
    pub value: Value,
    /// What it does; a comment in the overlay.
    pub why: String,
}

/// The overlay that makes these settings. `effective` are the values that it is merged into.
pub(crate) fn build_overlay(settings: &[OverlaySetting], effective: &Value) -> Value {
    let mut overlay = Value::Object(Map::new());
    add_settings(&mut overlay, settings, effective);
    overlay
}

/// Makes these settings in an overlay.
pub(crate) fn add_settings(overlay: &mut Value, settings: &[OverlaySetting], effective: &Value) {
    for OverlaySetting { path, value, .. } in settings {
        values::set_value(overlay, path, value.clone(), effective);
    }
}

/// The comment lines above each value, by the value's path. A comment for a path inside a list is
/// written above the list.
pub(crate) type OverlayComments = BTreeMap<DocumentPath, Vec<String>>;

/// Writes `values` as YAML below the comment lines of `head`.
pub(crate) fn write_overlay(head: &[String], values: &Value, comments: &OverlayComments) -> String {
    let mut text = String::new();
    for line in head {
        let _ = writeln!(text, "# {line}");
    }
    match values {
        Value::Object(map) if !map.is_empty() => {
            write_map(&mut text, values, &DocumentPath::default(), comments, 0);
        }
        _ => text.push_str("{}\n"),
    }
    text
}

fn write_map(
    text: &mut String,
    value: &Value,
    path: &DocumentPath,
    comments: &OverlayComments,
    depth: usize,
) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        let path = path.key(key);
        let indent = "  ".repeat(depth);
        for comment in select_comments(comments, &path, value) {
            let _ = writeln!(text, "{indent}# {comment}");
        }
        let _ = write!(text, "{indent}{}:", format_scalar(&Value::String(key.clone())));
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                write_map(text, value, &path, comments, depth + 1);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                write_list(text, items, depth);
            }
            leaf => {
                let _ = writeln!(text, " {}", format_scalar(leaf));
            }
        }
    }
}

fn write_list(text: &mut String, items: &[Value], depth: usize) {
    for item in items {
        let mut own = String::new();
        match item {
            Value::Object(inner) if !inner.is_empty() => {
                write_map(
                    &mut own,
                    item,
                    &DocumentPath::default(),
                    &OverlayComments::new(),
                    depth + 1,
                );
            }
            Value::Array(inner) if !inner.is_empty() => write_list(&mut own, inner, depth + 1),
            leaf => {
                let _ = writeln!(own, "{}{}", "  ".repeat(depth + 1), format_scalar(leaf));
            }
        }
        // The item was written one level deeper; the dash replaces the indentation of its first
        // line.
        let indent = "  ".repeat(depth);
        let _ = write!(text, "{indent}- {}", own.get((depth + 1) * 2..).unwrap_or(&own));
    }
}

/// The comments of a value; for a list also those of everything in it.
fn select_comments<'a>(
    comments: &'a OverlayComments,
    path: &'a DocumentPath,
    value: &Value,
) -> impl Iterator<Item = &'a String> {
    let is_list = value.is_array();
    let mut seen = BTreeSet::new();
    // What is in a value stands right behind it in the order of the paths.
    comments
        .range(path..)
        .take_while(move |(at, _)| *at == path || is_list && path.is_above(at))
        .flat_map(|(_, lines)| lines)
        // The same image may be in several items of a list.
        .filter(move |line| seen.insert(*line))
}

/// Writes a scalar on one line. Strings that YAML 1.1 or 1.2 would read as another type are quoted.
fn format_scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain_scalar(text) => text.clone(),
        // Every JSON string is a valid double-quoted YAML string.
        other => other.to_string(),
    }
}

/// Whether a string can be written without quotes.
fn is_plain_scalar(text: &str) -> bool {
    // Helm's YAML reader takes the words of YAML 1.1 for booleans: `on`, `y`.
    const WORDS: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_simple = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-_@:".contains(&b));
    let has_mapping = text.ends_with(':');
    starts_well && is_simple && !has_mapping && !WORDS.contains(&text.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same_and_has_its_comments() {
        let values = json!({
            "global": {"imageRegistry": "site:5000/ai"},
            "list": [{"name": "a", "l": [1, [2, "x"], {}]}, "two\nlines", []],
            "odd": {"on": "yes", "tag": "1.10", "empty": "", "n": null, "colon:": "a: b"},
        });
        let path = DocumentPath::default().key("global").key("imageRegistry");
        let in_list = DocumentPath::default().key("list").index(0).key("name");
        let comments = [(path, vec!["moves 2 images".to_owned()]), (in_list, vec!["x".into()])];
        let text = write_overlay(&["head".into()], &values, &comments.into_iter().collect());
        assert_eq!(crate::manifest::parse_yaml(&text).unwrap(), values, "{text}");
        assert!(
            text.starts_with(
                "# head\nglobal:\n  # moves 2 images\n  imageRegistry: site:5000/ai\n"
            )
        );
        assert!(text.contains("# x\nlist:\n- name: a\n"), "{text}");
    }

    #[test]
    fn an_empty_overlay_is_an_empty_map() {
        assert_eq!(write_overlay(&[], &json!({}), &OverlayComments::new()), "{}\n");
    }
}
