//! Resolves an image reference to all digests that a lock needs: index, manifests of the wanted
//! platforms, configs, layers and attached content.

use std::collections::HashSet;

use futures::future::try_join_all;
use http::StatusCode;
use net::RepeatPolicy;
use store::Store;
use types::descriptor::PlatformObject;
use types::{Digest, Manifest, Platform, Reference, lock, media_type};

use super::attached::find_attached_content;
use super::registry::{FetchedManifest, RegistryClient};
use crate::lock_manifest::to_lock_manifest;
use crate::{Error, Result};

/// Limit for an image's config. Real ones have a few KB.
const MOST_CONFIG_BYTES: u64 = 8 << 20;

/// BuildKit stores attestations in the index itself; this annotation names the manifest that one
/// describes (BuildKit, docs/attestations/attestation-storage.md).
const ATTESTATION_OF: &str = "vnd.docker.reference.digest";

/// How many of the wanted platforms an image must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformRequirement {
    /// All of them: the input names platforms for this very image.
    All,
    /// At least one: the platforms are those of the whole input, and not every image has all.
    Any,
}

/// Looks up an image and returns its entry in a lock; `seen` is left empty for the caller. The
/// manifests, and the configs that had to be read, are written to the store.
/// [`Error::NoPlatform`] when it does not have the platforms that `want` requires.
pub async fn inspect_image(
    registry: &RegistryClient,
    store: &Store,
    reference: &Reference,
    platforms: &[Platform],
    want: PlatformRequirement,
) -> Result<lock::LockedImage> {
    let root = registry.get_manifest(reference).await?;
    store.put_bytes(&root.bytes)?;
    let manifests = if root.manifest.is_index() {
        fetch_index_manifests(registry, store, reference, &root, platforms, want).await?
    } else {
        let platform = read_platform(registry, store, reference, &root.manifest).await?;
        if let Some(platform) = &platform
            && !platforms.iter().any(|wanted| platform.satisfies(wanted))
        {
            return Err(no_platform_error(reference, platforms.iter(), std::iter::once(platform)));
        }
        vec![to_lock_manifest(&root.descriptor, &root.manifest, platform)]
    };
    // Signatures may be attached to the index as well as to the manifest of a single platform.
    let mut subjects: Vec<Digest> = vec![root.descriptor.digest];
    subjects.extend(manifests.iter().map(|manifest| manifest.digest));
    subjects.dedup();
    let attached = find_attached_content(registry, store, reference, subjects).await?;
    Ok(lock::LockedImage {
        reference: reference.clone(),
        digest: root.descriptor.digest,
        media_type: root.descriptor.media_type,
        size: root.descriptor.size,
        platforms: platforms.to_vec(),
        from: None,
        manifests,
        attached,
        seen: Vec::new(),
    })
}

/// Downloads the manifests of an index for the wanted platforms, and the attestations for them.
async fn fetch_index_manifests(
    registry: &RegistryClient,
    store: &Store,
    reference: &Reference,
    root: &FetchedManifest,
    platforms: &[Platform],
    want: PlatformRequirement,
) -> Result<Vec<lock::LockedManifest>> {
    let all = &root.manifest.manifests;
    let platform =
        |d: &types::Descriptor| d.platform.as_ref().and_then(PlatformObject::to_platform);
    let is_wanted = |platform: &Platform| platforms.iter().any(|w| platform.satisfies(w));
    let missing: Vec<&Platform> = platforms
        .iter()
        .filter(|wanted| !all.iter().filter_map(platform).any(|have| have.satisfies(wanted)))
        .collect();
    let is_enough = match want {
        PlatformRequirement::All => missing.is_empty(),
        PlatformRequirement::Any => missing.len() < platforms.len(),
    };
    let mut chosen: Vec<_> =
        all.iter().filter(|d| platform(d).is_some_and(|platform| is_wanted(&platform))).collect();
    let has_platforms = all.iter().any(|descriptor| descriptor.platform.is_some());
    if platforms.iter().any(Platform::is_all) || chosen.is_empty() && !has_platforms {
        // All of it was asked for, or it is an index of artifacts without platforms.
        chosen = all.iter().collect();
    } else if !is_enough {
        let available: Vec<Platform> = all.iter().filter_map(platform).collect();
        return Err(no_platform_error(reference, missing.into_iter(), available.iter()));
    }
    // Attestations have the platform `unknown/unknown`, so they are found by what they describe.
    let digests: Vec<String> = chosen.iter().map(|d| d.digest.to_string()).collect();
    chosen.extend(all.iter().filter(|descriptor| {
        descriptor.annotations.get(ATTESTATION_OF).is_some_and(|of| digests.contains(of))
    }));
    // Some indexes list a manifest twice, for a platform and for its variant.
    let mut seen = HashSet::new();
    chosen.retain(|descriptor| seen.insert(descriptor.digest));
    let fetched = try_join_all(chosen.iter().map(|descriptor| async {
        registry.get_manifest(&reference.with_digest(descriptor.digest)).await
    }))
    .await?;
    let mut manifests = Vec::new();
    for (descriptor, fetched) in chosen.into_iter().zip(&fetched) {
        store.put_bytes(&fetched.bytes)?;
        manifests.push(to_lock_manifest(
            &fetched.descriptor,
            &fetched.manifest,
            platform(descriptor),
        ));
    }
    Ok(manifests)
}

/// The platform of an image without an index, from its config. `None` for artifacts, whose config
/// has another media type.
async fn read_platform(
    registry: &RegistryClient,
    store: &Store,
    reference: &Reference,
    manifest: &Manifest,
) -> Result<Option<Platform>> {
    let Some(config) = manifest.config.as_ref().filter(|config| {
        matches!(config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
    }) else {
        return Ok(None);
    };
    let what = format!("the config of {reference}");
    let request = registry.blob_request(reference.repository(), &config.digest)?;
    let response = registry
        .client()
        .send(&request, RepeatPolicy::Safe)
        .await
        .map_err(Error::from_net(&what))?;
    if response.status() == StatusCode::NOT_FOUND {
        let hint =
            "the registry has the image's manifest but not its config; push the image there again"
                .into();
        return Err(Error::NotFound { what, hint });
    }
    let response = response.require_success().await.map_err(Error::from_net(&what))?;
    let bytes = response.read_bytes(MOST_CONFIG_BYTES).await.map_err(Error::from_net(&what))?;
    let actual = store.put_bytes(&bytes)?;
    if actual != config.digest {
        return Err(Error::DigestMismatch {
            server: registry.host().to_owned(),
            what,
            expected: config.digest.to_string(),
            actual: actual.to_string(),
        });
    }
    let field: Result<PlatformObject, _> = serde_json::from_slice(&bytes);
    Ok(field.ok().and_then(|field| field.to_platform()))
}

fn no_platform_error<'a>(
    reference: &Reference,
    wanted: impl Iterator<Item = &'a Platform>,
    available: impl Iterator<Item = &'a Platform>,
) -> Error {
    let join = |mut list: Vec<String>| {
        list.dedup();
        list.join(", ")
    };
    Error::NoPlatform {
        reference: reference.to_string(),
        wanted: join(wanted.map(Platform::to_string).collect()),
        available: join(available.map(Platform::to_string).collect()),
    }
}
