//! What speaks of an image: cosign's tags, and referrers (signatures, SBOMs, attestations).

use std::collections::HashSet;

use futures::future::try_join_all;
use store::Store;
use types::{Digest, Reference, lock};

use super::registry::{Fetched, Registry};
use crate::Result;

/// cosign 2 keeps signatures, attestations and SBOMs under these tags (`spec/interop.md`).
const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];
/// A signature of an SBOM of an image is three deep; more than that is a loop.
const MAX_DEPTH: usize = 4;

/// Everything that speaks of the given manifests of a repository; its manifests go into the store.
pub(super) async fn attached(
    registry: &Registry,
    store: &Store,
    reference: &Reference,
    subjects: Vec<Digest>,
) -> Result<Vec<lock::Attached>> {
    let mut found = Vec::new();
    let tags: Vec<Reference> = subjects
        .iter()
        .flat_map(|digest| {
            COSIGN_SUFFIXES.map(|suffix| format!("sha256-{}.{suffix}", digest.hex()))
        })
        .map(|tag| reference.with_tag(&tag))
        .collect::<types::Result<_>>()?;
    let by_tag = try_join_all(tags.iter().map(|tag| registry.find(tag))).await?;
    for (name, fetched) in tags.into_iter().zip(by_tag) {
        if let Some(fetched) = fetched {
            found.push(keep(store, name, &fetched)?);
        }
    }
    let mut seen: HashSet<Digest> = subjects.iter().copied().collect();
    let mut round = subjects;
    for _ in 0..MAX_DEPTH {
        let lists = try_join_all(
            round.iter().map(|digest| registry.referrers(reference.repository(), digest)),
        )
        .await?;
        let names: Vec<Reference> = lists
            .into_iter()
            .flatten()
            .filter(|descriptor| seen.insert(descriptor.digest))
            .map(|descriptor| reference.with_digest(descriptor.digest))
            .collect();
        let referrers = try_join_all(names.iter().map(|name| registry.manifest(name))).await?;
        round = names.iter().filter_map(|name| name.digest().copied()).collect();
        for (name, fetched) in names.into_iter().zip(&referrers) {
            found.push(keep(store, name, fetched)?);
        }
        if round.is_empty() {
            break;
        }
    }
    Ok(found)
}

fn keep(store: &Store, reference: Reference, fetched: &Fetched) -> Result<lock::Attached> {
    store.put_bytes(&fetched.bytes)?;
    // An artifact without a type of its own has that of its config (image-spec 1.1, manifest.md).
    let artifact_type = fetched
        .manifest
        .artifact_type
        .clone()
        .or_else(|| fetched.manifest.config.as_ref().map(|config| config.media_type.clone()));
    Ok(lock::Attached { reference, artifact_type, manifest: super::inspect::locked(fetched, None) })
}
