//! Downloads a blob that is used here and not stored: a chart, a set of manifests.

use net::RepeatPolicy;
use types::lock::Blob;

use super::RegistryClient;
use crate::{Error, Result};

/// Downloads a blob of a repository into memory and checks it against its digest. `what` is what
/// errors call it; a blob of more than `most` bytes is refused.
///
/// # Errors
/// [`Error::DigestMismatch`] where the registry sends other bytes.
pub async fn download_document(
    registry: &RegistryClient,
    repository: &str,
    what: &str,
    blob: Blob,
    most: u64,
) -> Result<Vec<u8>> {
    if blob.size > most {
        return Err(Error::TooLarge { what: what.to_owned(), size: blob.size, most });
    }
    let request = registry.blob_request(repository, &blob.digest)?;
    let response = registry
        .client()
        .send(&request, RepeatPolicy::Safe)
        .await
        .map_err(Error::from_net(what))?;
    let response = response.require_success().await.map_err(Error::from_net(what))?;
    let bytes = response.read_bytes(most).await.map_err(Error::from_net(what))?;
    let actual = store::hash::compute_digest(blob.digest.algorithm(), &bytes);
    if actual != blob.digest {
        return Err(Error::DigestMismatch {
            server: registry.host().to_owned(),
            what: what.to_owned(),
            expected: blob.digest.to_string(),
            actual: actual.to_string(),
        });
    }
    Ok(bytes.to_vec())
}
