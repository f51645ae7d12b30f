//! A block (`|`, `>`) at the end of a document whose last line has no line break.

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

/// Stands at the end of such a block while it is read: a character that has no meaning anywhere.
const MARK: char = '\u{10FFFF}';

/// A document with a mark at its end, if a block ends there without a line break. The YAML standard
/// gives its text a line break, and go-yaml, the parser of helm and kubectl, does not.
pub(super) fn mark_open_block(text: &str) -> Option<String> {
    let last = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    let may_be_open = !last.trim().is_empty() && text.contains(['|', '>']);
    (may_be_open && !text.contains(MARK) && ends_in_block(text)).then(|| format!("{text}{MARK}"))
}

/// Whether the last thing in a document is a block that ends with its last byte.
fn ends_in_block(text: &str) -> bool {
    let mut is_block = false;
    for event in Parser::new_from_str(text) {
        // A document with a fault is reported where it is read.
        let Ok((event, span)) = event else { return false };
        if let Event::Scalar(value, style, ..) = event {
            is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
                && !value.is_empty()
                && span.byte_range().is_some_and(|range| range.end >= text.len());
        }
    }
    is_block
}

/// Removes the mark, and the line break behind it, from all texts of a value.
pub(super) fn remove_mark(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(at) = text.rfind(MARK) {
                text.truncate(at);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(remove_mark),
        Value::Object(map) => map.values_mut().for_each(remove_mark),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
