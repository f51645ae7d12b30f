//! Reads and writes YAML; the only module that knows the YAML library (serde-saphyr). Documents that
//! people write are read strictly, and every mistake is reported with its line, its column and what
//! to write instead; documents that Gantry writes have the same bytes for the same content.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};

use self::last_line::{mark_open_block, remove_mark};
use self::merged_value::MergedValue;
use self::tags::replace_tags;
use crate::foreign_text::clean_excerpt;
use crate::{Cause, Error, Result};

mod aligned;
mod last_line;
mod merged_value;
mod tags;

pub use self::aligned::AlignedManifest;

/// Reads one YAML document. `name` is what an error calls it, usually the path. Unknown keys,
/// duplicate keys and wrong types are errors with line, column and what the value may be.
pub fn read_document<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    read_strictly(name, text, serde_saphyr::options! { with_snippet: false })
}

/// The longest document that [`read_own_document`] reads, in bytes. A lock of 10,000 images on two
/// platforms with 100,000 blobs has about 40 MB.
pub const MAX_OWN_DOCUMENT: usize = 256 << 20;

/// As [`read_document`], for documents that Gantry writes, which may be much larger than what a person
/// writes. Their memory is bounded by their length: they have no anchors, which could multiply it, and
/// each key or value of them takes at least two bytes.
pub fn read_own_document<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    if text.len() > MAX_OWN_DOCUMENT {
        return Err(Error::Document {
            document: name.to_owned(),
            line: 0,
            column: 0,
            message: format!(
                "it has {} bytes, and Gantry reads at most {MAX_OWN_DOCUMENT}; split gantry.yaml into several",
                text.len()
            )
            .into(),
        });
    }
    let budget = serde_saphyr::budget! {
        max_anchors: 0,
        max_aliases: 0,
        max_nodes: MAX_OWN_DOCUMENT / 2,
        max_events: MAX_OWN_DOCUMENT,
        max_total_scalar_bytes: MAX_OWN_DOCUMENT,
    };
    read_strictly(
        name,
        text,
        serde_saphyr::options! { with_snippet: false, emit_comments: false, budget: budget },
    )
}

fn read_strictly<T: DeserializeOwned>(
    name: &str,
    text: &str,
    options: serde_saphyr::Options,
) -> Result<T> {
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let DocumentFault { line, column, message } = locate_fault(text, &error);
        Error::Document { document: name.to_owned(), line, column, message: message.into() }
    })
}

/// Reads one document of manifests, a chart or values, as helm and the API server do: the last of
/// duplicate keys counts, anchors and merge keys are resolved, tags of one's own mean nothing, and what
/// [`AlignedManifest`] aligns is accepted. An empty document is null.
pub fn read_manifest(text: &str) -> std::result::Result<Value, DocumentFault> {
    let replaced = replace_tags(text);
    let text = replaced.as_deref().unwrap_or(text);
    let Some(marked) = mark_open_block(text) else { return read_aligned_manifest(text) };
    let mut value = read_aligned_manifest(&marked)?;
    remove_mark(&mut value);
    Ok(value)
}

/// Reads one document of manifests that the YAML standard allows, or would if it was aligned.
fn read_aligned_manifest(text: &str) -> std::result::Result<Value, DocumentFault> {
    read_standard_manifest(text).or_else(|fault| match AlignedManifest::align(text) {
        Some(aligned) => {
            // Tags are found only in what can be read to its end.
            let replaced = replace_tags(aligned.text());
            let text = replaced.as_deref().unwrap_or(aligned.text());
            read_standard_manifest(text).map_err(|_| fault)
        }
        None => Err(fault),
    })
}

