//! JSON documents of strangers: an `index.json`, the config of an image, a registry's answer. Their
//! length alone does not bound the memory that they take: in memory an empty object has forty times
//! the bytes that it has in the text. So the values are counted before anything is built from them.

use serde::de::DeserializeOwned;

use crate::{Cause, Error, Result};

/// How many keys and values a document may have that is read into [`serde_json::Value`]s or lists.
/// One takes at most some 150 bytes, so that such a document takes at most 300 MB; a layout's
/// `index.json` has 13 for each root, and room for 150,000 roots.
pub const MAX_JSON_NODES: usize = 2_000_000;

/// Parses a JSON document of at most `most_nodes` keys and values. `document` is its name in errors,
/// `expected` what it should be: `an OCI index`.
///
/// # Errors
/// It is not valid JSON, is not what was expected, or has more keys and values.
pub fn parse_json<T: DeserializeOwned>(
    document: &str,
    expected: &str,
    bytes: &[u8],
    most_nodes: usize,
) -> Result<T> {
    let error = |line: usize, column: usize, message: Cause| Error::Document {
        document: document.to_owned(),
        line: line as u64,
        column: column as u64,
        message,
    };
    if exceeds_nodes(bytes, most_nodes) {
        let message = format!("not {expected}: it has more than {most_nodes} keys and values");
        return Err(error(0, 0, message.into()));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| error(e.line(), e.column(), Cause::about(format!("not {expected}"), e)))
}

/// Whether a JSON text has more keys and values than `most`. What is not valid JSON is counted as
/// far as it looks like it; parsing fails on it anyway.
fn exceeds_nodes(bytes: &[u8], most: usize) -> bool {
    // Each value but the first of all comes after one of these, and each key as well.
    let mut nodes = 1;
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => skip_string(&mut rest),
            b',' | b':' | b'[' | b'{' => {
                nodes += 1;
                if nodes > most {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// Goes to the end of a string, in which commas and brackets are text.
fn skip_string(rest: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(rest.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;

    #[test]
    fn keys_and_values_are_counted_outside_of_strings() {
        let text = br#"{"a,[{\",:": [1, 2, {}], "b\\": "]["}"#;
        // The object, two keys with values, a list of three: 1 + 4 + 3, and one for each bracket that
        // may have been empty.
        assert!(!exceeds_nodes(text, 9));
        assert!(exceeds_nodes(text, 7));
        assert_eq!(parse_json::<Value>("x", "a document", text, 9).unwrap()["b\\"], "][");
    }

    #[test]
    fn a_list_of_empty_objects_is_refused_before_it_takes_memory() {
        let text = format!("[{}{{}}]", "{},".repeat(MAX_JSON_NODES));
        let error = parse_json::<Value>("index.json", "an OCI index", text.as_bytes(), 1000);
        let expected = "index.json: not an OCI index: it has more than 1000 keys and values";
        assert_eq!(error.unwrap_err().to_string(), expected);
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        let error = parse_json::<Value>("x.json", "an OCI index", b"{\n  nope", 10).unwrap_err();
        assert!(error.to_string().starts_with("x.json:2:3: not an OCI index: "), "{error}");
    }
}
