//! YAML that helm and chart authors write: read leniently, where `types::yaml` is strict.

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Events and nodes of one document. The index of bitnami's repository, the largest that is met,
/// has two million.
const MAX_NODES: usize = 20_000_000;

/// Reads a document. Unknown keys are passed over; of a key that stands there twice the last one
/// counts, as in helm.
pub(super) fn read<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
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
    // Some editors of Windows begin a file with a byte order mark, which helm takes away.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_saphyr::from_slice_with_options(bytes, options)
        .map_err(|error| Error::document(name, error.without_snippet().to_string()))
}