/// Reads one document of manifests that the YAML standard allows.
fn read_standard_manifest(text: &str) -> std::result::Result<Value, DocumentFault> {
    // A quoted `<<` is a key like any other, which the value below cannot tell apart.
    let has_merges = text.contains("<<") && !text.contains("\"<<\"") && !text.contains("'<<'");
    let options = serde_saphyr::options! {
        with_snippet: false,
        emit_comments: false,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        // `0644` is a mode, as in YAML 1.1.
        legacy_octal_numbers: true,
        merge_keys: if has_merges { MergeKeyPolicy::AsOrdinary } else { MergeKeyPolicy::Merge },
    };
    let read = match has_merges {
        true => serde_saphyr::from_str_with_options(text, options).map(|MergedValue(value)| value),
        false => serde_saphyr::from_str_with_options(text, options),
    };
    read.map_err(|error| {
        let fault = locate_fault(text, &error);
        // Who reads manifests says already that one cannot be read.
        let message = fault.message.strip_prefix(INVALID).unwrap_or(&fault.message).to_owned();
        DocumentFault { message, ..fault }
    })
}

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentFault {
    /// The line, from 1; 0 if it is not known.
    pub line: u64,
    /// The column, from 1; 0 if it is not known.
    pub column: u64,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl std::error::Error for DocumentFault {}

impl fmt::Display for DocumentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}, column {}: {}", self.column, self.message),
        }
    }
}

/// Says what is wrong with a text that the library refuses.
fn locate_fault(text: &str, error: &serde_saphyr::Error) -> DocumentFault {
    // A file that is no text at all fails at its first odd byte, which says nothing to a user.
    if text.contains('\0') {
        let message = "the document is not a text file".to_owned();
        return DocumentFault { line: 0, column: 0, message };
    }
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((0, 0), |l| (l.line(), l.column()));
    let subject = match find_key_at(text, line, column) {
        Some(key) => format!("the value of {key:?}"),
        None => "the value".to_owned(),
    };
    DocumentFault { line, column, message: describe_error(error, &subject) }
}

/// Says what is wrong in the words of the person who wrote the document. The library's own messages
/// are for programmers (`set DuplicateKeyPolicy in Options`, `invalid u32`). `subject` is what the
/// value at the error's place is called, such as `the value of "port"`.
fn describe_error(error: &serde_saphyr::Error, subject: &str) -> String {
    use serde_saphyr::Error as Yaml;
    match error {
        Yaml::SerdeUnknownField { field, expected, .. } => {
            describe_unknown_name("key", field, expected)
        }
        Yaml::SerdeUnknownVariant { variant, expected, .. } => {
            describe_unknown_name("value", variant, expected)
        }
        Yaml::SerdeMissingField { field, .. } => format!("the key {field:?} is missing"),
        Yaml::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {:?} is given twice; remove one of the two", clean_excerpt(key))
        }
        Yaml::DuplicateMappingKey { key: None, .. } => {
            "a key is given twice; remove one of the two".to_owned()
        }
        Yaml::Unexpected { expected, .. } => {
            format!("{subject} must be {}", describe_expected(expected))
        }
        Yaml::InvalidScalar { ty, .. } => format!("{subject} must be {}", describe_expected(ty)),
        Yaml::InvalidBooleanStrict { .. } => {
            format!("{subject} must be {}", describe_expected("boolean"))
        }
        Yaml::NullIntoString { .. } => format!("{subject} is empty; write a text"),
        Yaml::SerdeInvalidType { unexpected, expected, .. }
        | Yaml::SerdeInvalidValue { unexpected, expected, .. } => {
            let expected = describe_expected(expected);
            // A file of another kind (a list of users, a key) is one long text to YAML: none of it is
            // quoted where a map or a list should be.
            let found = match expected.starts_with("a map") || expected.starts_with("a list") {
                true if unexpected.starts_with("string ") => "a text".to_owned(),
                _ => describe_found(unexpected),
            };
            format!("{subject} must be {expected}; it is {found}")
        }
        Yaml::SerdeInvalidLength { len, expected, .. } => {
            format!("{subject} has {len} entries; it must be {}", describe_expected(expected))
        }
        Yaml::ExpectedStringKeyForExternallyTaggedEnum { .. }
        | Yaml::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Yaml::UnexpectedValueForUnitEnumVariant { .. } => {
            format!("{subject} must be one of the words that are allowed here, without more in it")
        }
        Yaml::Budget { breach, .. } => describe_exceeded_limit(breach).to_owned(),
        Yaml::AliasReplayLimitExceeded { .. }
        | Yaml::AliasExpansionLimitExceeded { .. }
        | Yaml::AliasReplayStackDepthExceeded { .. } => TOO_MANY_ALIASES.to_owned(),
        Yaml::UnknownAnchor { .. } => {
            "the alias (*name) refers to an anchor (&name) that is not defined above it".to_owned()
        }
        // The error is that of the anchor's value; its place is that of the alias.
        Yaml::AliasError { error, .. } => describe_error(error, subject),
        Yaml::MultipleDocuments { .. } => {
            "only one YAML document is read; remove what follows the line `---`".to_owned()
        }
        Yaml::Eof { .. } => "the document ends too early: it is empty or cut off".to_owned(),
        Yaml::InvalidUtf8Input => "the document is not UTF-8 text".to_owned(),
        // The parser's own limit, beyond that of the budget.
        Yaml::ExternalMessage { msg, .. } if msg.contains("recursion limit") => TOO_DEEP.to_owned(),
        Yaml::ExternalMessage { msg, .. } => format!(
            "{INVALID}{}; check indentation, quotes and brackets here and in the line above",
            without_place(msg)
        ),
        // serde's message names the Rust type. Such entries are distinguished by their keys.
        Yaml::Message { msg, .. } if msg.contains("untagged enum") => {
            format!("{subject} has none of the known forms; check its keys")
        }
        // A sentence of our own: from a `FromStr`, a `TryFrom` or a visitor of this workspace.
        Yaml::Message { msg, .. } => without_place(msg).to_owned(),
        other => without_place(&other.to_string()).to_owned(),
    }
}

