//! Asks a site's registry which digests it has, where no receipt says so: a registry may have taken an
//! index of which only some platforms were loaded, or have another one in its place.

use futures::stream::{self, StreamExt};
use types::naming::RegistryPrefix;
use types::receipt::{Receipt, ReceiptRoot};
use types::rewritten_index::IndexCoverage;
use types::site_content::{DigestRole, SiteRoot};

use crate::Result;
use crate::oci::{FetchedManifest, RegistryClient};

/// Requests at the same time.
const REQUESTS: usize = 16;

/// A receipt of what the registry has of these roots under their names, with the digests that it has
/// for them. What it does not have, or has with other content, is left out.
///
/// # Errors
/// The registry does not answer, or refuses to.
pub async fn read_site_receipt(
    registry: &RegistryClient,
    prefix: &RegistryPrefix,
    roots: impl IntoIterator<Item = &SiteRoot>,
) -> Result<Receipt> {
    let mut answers = stream::iter(roots)
        .map(|root| async move {
            // `load` writes what has a tag under its tag alone.
            let name = match root.target().tag() {
                Some(tag) => root.target().with_tag(tag)?,
                None => root.target().clone(),
            };
            let found = registry.find_manifest(&name).await?;
            Ok::<_, crate::Error>(found.and_then(|found| to_receipt_root(root, &found)))
        })
        .buffer_unordered(REQUESTS);
    let mut held = Vec::new();
    while let Some(answer) = answers.next().await {
        held.extend(answer?);
    }
    Ok(Receipt::new(prefix.to_string(), held, Vec::new()))
}

fn to_receipt_root(root: &SiteRoot, found: &FetchedManifest) -> Option<ReceiptRoot> {
    let digest = found.descriptor.digest;
    let is_same = digest == root.digest();
    let is_rewritten = || match root.compare_index(&found.manifest) {
        IndexCoverage::Complete => true,
        // A registry that takes no attestations.
        IndexCoverage::Lacks(missing) => root.role_of(&missing) == Some(DigestRole::Attestation),
        IndexCoverage::Foreign => false,
    };
    (is_same || is_rewritten()).then(|| ReceiptRoot {
        name: root.source().clone(),
        kind: root.kind(),
        digest: root.digest(),
        target: root.target().to_string(),
        rewritten: (!is_same).then_some(digest),
    })
}
