//! Inserts into a YAML document in place: an item at the front of a list, a key at the front of a
//! map, or another scalar. What is new is written on one line as JSON, which is valid YAML; the
//! rest keeps every byte. `None` where that is impossible: behind an alias, a change would show at
//! every other use of the anchor.

use serde_json::Value;

use super::position::CollectionPosition;
use super::source::SourceDocument;
use crate::path::{PathStep, TextEncoding};

/// Inserts an item at the front of a list that is not empty. `text` is the document, `list` the
/// path of the list in it.
pub(crate) fn insert_item(text: &str, list: &[PathStep], item: &Value) -> Option<String> {
    let place = find_collection(text, list)?;
    let new = match place {
        CollectionPosition::Flow { start } => (start + 1, format!("{item}, ")),
        CollectionPosition::Block { start, first } => {
            // The parser reports either the dash of the first item or the item behind it as the
            // start of the list, depending on its indentation.
            let dash = match text.as_bytes().get(start) {
                Some(b'-') => start,
                _ => text.get(..first)?.rfind('-')?,
            };
            (dash, format!("- {item}\n{}", indentation_at(text, dash)))
        }
    };
    Some(insert_text(text, new))
}

/// Inserts a key at the front of a map that is not empty.
pub(crate) fn insert_key(text: &str, map: &[PathStep], key: &str, value: &Value) -> Option<String> {
    let key = Value::from(key);
    let new = match find_collection(text, map)? {
        CollectionPosition::Flow { start } => (start + 1, format!("{key}: {value}, ")),
        CollectionPosition::Block { first, .. } => {
            (first, format!("{key}: {value}\n{}", indentation_at(text, first)))
        }
    };
    Some(insert_text(text, new))
}

/// Replaces a scalar, or an empty list or map, by `new`, which must be valid YAML on one line.
pub(crate) fn replace_scalar(text: &str, at: &[PathStep], new: &str) -> Option<String> {
    let source = SourceDocument::open(TextEncoding::Yaml, text)?;
    let mut range = source.find_replaceable(at)?;
    let mut blank = "";
    if range.is_empty() {
        // `env:` without a value: the parser reports an empty range before or after the colon.
        let rest = text.get(range.start..)?;
        let colon = rest.find(':').filter(|at| rest[..*at].trim().is_empty());
        let start = range.start + colon.map_or(0, |at| at + 1);
        range = start..start;
        blank = " ";
    }
    // The range of a block scalar includes the line break of its last line.
    let end = if text.get(range.clone())?.ends_with('\n') { "\n" } else { "" };
    let mut text = text.to_owned();
    text.replace_range(range, &format!("{blank}{new}{end}"));
    Some(text)
}

/// Finds the list or map at a path.
fn find_collection(text: &str, steps: &[PathStep]) -> Option<CollectionPosition> {
    SourceDocument::open(TextEncoding::Yaml, text)?.find_collection(text, steps)
}

/// The text with `new` inserted at a byte position.
fn insert_text(text: &str, (at, new): (usize, String)) -> String {
    let mut text = text.to_owned();
    text.insert_str(at, &new);
    text
}

/// The indentation that puts a following line into the same column as byte position `at`.
fn indentation_at(text: &str, at: usize) -> String {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    " ".repeat(text[line..at].chars().count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::manifest::parse_yaml;
    use crate::path::DocumentPath;

    #[test]
    fn new_things_stand_in_front_and_the_rest_keeps_every_byte() {
        let root = DocumentPath::default();
        let env = root.key("c").index(0).key("env");
        let (one, value) = (json!({"name": "A"}), json!(["x"]));
        for text in [
            "c:\n- name: x # why\n  env:\n  - name: B\n    value: 0x10\n  mode: 0644\n",
            "c:\n  -   name: 'x'\n      env:\n        -   name: B\n",
            "c: [{name: x, env: [{name: B}]}]\n",
            "{\"c\": [{\"env\": [{\"name\": \"B\"}]}]}",
            "# é\nc:\n- env:\n  - {name: B}\n",
        ] {
            let with = insert_item(text, env.steps(), &one).unwrap();
            let read = parse_yaml(&with).unwrap();
            assert_eq!(read["c"][0]["env"][0], one, "{with}");
            assert_eq!(read["c"][0]["env"][1]["name"], "B", "{with}");
            let line = with.replace("- {\"name\":\"A\"}\n", "");
            assert!(
                line.trim_end().ends_with(text.trim_end().rsplit('\n').next().unwrap())
                    || !text.contains("\n  ")
            );
            let with =
                insert_key(text, root.key("c").index(0).steps(), "volumeMounts", &value).unwrap();
            let read = parse_yaml(&with).unwrap();
            assert_eq!(read["c"][0]["volumeMounts"], value, "{with}");
            assert_eq!(read["c"][0]["env"][0]["name"], "B", "{with}");
        }
    }

    #[test]
    fn a_scalar_is_replaced_however_it_is_written() {
        let at = DocumentPath::default().key("a").key("b");
        for (text, expected) in [
            ("a:\n  b: x # why\n", "a:\n  b: \"y\" # why\n"),
            ("a: {b: 'x'}\n", "a: {b: \"y\"}\n"),
            ("a:\n  b:\n  c: 1\n", "a:\n  b: \"y\"\n  c: 1\n"),
            ("a:\n  b: []\n", "a:\n  b: \"y\"\n"),
            ("a:\n  b: null\n", "a:\n  b: \"y\"\n"),
        ] {
            assert_eq!(replace_scalar(text, at.steps(), "\"y\"").unwrap(), expected);
        }
        assert_eq!(replace_scalar("x: &x {b: 1}\na: *x\n", at.steps(), "\"y\""), None);
    }
}
