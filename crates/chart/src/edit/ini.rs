//! INI and properties: lines of `key = value`, with or without `[section]` lines, as Python's
//! configparser, Grafana and env files have them.

use std::ops::Range;

use serde_json::{Map, Value};

use super::position::{ScalarNotation, SourceScalar};
use crate::path::PathStep;

/// What starts a comment in files with sections, and in properties.
const SECTION_COMMENTS: &[char] = &['#', ';'];
const PROPERTY_COMMENTS: &[char] = &['#', ';', '!'];

/// What is on one line.
enum IniLine<'a> {
    /// Nothing, or a comment.
    Empty,
    /// The name of a section.
    Section(&'a str),
    /// A key and its value without blanks and quotes around it, and the bytes of the value.
    Entry { key: &'a str, value: &'a str, range: Range<usize> },
    /// Anything else.
    Other,
}

/// Reads a text line by line.
fn read_lines<'a>(text: &'a str, comments: &'static [char]) -> impl Iterator<Item = IniLine<'a>> {
    let mut end = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = end;
        end += line.len();
        let bare = line.trim();
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return IniLine::Section(name);
        }
        if bare.is_empty() || bare.starts_with(comments) {
            return IniLine::Empty;
        }
        let Some((key, behind)) = line.split_once('=') else { return IniLine::Other };
        let value = behind.trim().trim_matches(['"', '\'']);
        let start = start + key.len() + 1 + behind.find(value).unwrap_or_default();
        IniLine::Entry { key: key.trim(), value, range: start..start + value.len() }
    })
}

/// Parses sections of `key = value` lines into a map of maps.
pub(super) fn parse_sections(text: &str) -> Value {
    let mut sections = Map::new();
    let mut section = "";
    for line in read_lines(text, SECTION_COMMENTS) {
        match line {
            IniLine::Section(name) => section = name,
            IniLine::Entry { key, value, .. } => {
                let entries = sections.entry(section).or_insert_with(|| Value::Object(Map::new()));
                if let Some(entries) = entries.as_object_mut() {
                    entries.insert(key.to_owned(), Value::from(value));
                }
            }
            IniLine::Empty | IniLine::Other => {}
        }
    }
    Value::Object(sections)
}

/// Parses lines of `key=value`, as in properties and env files; `None` if there is any other line.
pub(super) fn parse_properties(text: &str) -> Option<Value> {
    let mut entries = Map::new();
    for line in read_lines(text, PROPERTY_COMMENTS) {
        match line {
            IniLine::Empty => {}
            IniLine::Entry { key, value, .. } => {
                let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
                if key.is_empty() || !key.bytes().all(is_name) {
                    return None;
                }
                entries.insert(key.to_owned(), Value::from(value));
            }
            IniLine::Section(_) | IniLine::Other => return None,
        }
    }
    (!entries.is_empty()).then_some(Value::Object(entries))
}

/// The value of a key, below a section if the path has two keys. The last of duplicate keys counts,
/// as for the parsers.
pub(super) fn find_scalar(text: &str, steps: &[PathStep]) -> Option<SourceScalar> {
    let (wanted_section, wanted_key) = match steps {
        [PathStep::Key(section), PathStep::Key(key)] => (Some(section.as_str()), key.as_str()),
        [PathStep::Key(key)] => (None, key.as_str()),
        _ => return None,
    };
    let mut section = "";
    let mut found = None;
    for line in read_lines(text, PROPERTY_COMMENTS) {
        match line {
            IniLine::Section(name) => section = name,
            IniLine::Entry { key, value, range }
                if key == wanted_key && wanted_section.is_none_or(|wanted| wanted == section) =>
            {
                let (value, style) = (value.to_owned(), ScalarNotation::Plain);
                found = Some(SourceScalar { range, value, style });
            }
            _ => {}
        }
    }
    found
}
