//! Image indexes that were rewritten for a registry that refuses sparse indexes (those that list
//! manifests which the registry does not have): how they are written, and how they are recognised.
//!
//! `load` writes them and skips them in the next run; `check` recognises them in a registry without
//! a receipt. So both take the rules from here.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::json::{MAX_JSON_NODES, parse_json};
use crate::{Digest, Error, Manifest, Result, annotation};

/// How the manifests that an index lists compare with those that are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexCoverage {
    /// It lists exactly the carried manifests.
    Complete,
    /// It lists carried manifests only, but not this one.
    Lacks(Digest),
    /// It is no index, or lists a manifest that is not carried.
    Foreign,
}

/// Compares an index with the manifests that are carried. A manifest that is no index is foreign.
pub fn compare_with_carried(index: &Manifest, carried: &BTreeSet<Digest>) -> IndexCoverage {
    let listed: BTreeSet<Digest> = index.manifests.iter().map(|child| child.digest).collect();
    // An index without manifests names no locked content, so it stands for no locked image.
    if listed.is_empty() || !listed.is_subset(carried) {
        return IndexCoverage::Foreign;
    }
    match carried.difference(&listed).next() {
        Some(missing) => IndexCoverage::Lacks(*missing),
        None => IndexCoverage::Complete,
    }
}

/// Whether an index is the rewritten form of the index `from`: it names `from` in its annotation,
/// and has exactly the carried manifests.
pub fn is_rewritten_from(index: &Manifest, from: &Digest, carried: &BTreeSet<Digest>) -> bool {
    index.annotations.get(annotation::WRITTEN_FROM) == Some(&from.to_string())
        && compare_with_carried(index, carried) == IndexCoverage::Complete
}

/// What happens to a manifest that an index lists, when the index is rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexEntryChange {
    /// It stays.
    Keep,
    /// It is not carried, or the registry does not take it: it is removed.
    Remove,
    /// It is an index that the registry refuses, with these bytes: what it lists takes its place.
    Flatten(Vec<u8>),
    /// The registry keeps the same bytes under another digest.
    Rename(Digest),
}

/// Rewrites an index: removes the manifests that are not carried, puts what a refused inner index lists
/// in its place, gives manifests the digests that the registry has them under, and notes the original digest in an annotation. Works on the JSON itself, so that
/// fields which Gantry does not know stay. `name` is what errors call the index.
///
/// ```text
/// index A: [B amd64, index C: [D arm64, E s390x]]       E is not carried
///   ──▶ A': [B amd64, D arm64], written from A
/// ```
pub fn rewrite_index(
    name: &str,
    bytes: &[u8],
    from: &Digest,
    change_of: impl Fn(&Digest) -> IndexEntryChange,
) -> Result<Vec<u8>> {
    let error = |cause: serde_json::Error| Error::Document {
        document: name.to_owned(),
        line: 0,
        column: 0,
        message: cause.into(),
    };
    let mut index: Value = parse_json(name, "an image index", bytes, MAX_JSON_NODES)?;
    if let Some(manifests) = index.get_mut("manifests").and_then(|value| value.as_array_mut()) {
        let mut changed = Vec::new();
        let mut flattened = BTreeSet::new();
        let listed = std::mem::take(manifests);
        change_entries(name, listed, &change_of, &mut flattened, &mut changed)?;
        *manifests = changed;
    }
    if let Some(index) = index.as_object_mut() {
        let annotations = index.entry("annotations").or_insert_with(|| json!({}));
        // Go programs write `null` for an empty map.
        if annotations.is_null() {
            *annotations = json!({});
        }
        annotations[annotation::WRITTEN_FROM] = json!(from);
    }
    serde_json::to_vec(&index).map_err(error)
}