/// What a value must be, with an example; `expected` is how the library or serde calls it.
fn describe_expected(expected: &str) -> &str {
    match expected {
        "sequence start" | "a sequence" => "a list, such as [a, b]",
        "mapping start" | "a map" => "a map, such as {key: value}",
        "scalar" | "value" => "a single value, such as a text or a number",
        "string scalar" | "a string" => "a text; put numbers and true or false in quotes",
        "boolean" | "a boolean" => "true or false",
        // The only keys with 16 bits are ports.
        "u16" => "a whole number from 0 to 65535, such as 8080",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "u8" | "u32" | "u64" | "u128" | "usize" => "a whole number, such as 1",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number, such as 1",
        "floating point" | "f32" | "f64" => "a number, such as 0.5",
        // serde calls types by their Rust names.
        text if text.starts_with("struct ") => "a map, such as {key: value}",
        text if text.starts_with("tuple ") => "a list, such as [a, b]",
        text => text,
    }
}

/// What a value is; `unexpected` is how serde calls it (`serde::de::Unexpected`).
fn describe_found(unexpected: &str) -> String {
    match unexpected {
        "sequence" => "a list".to_owned(),
        "map" => "a map".to_owned(),
        "unit value" | "Option value" | "null" => "empty".to_owned(),
        text => {
            let kinds = ["integer ", "floating point ", "string ", "boolean "];
            let value = kinds.iter().find_map(|kind| text.strip_prefix(kind));
            clean_excerpt(value.unwrap_or(text)).replace('`', "")
        }
    }
}

/// The start of messages about a text that is not YAML at all.
const INVALID: &str = "not valid YAML: ";

const TOO_DEEP: &str = "the document is nested more than 64 levels deep";

const TOO_MANY_ALIASES: &str =
    "the document uses too many YAML aliases (*name); write the values out where they are needed";

/// What to do about a document over one of the library's limits, which keep a hostile document from
/// filling the memory. The numbers are the library's defaults (`serde_saphyr::Budget`).
fn describe_exceeded_limit(breach: &BudgetBreach) -> &'static str {
    match breach {
        BudgetBreach::Depth { .. } => TOO_DEEP,
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
            "the document is too large: it has more than 250,000 keys and values; split it into several"
        }
        BudgetBreach::ScalarBytes { .. } | BudgetBreach::InputBytes { .. } => {
            "the document is too large: it has more than 64 MiB of text; split it into several"
        }
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::MergeKeys { .. }
        | BudgetBreach::AliasAnchorRatio { .. } => TOO_MANY_ALIASES,
        _ => "the document is too large or too complicated; split it into several",
    }
}

