//! Changes texts in place: through every layer that a path opens (YAML, base64, JSON in a
//! ConfigMap …) down to the words that are meant, and out again. What is not meant keeps every
//! byte.

use std::collections::BTreeMap;
use std::ops::Range;

use base64::Engine as _;

use super::source::{Scalar, Source, Style};
use crate::find::text;
use crate::manifest::Manifests;
use crate::path::{Encoding, Step};

/// A text that is to be another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Want<'a> {
    /// Where it stands, from where one is.
    pub(super) steps: &'a [Step],
    /// What stands there.
    pub(super) from: &'a str,
    /// What has to stand there.
    pub(super) to: &'a str,
    /// What may follow it.
    pub(super) word: Word,
}

/// What a word is in a longer text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    /// A reference as a whole: another tag behind it makes it another one.
    Reference,
    /// The name of an image: tag and digest may follow and stay.
    Name,
}

/// A piece of a text and what comes in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    range: Range<usize>,
    new: String,
}

/// A document with everything that is wanted of it.
pub(super) fn rewritten(document: &str, wants: &[Want]) -> String {
    applied(document, in_document(Encoding::Yaml, document, wants))
}

/// The edits of one document of a structure.
fn in_document(encoding: Encoding, text: &str, wants: &[Want]) -> Vec<Edit> {
    let Some(source) = Source::open(encoding, text) else {
        // It was read by another parser; whole references are found without one.
        let hosted = wants.iter().filter(|want| want.from.contains('/'));
        return hosted.flat_map(|want| words(text, want)).collect();
    };
    let mut by_scalar: BTreeMap<&[Step], Vec<Want>> = BTreeMap::new();
    for want in wants {
        let inside = want.steps.iter().position(|step| matches!(step, Step::Inside(_)));
        let (outer, inner) = want.steps.split_at(inside.unwrap_or(want.steps.len()));
        by_scalar.entry(outer).or_default().push(Want { steps: inner, ..want.clone() });
    }
    let mut edits = Vec::new();
    for (outer, wants) in by_scalar {
        let Some(scalar) = source.scalar(outer) else { continue };
        edits.extend(lifted(text, &scalar, in_text(&scalar.value, &wants)));
    }
    edits
}

/// The edits of what a scalar says.
fn in_text(value: &str, wants: &[Want]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut opened: BTreeMap<Encoding, Vec<Want>> = BTreeMap::new();
    for want in wants {
        match want.steps {
            [] | [Step::Inside(Encoding::Text)] => edits.extend(words(value, want)),
            [Step::Inside(encoding), rest @ ..] => {
                opened.entry(*encoding).or_default().push(Want { steps: rest, ..want.clone() });
            }
            _ => {}
        }
    }
    for (encoding, wants) in opened {
        match encoding {
            Encoding::Base64 => {
                let Some(plain) = text::decode(value) else { continue };
                let new = applied(&plain, in_text(&plain, &wants));
                let bare = value.trim();
                let start = value.find(bare).unwrap_or_default();
                let new = base64::engine::general_purpose::STANDARD.encode(new);
                edits.push(Edit { range: start..start + bare.len(), new });
            }
            Encoding::Yaml => edits.extend(in_stream(value, &wants)),
            _ => edits.extend(in_document(encoding, value, &wants)),
        }
    }
    edits
}

/// The edits of YAML in a text. Of several documents the first step says which.
fn in_stream(text: &str, wants: &[Want]) -> Vec<Edit> {
    let ranges = Manifests::read(text).ranges(text);
    let mut edits = Vec::new();
    for (index, range) in ranges.iter().enumerate() {
        let own: Vec<Want> = match ranges.len() {
            1 => wants.to_vec(),
            _ => wants
                .iter()
                .filter_map(|want| match want.steps {
                    [Step::Index(own), rest @ ..] if *own == index => {
                        Some(Want { steps: rest, ..want.clone() })
                    }
                    _ => None,
                })
                .collect(),
        };
        for edit in in_document(Encoding::Yaml, &text[range.clone()], &own) {
            let Range { start, end } = edit.range;
            edits.push(Edit { range: range.start + start..range.start + end, ..edit });
        }
    }
    edits
}

/// The edits of what a scalar says as edits of how it is written.
fn lifted(source: &str, scalar: &Scalar, edits: Vec<Edit>) -> Vec<Edit> {
    let Some(written) = source.get(scalar.range.clone()).filter(|_| !edits.is_empty()) else {
        return vec![];
    };
    if scalar.style != Style::Alias
        && let Some(edits) = edits.iter().map(|edit| placed(scalar, written, edit)).collect()
    {
        return edits;
    }
    let new = applied(&scalar.value, edits);
    let new = match scalar.style {
        Style::Plain | Style::Alias if is_plain(&new) => new,
        Style::Plain | Style::Alias | Style::Quoted => quoted(&new),
        // Base64 on several lines comes back on one. Other blocks are changed where it stands.
        Style::Block => {
            let end = &written[written.trim_end().len()..];
            let line = new.trim();
            if line.contains('\n') {
                return vec![];
            }
            format!("{line}{end}")
        }
    };
    vec![Edit { range: scalar.range.clone(), new }]
}

/// Where an edit of the value stands in how it is written: the same one of its equals. `None` where
/// escapes or folded lines make them differ.
fn placed(scalar: &Scalar, written: &str, edit: &Edit) -> Option<Edit> {
    let old = scalar.value.get(edit.range.clone()).filter(|old| !old.is_empty())?;
    let mut said = scalar.value.match_indices(old);
    let number = said.position(|(start, _)| start == edit.range.start)?;
    let behind = said.count();
    let mut all = written.match_indices(old);
    let (start, _) = all.nth(number)?;
    if all.count() != behind || scalar.style == Style::Plain && !is_plain(&edit.new) {
        return None;
    }
    let start = scalar.range.start + start;
    Some(Edit { range: start..start + old.len(), new: edit.new.clone() })
}

/// Whether a reference or base64 needs no quotes: what has letters, digits and their marks does not
/// unless it starts like a list, as the address of a registry may.
fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./-_:@+=".contains(&b))
        && !text.ends_with(':')
}

/// A JSON string is one of YAML and of TOML as well.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The edits that change a word wherever it stands by itself.
fn words(text: &str, want: &Want) -> Vec<Edit> {
    let Want { from, to, word, .. } = want;
    let starts = text.match_indices(from).map(|(start, _)| start);
    let alone = starts.filter(|start| stands_alone(text, *start, start + from.len(), *word));
    alone.map(|start| Edit { range: start..start + from.len(), new: (*to).to_owned() }).collect()
}

fn stands_alone(text: &str, start: usize, end: usize, word: Word) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "./-_".contains(c);
    let is_version = |c: char| ":@".contains(c);
    let before = text[..start].chars().next_back();
    let behind = text[end..].chars().next();
    let is_own = match word {
        Word::Reference => |c: char| ":@".contains(c),
        Word::Name => |_| false,
    };
    if before.is_some_and(|c| is_part(c) || is_own(c)) {
        return false;
    }
    if behind.is_some_and(is_version) && word == Word::Name {
        return true;
    }
    // What ends a sentence or a line of a script is none of it.
    let behind = text[end..].trim_start_matches(['.', ':', '\\']);
    let is_ended = behind.len() < text.len() - end && behind.starts_with(text::is_between);
    is_ended || behind.is_empty() || !text[end..].starts_with(|c| is_part(c) || is_version(c))
}

/// A text with its edits made; of two on the same spot the longer one.
fn applied(text: &str, mut edits: Vec<Edit>) -> String {
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
