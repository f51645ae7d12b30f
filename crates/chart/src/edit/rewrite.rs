//! Replaces words in a document in place, also inside encoded texts (base64 of a Secret, JSON in a
//! ConfigMap). Everything else keeps every byte: comments, quotes, number formats, order.
//!
//! A replacement has a path. The path is followed inwards, from text to text, and the edit that is
//! found at its end is carried outwards again: each level turns "these bytes of the decoded value"
//! into "these bytes of the text in which the value is written".
//!
//! # Example
//!
//! The document, and one replacement of `redis:7` by `site:5000/ai/library/redis:7` at
//! `data["app.json"]|JSON|worker.image`:
//!
//! ```yaml
//! data:
//!   app.json: '{"worker": {"image": "redis:7"}, "note": "redis:7"}'   # keep
//! ```
//!
//! 1. `edit_document` (YAML) cuts the path at the first encoding. `data["app.json"]` leads to a
//!    scalar: its value is `{"worker": … }`, its range in the document includes the quotes.
//! 2. `edit_text` sees that the rest of the path starts with JSON, and calls `edit_document` (JSON)
//!    for the value with the path `worker.image`.
//! 3. There the scalar is `"redis:7"`, its value `redis:7`, and the path is used up: `edit_words`
//!    finds the word at the bytes 0..7 of the value.
//! 4. Outwards: `lift_edits` adds the quote: bytes 22..29 of the JSON text.
//! 5. Outwards: the JSON text is written in single quotes. `place_edit` looks for the same
//!    occurrence of `redis:7`: the first of two in the value is the first of two in the document.
//!    Only that one is replaced; the note and the comment stay:
//!
//! ```yaml
//! data:
//!   app.json: '{"worker": {"image": "site:5000/ai/library/redis:7"}, "note": "redis:7"}'   # keep
//! ```
//!
//! Where value and written text do not have the same number of occurrences (escapes, folded lines),
//! step 5 writes the whole scalar anew. A base64 text is decoded, edited and
//! encoded again as a whole.

use std::collections::BTreeMap;
use std::ops::Range;

use super::embedded::{decode_base64, encode_base64};
use super::position::{ScalarNotation, SourceScalar};
use super::source::SourceDocument;
use crate::manifest::Manifests;
use crate::path::{PathStep, TextEncoding};
use crate::words::is_word_separator;

/// A word to be replaced at a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TextReplacement<'a> {
    /// The path of the text, relative to the text at hand.
    pub(crate) steps: &'a [PathStep],
    /// The word as it is now.
    pub(crate) from: &'a str,
    /// The word in its place.
    pub(crate) to: &'a str,
    /// Whether it is a complete reference or a name.
    pub(crate) word: ReplacedWord,
}

/// What a replaced word is, which decides what may follow it in a longer text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReplacedWord {
    /// A complete reference: `app:1` is not replaced in `app:1@sha256:…`, which is another one.
    Reference,
    /// The name of an image: a tag or digest may follow and is kept.
    Name,
}

/// A byte range of a text and its new content.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TextEdit {
    range: Range<usize>,
    new: String,
}

/// Makes all replacements in a YAML document.
pub(crate) fn rewrite_document(document: &str, wants: &[TextReplacement]) -> String {
    apply_edits(document, edit_document(TextEncoding::Yaml, document, wants))
}

/// Computes the edits of one document in YAML, JSON, TOML or INI.
fn edit_document(encoding: TextEncoding, text: &str, wants: &[TextReplacement]) -> Vec<TextEdit> {
    let Some(source) = SourceDocument::open(encoding, text) else {
        // The finders read it with another parser, which is more lenient. Words with a slash are
        // distinctive enough to be replaced without knowing the structure.
        let hosted = wants.iter().filter(|want| want.from.contains('/'));
        return hosted.flat_map(|want| edit_words(text, want)).collect();
    };
    // All replacements of one scalar are made together: each edit of it covers the same bytes.
    let mut by_scalar: BTreeMap<&[PathStep], Vec<TextReplacement>> = BTreeMap::new();
    for want in wants {
        let inside = want.steps.iter().position(|step| matches!(step, PathStep::Inside(_)));
        let (outer, inner) = want.steps.split_at(inside.unwrap_or(want.steps.len()));
        by_scalar.entry(outer).or_default().push(TextReplacement { steps: inner, ..want.clone() });
    }
    let mut edits = Vec::new();
    for (outer, wants) in by_scalar {
        let Some(scalar) = source.find_scalar(outer) else { continue };
        edits.extend(lift_edits(text, &scalar, edit_text(&scalar.value, &wants)));
    }
    edits
}