fn change_entries(
    name: &str,
    entries: Vec<Value>,
    change_of: &impl Fn(&Digest) -> IndexEntryChange,
    flattened: &mut BTreeSet<Digest>,
    changed: &mut Vec<Value>,
) -> Result<()> {
    for entry in entries {
        let digest = entry.get("digest").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let Some(digest) = digest else {
            changed.push(entry);
            continue;
        };
        match change_of(&digest) {
            IndexEntryChange::Keep => changed.push(entry),
            IndexEntryChange::Remove => {}
            IndexEntryChange::Rename(digest) => {
                let mut entry = entry;
                entry["digest"] = json!(digest);
                changed.push(entry);
            }
            // Each inner index once: nested ones that list each other many times would grow without end.
            IndexEntryChange::Flatten(_) if !flattened.insert(digest) => {}
            IndexEntryChange::Flatten(bytes) => {
                let mut inner: Value = parse_json(name, "an image index", &bytes, MAX_JSON_NODES)?;
                let listed = inner.get_mut("manifests").and_then(Value::as_array_mut);
                let listed = listed.map(std::mem::take).unwrap_or_default();
                change_entries(name, listed, change_of, flattened, changed)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::Sha256([n; 32])
    }

    fn index_of(children: &[u8], annotations: &serde_json::Value) -> Vec<u8> {
        let manifests: Vec<_> = children
            .iter()
            .map(|n| json!({"mediaType": "m", "digest": digest(*n), "size": 1, "unknown": true}))
            .collect();
        let index =
            json!({"schemaVersion": 2, "manifests": manifests, "annotations": annotations, "x": 1});
        serde_json::to_vec(&index).unwrap()
    }

    #[test]
    fn what_was_rewritten_is_recognised_and_keeps_unknown_fields() {
        let bytes = index_of(&[1, 2, 3], &serde_json::Value::Null);

        let change_of = |listed: &Digest| match *listed == digest(3) {
            true => IndexEntryChange::Remove,
            false => IndexEntryChange::Keep,
        };
        let rewritten = rewrite_index("i", &bytes, &digest(9), change_of).unwrap();

        let text = String::from_utf8(rewritten.clone()).unwrap();
        assert!(text.contains("\"x\":1") && text.contains("\"unknown\":true"), "{text}");
        let index = Manifest::parse("i", &rewritten).unwrap();
        let carried = |all: &[u8]| all.iter().map(|n| digest(*n)).collect::<BTreeSet<_>>();
        assert!(is_rewritten_from(&index, &digest(9), &carried(&[1, 2])));
        assert!(!is_rewritten_from(&index, &digest(8), &carried(&[1, 2])));
        assert!(!is_rewritten_from(&index, &digest(9), &carried(&[1, 2, 3])));
    }

    #[test]
    fn what_a_refused_inner_index_lists_takes_its_place() {
        // One manifest for two platforms is listed twice, and stays so.
        let outer = index_of(&[1, 1, 7, 7], &json!({}));
        let change_of = |listed: &Digest| match listed {
            seven if *seven == digest(7) => {
                IndexEntryChange::Flatten(index_of(&[2, 3, 8, 8], &json!({})))
            }
            // An index that lists another one again and again is flattened once.
            eight if *eight == digest(8) => {
                IndexEntryChange::Flatten(index_of(&[8, 4], &json!({})))
            }
            three if *three == digest(3) => IndexEntryChange::Remove,
            _ => IndexEntryChange::Keep,
        };

        let rewritten = rewrite_index("i", &outer, &digest(9), change_of).unwrap();

        let index = Manifest::parse("i", &rewritten).unwrap();
        let listed: Vec<Digest> = index.manifests.iter().map(|child| child.digest).collect();
        assert_eq!(listed, [1, 1, 2, 4].map(digest));
    }

    #[test]
    fn an_index_is_compared_with_all_that_is_carried() {
        let carried: BTreeSet<Digest> = [digest(1), digest(2)].into();
        for (children, coverage) in [
            (&[1, 2][..], IndexCoverage::Complete),
            (&[2, 1, 1], IndexCoverage::Complete),
            (&[1], IndexCoverage::Lacks(digest(2))),
            (&[1, 2, 3], IndexCoverage::Foreign),
            (&[], IndexCoverage::Foreign),
        ] {
            let index = Manifest::parse("i", &index_of(children, &json!({}))).unwrap();
            assert_eq!(compare_with_carried(&index, &carried), coverage, "{children:?}");
        }
    }
}
