//! A manifest of a registry, an archive or Gantry itself, as a lock describes it.

use types::{Descriptor, Manifest, Platform, lock};

/// A manifest as a lock describes it.
pub(crate) fn to_lock_manifest(
    descriptor: &Descriptor,
    manifest: &Manifest,
    platform: Option<Platform>,
) -> lock::LockedManifest {
    lock::LockedManifest {
        digest: descriptor.digest,
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
        platform,
        config: manifest.config.as_ref().map(Into::into),
        layers: manifest.layers.iter().map(Into::into).collect(),
        layer_urls: manifest
            .layers
            .iter()
            .filter(|layer| !layer.urls.is_empty())
            .map(|layer| (layer.digest, layer.urls.clone()))
            .collect(),
    }
}