/// Computes the edits of the value of a scalar.
fn edit_text(value: &str, wants: &[TextReplacement]) -> Vec<TextEdit> {
    let mut edits = Vec::new();
    let mut opened: BTreeMap<TextEncoding, Vec<TextReplacement>> = BTreeMap::new();
    for want in wants {
        match want.steps {
            [] | [PathStep::Inside(TextEncoding::Text)] => edits.extend(edit_words(value, want)),
            [PathStep::Inside(encoding), rest @ ..] => {
                opened
                    .entry(*encoding)
                    .or_default()
                    .push(TextReplacement { steps: rest, ..want.clone() });
            }
            _ => {}
        }
    }
    for (encoding, wants) in opened {
        match encoding {
            TextEncoding::Base64 => {
                let Some(plain) = decode_base64(value) else { continue };
                let new = apply_edits(&plain, edit_text(&plain, &wants));
                // The line break at the end of a block scalar is not part of the base64.
                let bare = value.trim();
                let start = value.find(bare).unwrap_or_default();
                let new = encode_base64(&new);
                edits.push(TextEdit { range: start..start + bare.len(), new });
            }
            TextEncoding::Yaml => edits.extend(edit_stream(value, &wants)),
            _ => edits.extend(edit_document(encoding, value, &wants)),
        }
    }
    edits
}

/// Computes the edits of a YAML stream in a text. If it has several documents, the first step of
/// each path is the number of its document.
fn edit_stream(text: &str, wants: &[TextReplacement]) -> Vec<TextEdit> {
    let ranges = Manifests::read(text).document_ranges(text);
    let mut edits = Vec::new();
    for (index, range) in ranges.iter().enumerate() {
        let own: Vec<TextReplacement> = match ranges.len() {
            1 => wants.to_vec(),
            _ => wants
                .iter()
                .filter_map(|want| match want.steps {
                    [PathStep::Index(own), rest @ ..] if *own == index => {
                        Some(TextReplacement { steps: rest, ..want.clone() })
                    }
                    _ => None,
                })
                .collect(),
        };
        for edit in edit_document(TextEncoding::Yaml, &text[range.clone()], &own) {
            let Range { start, end } = edit.range;
            edits.push(TextEdit { range: range.start + start..range.start + end, ..edit });
        }
    }
    edits
}

/// Turns edits of the value of a scalar into edits of the text in which the scalar is written.
fn lift_edits(source: &str, scalar: &SourceScalar, edits: Vec<TextEdit>) -> Vec<TextEdit> {
    let Some(written) = source.get(scalar.range.clone()).filter(|_| !edits.is_empty()) else {
        return vec![];
    };
    // An alias is written `*name`, so its value is not in the text: it is replaced by a scalar of
    // its own, and other users of the anchor keep the old value until they are edited themselves.
    if scalar.style != ScalarNotation::Alias
        && let Some(edits) = edits.iter().map(|edit| place_edit(scalar, written, edit)).collect()
    {
        return edits;
    }
    let new = apply_edits(&scalar.value, edits);
    let new = match scalar.style {
        ScalarNotation::Plain | ScalarNotation::Alias if needs_no_quotes(&new) => new,
        ScalarNotation::Plain | ScalarNotation::Alias | ScalarNotation::Quoted => quote_json(&new),
        // Mostly base64 gets here: other blocks contain their words unchanged. Base64 wrapped
        // over several lines becomes one line; a block that would still have several is left alone,
        // and the proof reports it.
        ScalarNotation::Block => {
            let end = &written[written.trim_end().len()..];
            let line = new.trim();
            if line.contains('\n') {
                return vec![];
            }
            format!("{line}{end}")
        }
    };
    vec![TextEdit { range: scalar.range.clone(), new }]
}

