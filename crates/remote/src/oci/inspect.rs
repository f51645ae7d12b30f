//! Resolves an image reference to all digests that a lock needs: index, manifests of the wanted
//! platforms, configs, layers and attached content.

use http::StatusCode;
use net::RepeatPolicy;
use store::{Source as _, Store};
use types::descriptor::PlatformObject;
use types::input::AttachedContent;
use types::{Digest, Manifest, Platform, Reference, lock, media_type};

use super::attached::find_attached_content;
use super::index_tree::{ChosenManifests, PlatformRequirement, WantedPlatforms, choose_manifests};
use super::registry::RegistryClient;
use crate::lock_manifest::to_lock_manifest;
use crate::{Error, Result};

/// Limit for an image's config. Real ones have a few KB.
const MOST_CONFIG_BYTES: u64 = 8 << 20;

/// An image to look up.
#[derive(Debug, Clone, Copy)]
pub struct ImageQuery<'a> {
    /// Its name.
    pub reference: &'a Reference,
    /// The wanted platforms.
    pub platforms: &'a [Platform],
    /// How many of them it must have.
    pub requirement: PlatformRequirement,
    /// Whether its signatures, SBOMs and attestations are looked up.
    pub attached: AttachedContent,
}

/// Looks up an image and returns its entry in a lock; `seen` is left empty for the caller. The
/// manifests, and the configs that had to be read, are written to the store; what the store has of
/// them is not requested again.
///
/// # Errors
/// [`Error::NoPlatform`] when it does not have the platforms that are required.
pub async fn inspect_image(
    registry: &RegistryClient,
    store: &Store,
    query: ImageQuery<'_>,
) -> Result<lock::LockedImage> {
    let ImageQuery { reference, platforms, requirement, attached } = query;
    let root = registry.look_up_manifest(store, reference).await?;
    let descriptor = root.descriptor.clone();
    let wanted = WantedPlatforms { reference, platforms, requirement };
    let chosen = if root.manifest.is_index() {
        choose_manifests(registry, store, wanted, root).await?
    } else {
        let platform = read_platform(registry, store, reference, &root.manifest).await?;
        if let Some(platform) = &platform {
            // A single image can only have one platform, however many are required.
            WantedPlatforms { requirement: PlatformRequirement::Any, ..wanted }
                .check_available(&[platform])?;
        }
        let manifests = vec![to_lock_manifest(&descriptor, &root.manifest, platform)];
        ChosenManifests { manifests, indexes: Vec::new() }
    };
    // Signatures may be attached to each index as well as to the manifest of a single platform.
    let mut subjects: Vec<Digest> = vec![descriptor.digest];
    subjects.extend(chosen.indexes.iter().map(|index| index.digest));
    subjects.extend(chosen.manifests.iter().map(|manifest| manifest.digest));
    subjects.dedup();
    let attached_content = match attached {
        AttachedContent::Carried => {
            find_attached_content(registry, store, reference, subjects).await?
        }
        AttachedContent::LeftOut => Vec::new(),
    };
    Ok(lock::LockedImage {
        reference: reference.clone(),
        digest: descriptor.digest,
        media_type: descriptor.media_type,
        size: descriptor.size,
        platforms: platforms.to_vec(),
        from: None,
        indexes: chosen.indexes,
        manifests: chosen.manifests,
        attached: attached_content,
        attached_content: attached,
        seen: Vec::new(),
    })
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
    if config.size <= MOST_CONFIG_BYTES && store.blob_size(&config.digest)? == Some(config.size) {
        let bytes = store::read_blob(store, &config.digest, MOST_CONFIG_BYTES)?;
        let field: Result<PlatformObject, _> = serde_json::from_slice(&bytes);
        return Ok(field.ok().and_then(|field| field.to_platform()));
    }
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
    let actual = store::hash::compute_digest(config.digest.algorithm(), &bytes);
    if actual != config.digest {
        return Err(Error::DigestMismatch {
            server: registry.host().to_owned(),
            what,
            expected: config.digest.to_string(),
            actual: actual.to_string(),
        });
    }
    store.put_document(&config.digest, &bytes)?;
    let field: Result<PlatformObject, _> = serde_json::from_slice(&bytes);
    Ok(field.ok().and_then(|field| field.to_platform()))
}
