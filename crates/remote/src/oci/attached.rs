//! Finds the content that is attached to an image: signatures, SBOMs and attestations, under
//! cosign's tags and as referrers. They are carried with the image, so that it can be verified on
//! the other side.

use std::collections::HashSet;

use futures::future::try_join_all;
use store::Store;
use types::{Digest, Reference, lock};

use super::registry::{FetchedManifest, RegistryClient};
use crate::Result;
use crate::lock_manifest::to_lock_manifest;

/// cosign 2 stores signatures, attestations and SBOMs under the tags `sha256-<hex>.<suffix>`.
const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];
/// Limit for referrers of referrers: the signature of an image's SBOM is found in the second round.
const MAX_DEPTH: usize = 4;

/// Finds all content that is attached to the given manifests of a repository, directly or to other
/// attached content, and writes its manifests to the store.
pub(super) async fn find_attached_content(
    registry: &RegistryClient,
    store: &Store,
    reference: &Reference,
    subjects: Vec<Digest>,
) -> Result<Vec<lock::LockedAttachment>> {
    let mut found = Vec::new();
    let tags: Vec<Reference> = subjects
        .iter()
        .flat_map(|digest| {
            COSIGN_SUFFIXES.map(|suffix| format!("sha256-{}.{suffix}", digest.hex()))
        })
        .map(|tag| reference.with_tag(&tag))
        .collect::<types::Result<_>>()?;
    let by_tag = try_join_all(tags.iter().map(|tag| registry.find_manifest(tag))).await?;
    for (name, fetched) in tags.into_iter().zip(by_tag) {
        if let Some(fetched) = fetched {
            found.push(store_attached(store, name, &fetched)?);
        }
    }
    // Breadth first: each round asks for the referrers of what the round before found. `seen` ends
    // it also where manifests refer to each other.
    let mut seen: HashSet<Digest> = subjects.iter().copied().collect();
    let mut round = subjects;
    for _ in 0..MAX_DEPTH {
        let lists = try_join_all(
            round.iter().map(|digest| registry.list_referrers(reference.repository(), digest)),
        )
        .await?;
        let names: Vec<Reference> = lists
            .into_iter()
            .flatten()
            .filter(|descriptor| seen.insert(descriptor.digest))
            .map(|descriptor| reference.with_digest(descriptor.digest))
            .collect();
        let referrers = try_join_all(names.iter().map(|name| registry.get_manifest(name))).await?;
        round = names.iter().filter_map(|name| name.digest().copied()).collect();
        for (name, fetched) in names.into_iter().zip(&referrers) {
            found.push(store_attached(store, name, fetched)?);
        }
        if round.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// Writes a manifest to the store; returns it as a lock describes it.
fn store_attached(
    store: &Store,
    reference: Reference,
    fetched: &FetchedManifest,
) -> Result<lock::LockedAttachment> {
    store.put_bytes(&fetched.bytes)?;
    // An artifact without `artifactType` has the media type of its config (image-spec 1.1,
    // manifest.md).
    let artifact_type = fetched
        .manifest
        .artifact_type
        .clone()
        .or_else(|| fetched.manifest.config.as_ref().map(|config| config.media_type.clone()));
    Ok(lock::LockedAttachment {
        reference,
        artifact_type,
        manifest: to_lock_manifest(&fetched.descriptor, &fetched.manifest, None),
    })
}
