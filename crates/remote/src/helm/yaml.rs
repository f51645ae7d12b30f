//! Parses YAML of helm and of chart authors, as leniently as helm does. Gantry's own files are
//! parsed strictly, by `types::yaml`.

use serde::de::DeserializeOwned;
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::{Error, Result};

/// Limit for the nodes of a `Chart.yaml`, which bounds memory: some 400 bytes for each, since the parser
/// has to keep a document whose last duplicate counts. Real ones have hundreds.
const MAX_METADATA_NODES: usize = 100_000;

/// Limit for the nodes of an index. That of Bitnami's repository, the largest known document, has two
/// million. They are read one after the other, and nothing is kept but what is asked for.
const MAX_INDEX_NODES: usize = 5_000_000;

/// Parses a chart's metadata; `name` is its name in errors. As in helm, unknown keys are ignored, and
/// the last one of duplicate keys counts.
pub(super) fn parse_metadata<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    parse_yaml(name, bytes, DuplicateKeyPolicy::LastWins, MAX_METADATA_NODES)
}

/// Parses a repository's index; `name` is its name in errors. Unknown keys are ignored. Of duplicate
/// keys, which helm refuses, the first one counts.
pub(super) fn parse_index<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    parse_yaml(name, bytes, DuplicateKeyPolicy::FirstWins, MAX_INDEX_NODES)
}

fn parse_yaml<T: DeserializeOwned>(
    name: &str,
    bytes: &[u8],
    duplicate_keys: DuplicateKeyPolicy,
    most_nodes: usize,
) -> Result<T> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        duplicate_keys: duplicate_keys,
        budget: serde_saphyr::budget! {
            max_events: 2 * most_nodes,
            max_nodes: most_nodes,
            max_total_scalar_bytes: bytes.len(),
            max_total_comment_bytes: bytes.len(),
        },
    };
    // Some editors on Windows write a byte order mark, which helm removes too.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_saphyr::from_slice_with_options(bytes, options)
        .map_err(|error| Error::invalid_document(name, error.without_snippet().to_string()))
}
