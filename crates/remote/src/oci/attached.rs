//! Finds the content that is attached to an image: signatures, SBOMs and attestations, as referrers
//! and under cosign's tags. They are carried with the image, so that it can be verified on the other
//! side.

use std::collections::HashSet;

use futures::future::try_join_all;
use store::Store;
use types::{Descriptor, Digest, DigestAlgorithm, Reference, lock};

use super::registry::{FetchedManifest, ReferrersOrigin, RegistryClient};
use crate::Result;
use crate::lock_manifest::to_lock_manifest;

/// cosign 2 stores signatures, attestations and SBOMs under the tags `sha256-<hex>.<suffix>`.
const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];
/// The types of signatures that are stored as referrers: by cosign 3, by cosign 2 with
/// `--registry-referrers-mode=oci-1-1`, and by notation.
const SIGNATURE_TYPES: [&str; 3] = [
    "application/vnd.dev.sigstore.bundle",
    "application/vnd.dev.cosign.",
    "application/vnd.cncf.notary.signature",
];
/// Limit for referrers of referrers: the signature of an image's SBOM is found in the second round.
const MAX_DEPTH: usize = 4;

/// Finds all content that is attached to the given manifests of a repository, directly or to other
/// attached content, and writes its manifests to the store. The repository must be readable: a
/// refusal of what is attached counts as its absence.
///
/// The referrers API is asked first. Where it is missing or lists no signature of a manifest, cosign's
/// tags are asked for it by HEAD requests, which registries do not count.
pub(super) async fn find_attached_content(
    registry: &RegistryClient,
    store: &Store,
    reference: &Reference,
    subjects: Vec<Digest>,
) -> Result<Vec<lock::LockedAttachment>> {
    let mut found = Vec::new();
    // Breadth first: each round asks for the referrers of what the round before found. `seen` ends
    // it also where manifests refer to each other.
    let mut seen: HashSet<Digest> = subjects.iter().copied().collect();
    let mut round = subjects;
    for depth in 0..MAX_DEPTH {
        let lists = try_join_all(
            round
                .iter()
                .map(|digest| registry.look_up_referrers(store, reference.repository(), digest)),
        )
        .await?;
        if depth == 0 {
            let unsigned = round.iter().zip(&lists).filter(|(_, (list, origin))| {
                *origin == ReferrersOrigin::Tag || !has_signature(list)
            });
            let unsigned: Vec<&Digest> = unsigned.map(|(digest, _)| digest).collect();
            found.extend(find_cosign_tags(registry, store, reference, &unsigned).await?);
        }
        let names: Vec<Reference> = lists
            .into_iter()
            .flat_map(|(list, _)| list)
            .filter(|descriptor| seen.insert(descriptor.digest))
            .map(|descriptor| reference.with_digest(descriptor.digest))
            .collect();
        let referrers =
            try_join_all(names.iter().map(|name| registry.look_up_manifest(store, name))).await?;
        round = names.iter().filter_map(|name| name.digest().copied()).collect();
        found.extend(
            names.into_iter().zip(&referrers).map(|(name, fetched)| lock_attachment(name, fetched)),
        );
        if round.is_empty() {
            break;
        }
    }
    Ok(found)
}

fn has_signature(referrers: &[Descriptor]) -> bool {
    referrers
        .iter()
        .filter_map(|descriptor| descriptor.artifact_type.as_deref())
        .any(|kind| SIGNATURE_TYPES.iter().any(|signature| kind.starts_with(signature)))
}

/// Looks up what cosign stored under tags for these manifests.
async fn find_cosign_tags(
    registry: &RegistryClient,
    store: &Store,
    reference: &Reference,
    subjects: &[&Digest],
) -> Result<Vec<lock::LockedAttachment>> {
    let tags: Vec<Reference> = subjects
        .iter()
        // No tag can have the digits of a longer digest, and cosign signs no such manifest.
        .filter(|digest| digest.algorithm() == DigestAlgorithm::Sha256)
        .flat_map(|digest| {
            COSIGN_SUFFIXES.map(|suffix| format!("{}.{suffix}", digest.dashed_text()))
        })
        .map(|tag| reference.with_tag(&tag))
        .collect::<types::Result<_>>()?;
    let by_tag =
        try_join_all(tags.iter().map(|tag| registry.look_up_optional_manifest(store, tag))).await?;
    Ok(tags
        .into_iter()
        .zip(by_tag)
        .filter_map(|(name, fetched)| Some(lock_attachment(name, &fetched?)))
        .collect())
}

/// Attached content as a lock describes it.
fn lock_attachment(reference: Reference, fetched: &FetchedManifest) -> lock::LockedAttachment {
    // An artifact without `artifactType` has the media type of its config (image-spec 1.1,
    // manifest.md).
    let artifact_type = fetched
        .manifest
        .artifact_type
        .clone()
        .or_else(|| fetched.manifest.config.as_ref().map(|config| config.media_type.clone()));
    lock::LockedAttachment {
        reference,
        artifact_type,
        manifest: to_lock_manifest(&fetched.descriptor, &fetched.manifest, None),
    }
}
