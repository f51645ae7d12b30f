//! Fills the catalogue from a source: every manifest below every root is read once, when the depot
//! opens. Damage does not spread: what cannot be read is left out, the rest is served.

use std::collections::hash_map::Entry;

use bytes::Bytes;
use store::{Source, read_blob};
use types::{Descriptor, Digest, Manifest, Root};

use crate::catalogue::{CachedManifest, Catalogue, CatalogueRepository, UnservedRoot};
use crate::{Error, Result};

/// Manifests are kept in memory up to this many bytes in total (some ten thousand images); further
/// ones are read from the source for each request.
const MOST_CACHED: u64 = 64 << 20;
/// How deep image indexes inside image indexes are followed.
const MAX_DEPTH: usize = 8;

/// Reads all manifests. `note` is called with each root and its manifest, `note_damaged` with each root
/// whose manifest cannot be read.
pub(crate) fn read_catalogue(
    source: &dyn Source,
    mut note: impl FnMut(&Root, &Manifest),
    mut note_damaged: impl FnMut(&Root, &Error),
) -> Result<Catalogue> {
    let mut reading = CatalogueReader { source, catalogue: Catalogue::default(), cached: 0 };
    for root in source.roots()? {
        let mut found = CatalogueRepository::default();
        match reading.visit_manifest(&root.descriptor, &root, &mut found, 0) {
            Ok(manifest) => {
                note(&root, &manifest);
                reading.catalogue.add_root(&root, &manifest, found);
            }
            Err(error) => {
                reading.note_unserved(&root, &error);
                reading.catalogue.add_damaged_root(&root, &error.to_string());
                note_damaged(&root, &error);
            }
        }
    }
    let mut catalogue = reading.catalogue;
    // The same order at each start, whatever the order in the source.
    for list in catalogue.referrers.values_mut() {
        list.sort_by_key(|descriptor| descriptor.digest);
    }
    Ok(catalogue)
}

/// Reads a manifest from the source and checks its digest.
pub(crate) fn read_manifest(source: &dyn Source, digest: &Digest) -> Result<Vec<u8>> {
    let bytes = read_blob(source, digest, Manifest::MAX_SIZE)?;
    if store::hash::has_digest(&bytes, digest) {
        Ok(bytes)
    } else {
        Err(Error::Damaged { digest: *digest })
    }
}

/// The catalogue while it is read.
struct CatalogueReader<'a> {
    source: &'a dyn Source,
    catalogue: Catalogue,
    /// The bytes of the manifests that are kept in memory.
    cached: u64,
}

impl CatalogueReader<'_> {
    /// Adds a manifest and everything below it.
    fn visit_manifest(
        &mut self,
        descriptor: &Descriptor,
        root: &Root,
        found: &mut CatalogueRepository,
        depth: usize,
    ) -> Result<Manifest> {
        let (bytes, manifest) = self.load_manifest(&descriptor.digest)?;
        found.manifests.insert(descriptor.digest);
        found.blobs.extend(manifest.blobs().map(|blob| (blob.digest, blob.size)));
        self.add_manifest(descriptor, bytes, &manifest);
        for child in &manifest.manifests {
            if !child.is_manifest() {
                found.blobs.insert(child.digest, child.size);
                continue;
            }
            // A manifest may be listed several times (in nested indexes): visit it once.
            if depth == MAX_DEPTH || found.manifests.contains(&child.digest) {
                continue;
            }
            // In a sparse index, the manifests of platforms that were not chosen are absent.
            let visited = match self.source.blob_size(&child.digest) {
                Ok(None) => continue,
                Ok(Some(_)) => self.visit_manifest(child, root, found, depth + 1).map(drop),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = visited {
                self.note_unserved(root, &error);
                found.damaged.insert(child.digest, error.to_string());
            }
        }
        Ok(manifest)
    }

    /// Loads a manifest, from memory where it is there already.
    fn load_manifest(&self, digest: &Digest) -> Result<(Bytes, Manifest)> {
        let kept = self.catalogue.manifests.get(digest).and_then(|known| known.bytes.clone());
        let bytes = if let Some(bytes) = kept {
            bytes
        } else {
            Bytes::from(read_manifest(self.source, digest)?)
        };
        let manifest = Manifest::parse(&digest.to_string(), &bytes)?;
        Ok((bytes, manifest))
    }

    /// Adds a manifest to the catalogue, with its bytes while the cache has space.
    fn add_manifest(&mut self, descriptor: &Descriptor, bytes: Bytes, manifest: &Manifest) {
        let Entry::Vacant(vacant) = self.catalogue.manifests.entry(descriptor.digest) else {
            return;
        };
        let size = bytes.len() as u64;
        let is_kept = self.cached + size <= MOST_CACHED;
        self.cached += if is_kept { size } else { 0 };
        // A root's descriptor may lack a usable media type; then the manifest's own content
        // decides.
        let media_type = if descriptor.is_manifest() {
            descriptor.media_type.as_str()
        } else {
            manifest.effective_media_type()
        };
        if let Some(subject) = &manifest.subject {
            let mut referrer = Descriptor::new(media_type, descriptor.digest, size);
            // Without an artifact type, the config's media type is used instead (OCI Distribution
            // Spec 1.1, "Listing Referrers").
            let config = manifest.config.as_ref().map(|config| &config.media_type);
            referrer.artifact_type = manifest.artifact_type.as_ref().or(config).cloned();
            referrer.annotations.clone_from(&manifest.annotations);
            self.catalogue.referrers.entry(subject.digest).or_default().push(referrer);
        }
        let media_type = media_type.to_owned();
        vacant.insert(CachedManifest { media_type, size, bytes: is_kept.then_some(bytes) });
    }

    fn note_unserved(&mut self, root: &Root, error: &Error) {
        let (name, reason) = (root.name.to_string(), error.to_string());
        tracing::warn!("{name} is not served: {reason}");
        self.catalogue.left_out.push(UnservedRoot { name, reason });
    }
}