/// A message without the place that the library appends (`… at line 3, column 5`): the error has its
/// place in front.
fn without_place(text: &str) -> &str {
    text.rsplit_once(" at line ").map_or(text, |(text, _)| text)
}

/// The key whose value begins at a place, since the library's errors do not name it; `None` where
/// that takes more than a look at the lines, such as inside a list in brackets.
///
/// In `  port: http`, line 1 and column 9 are the value of `port`. A value or a list item on a line
/// of its own belongs to the key that ends the nearest line above it with less indentation:
///
/// ```text
/// platforms:          # of an item, the key may have the same indentation
/// - linux/amd64
/// - {a: 1}            # line 3, column 3: a value of `platforms`
/// ```
fn find_key_at(text: &str, line: u64, column: u64) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let before: String = lines.get(line)?.chars().take(column).collect();
    if let Some(key) = key_at_end(&before) {
        return Some(key.to_owned());
    }
    if before.chars().any(|c| c != ' ' && c != '-') {
        return None;
    }
    let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let (own, is_item) = (indentation(&before), before.contains('-'));
    let parent = lines[..line].iter().rev().find(|above| {
        let content = above.trim();
        let is_sibling = content.starts_with('-') || content.is_empty() || content.starts_with('#');
        let other = indentation(above);
        !content.is_empty() && (other < own || (is_item && other == own && !is_sibling))
    })?;
    key_at_end(parent).map(str::to_owned)
}

/// The key before the colon at the end of a text: `port` of `- name: a, port: `.
fn key_at_end(text: &str) -> Option<&str> {
    let text = text.trim_end().strip_suffix(':')?;
    let start = text.rfind([' ', '{', ',', '[']).map_or(0, |at| at + 1);
    let key = text[start..].trim_matches(['"', '\'']);
    (!key.is_empty()).then_some(key)
}

/// The sentence about a name that is not known, with the known one that is spelled most like it.
fn describe_unknown_name(what: &str, found: &str, known: &[&'static str]) -> String {
    // Jaro-Winkler: 1 is equal, 0 has nothing in common. From 0.7 on a typing error is likely
    // (`platfroms`, `imgae`); below, unrelated words would be proposed.
    const NEAR: f64 = 0.7;
    // Unknown names are those of whoever wrote the document.
    let found = &clean_excerpt(found);
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(found, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, candidate)) => format!("unknown {what} {found:?}; did you mean {candidate:?}?"),
        None => format!("unknown {what} {found:?}; write one of {}", known.join(", ")),
    }
}

/// Writes a document with two spaces of indentation and the keys in the order of the type. Nothing
/// in it depends on the time or the machine.
pub fn write_document<T: Serialize>(value: &T) -> Result<String> {
    let options =
        serde_saphyr::ser_options! { compact_list_indent: true, prefer_block_scalars: false };
    print_document(value, options)
}

/// Writes a Kubernetes manifest: as [`write_document`], with strings of several lines (a program in
/// CEL or Rego) as blocks that a person can read.
pub fn write_manifest<T: Serialize>(value: &T) -> Result<String> {
    // A string without line breaks stays on one line, however long it is: a folded CEL program would
    // differ from the one that the API server returns, and every diff would show it.
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        prefer_block_scalars: true,
        folded_wrap_chars: usize::MAX,
    };
    print_document(value, options)
}

fn print_document<T: Serialize>(
    value: &T,
    options: serde_saphyr::SerializerOptions,
) -> Result<String> {
    serde_saphyr::to_string_with_options(value, options).map_err(|error| Error::Document {
        document: "a document to write".into(),
        line: 0,
        column: 0,
        message: Cause::from_error(error),
    })
}

#[cfg(test)]
mod tests;
