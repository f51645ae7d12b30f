//! Parses YAML of helm and of chart authors, as leniently as helm does. Gantry's own files are
//! parsed strictly, by `types::yaml`.

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Limit for the nodes of one document, which bounds memory. The index of Bitnami's repository, the
/// largest known document, has two million.
const MAX_NODES: usize = 5_000_000;

/// Parses a document; `name` is its name in errors. As in helm, unknown keys are ignored, and the
/// last one of duplicate keys counts.
pub(super) fn parse_yaml<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        budget: serde_saphyr::budget! {
            max_events: 2 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_total_scalar_bytes: bytes.len(),
            max_total_comment_bytes: bytes.len(),
        },
    };
    // Some editors on Windows write a byte order mark, which helm removes too.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_saphyr::from_slice_with_options(bytes, options)
        .map_err(|error| Error::invalid_document(name, error.without_snippet().to_string()))
}
