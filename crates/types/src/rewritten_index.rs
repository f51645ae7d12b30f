//! Image indexes that were rewritten for a registry that refuses sparse indexes (those that list
//! manifests which the registry does not have): how they are written, and how they are recognised.
//!
//! `load` writes them and skips them in the next run; `check` recognises them in a registry without
//! a receipt. So both take the rules from here.

use std::collections::BTreeSet;

use serde_json::json;

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

/// Rewrites an index: removes the manifests that are not carried, and notes the original digest in
/// an annotation. Works on the JSON itself, so that fields which Gantry does not know stay. `name`
/// is what errors call the index.
pub fn rewrite_index(
    name: &str,
    bytes: &[u8],
    from: &Digest,
    is_missing: impl Fn(&Digest) -> bool,
) -> Result<Vec<u8>> {
    let error = |cause: serde_json::Error| Error::Document {
        document: name.to_owned(),
        line: 0,
        column: 0,
        message: cause.into(),
    };
    let mut index: serde_json::Value = parse_json(name, "an image index", bytes, MAX_JSON_NODES)?;
    if let Some(manifests) = index.get_mut("manifests").and_then(|value| value.as_array_mut()) {
        manifests.retain(|manifest| {
            let digest = manifest.get("digest").and_then(|value| value.as_str());
            digest.and_then(|text| text.parse().ok()).is_none_or(|digest| !is_missing(&digest))
        });
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
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

        let rewritten = rewrite_index("i", &bytes, &digest(9), |one| *one == digest(3)).unwrap();

        let text = String::from_utf8(rewritten.clone()).unwrap();
        assert!(text.contains("\"x\":1") && text.contains("\"unknown\":true"), "{text}");
        let index = Manifest::parse("i", &rewritten).unwrap();
        let carried = |all: &[u8]| all.iter().map(|n| digest(*n)).collect::<BTreeSet<_>>();
        assert!(is_rewritten_from(&index, &digest(9), &carried(&[1, 2])));
        assert!(!is_rewritten_from(&index, &digest(8), &carried(&[1, 2])));
        assert!(!is_rewritten_from(&index, &digest(9), &carried(&[1, 2, 3])));
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