/// Moves one edit from the value to the written text: the n-th occurrence of a word in the value is
/// the n-th in the written text. `None` if the numbers of occurrences differ because of escapes or
/// folded lines, or if the new word would need quotes.
fn place_edit(scalar: &SourceScalar, written: &str, edit: &TextEdit) -> Option<TextEdit> {
    let old = scalar.value.get(edit.range.clone()).filter(|old| !old.is_empty())?;
    let mut said = scalar.value.match_indices(old);
    let number = said.position(|(start, _)| start == edit.range.start)?;
    let behind = said.count();
    let escapes = list_escapes(written);
    let is_literal = |(start, _): &(usize, &str)| {
        let is_cut =
            |escape: &Range<usize>| escape.start < start + old.len() && *start < escape.end;
        !escapes.iter().any(is_cut)
    };
    let mut all = written.match_indices(old).filter(is_literal);
    let (start, _) = all.nth(number)?;
    if all.count() != behind || scalar.style == ScalarNotation::Plain && !needs_no_quotes(&edit.new)
    {
        return None;
    }
    let start = scalar.range.start + start;
    Some(TextEdit { range: start..start + old.len(), new: edit.new.clone() })
}

/// The byte ranges of the escapes in a scalar as it is written: `\x31`, `\n`. Only double quotes have
/// escapes (YAML 1.2.2, 5.7; TOML 1.0, String). A word that begins in one is not in the text:
/// `"\x310.0.0.1"` is `10.0.0.1`, of which the first letter is the escape.
fn list_escapes(written: &str) -> Vec<Range<usize>> {
    let mut escapes = Vec::new();
    if !written.starts_with('"') {
        return escapes;
    }
    let mut start = 0;
    while let Some(found) = written[start..].find('\\') {
        start += found;
        let letter = written[start + 1..].chars().next();
        let length = match letter {
            Some('x') => 4,
            Some('u') => 6,
            Some('U') => 10,
            Some(letter) => 1 + letter.len_utf8(),
            None => 1,
        };
        let mut end = (start + length).min(written.len());
        while !written.is_char_boundary(end) {
            end += 1;
        }
        escapes.push(start..end);
        start = end;
    }
    escapes
}

/// Whether a reference or base64 can be a YAML scalar without quotes. One that starts with `[`, as
/// the IPv6 address of a registry does, would be read as a list.
fn needs_no_quotes(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-_:@+=".contains(&b))
        && !text.ends_with(':')
}

/// Writes a JSON string, which is a valid double-quoted string of YAML and TOML as well.
fn quote_json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Computes the edits that replace a word wherever it is not a part of a longer word.
fn edit_words(text: &str, want: &TextReplacement) -> Vec<TextEdit> {
    let TextReplacement { from, to, word, .. } = want;
    let starts = text.match_indices(from).map(|(start, _)| start);
    let alone = starts.filter(|start| stands_alone(text, *start, start + from.len(), *word));
    alone
        .map(|start| TextEdit { range: start..start + from.len(), new: (*to).to_owned() })
        .collect()
}

/// Whether the bytes `start..end` are a word of their own: `redis` is not in `my-redis` or
/// `redis/x`.
fn stands_alone(text: &str, start: usize, end: usize, word: ReplacedWord) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "./-_".contains(c);
    let is_version = |c: char| ":@".contains(c);
    let before = text[..start].chars().next_back();
    let behind = text[end..].chars().next();
    let is_own = match word {
        ReplacedWord::Reference => |c: char| ":@".contains(c),
        ReplacedWord::Name => |_| false,
    };
    if before.is_some_and(|c| is_part(c) || is_own(c)) {
        return false;
    }
    if behind.is_some_and(is_version) && word == ReplacedWord::Name {
        return true;
    }
    // Punctuation at the end of a sentence or a line of a script is not part of the reference.
    let behind = text[end..].trim_start_matches(['.', ':', '\\']);
    let is_ended = behind.len() < text.len() - end && behind.starts_with(is_word_separator);
    is_ended || behind.is_empty() || !text[end..].starts_with(|c| is_part(c) || is_version(c))
}

/// Applies edits to a text. Where two overlap, the one that starts first wins; of two with the same
/// start, the longer one.
fn apply_edits(text: &str, mut edits: Vec<TextEdit>) -> String {
    edits.sort_by_key(|edit| (edit.range.start, std::cmp::Reverse(edit.range.end)));
    let mut result = String::with_capacity(text.len());
    let mut end = 0;
    for edit in edits {
        if edit.range.start >= end
            && let Some(kept) = text.get(end..edit.range.start)
        {
            result.push_str(kept);
            result.push_str(&edit.new);
            end = edit.range.end;
        }
    }
    result.push_str(&text[end..]);
    result
}
