//! Images in the archive format of `docker save` (docker before 25, podman, skopeo's
//! `docker-archive:`, kaniko, crane): `manifest.json` lists a config and layers. It contains no OCI
//! manifest, so one is built. Config and layers are kept byte for byte and determine the manifest,
//! so the same archive always gives the same digest.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use store::Store;
use store::hash::DigestHasher;
use store::progress::Progress;
use types::{Descriptor, Digest, DigestAlgorithm, Manifest, Reference, media_type};

use super::archive::{ArchiveFileReader, ImageArchive};
use super::imported_image::{self, ImageSelection, ImportedImage, MAX_CONFIG, is_named};
use crate::compression::{self, Compression};
use crate::lock_manifest::to_lock_manifest;
use crate::{Error, Result};

/// The member by which an archive of `docker save` is recognised.
pub(super) const MANIFEST: &str = "manifest.json";

/// Limit for `manifest.json`: a thousand images in one archive need about 1 MB.
const MAX_MANIFEST: u64 = 16 << 20;

/// Limit for the layers of an image. Docker's own limit is 127; other builders create a few
/// hundred.
const MAX_LAYERS: usize = 4096;

/// An image in `manifest.json` (moby, image/tarexport/tarexport.go, `manifestItem`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerSaveItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The part of an image's config that proves its layers.
#[derive(Deserialize)]
struct DockerSaveConfig {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<Digest>>,
}

/// An open archive of `docker save`, and the images that its `manifest.json` lists.
pub(super) struct DockerSaveArchive {
    archive: Arc<ImageArchive>,
    items: Vec<DockerSaveItem>,
    /// Places in `items`, the first of each name.
    by_name: HashMap<Reference, usize>,
    /// The digests of the compressed layers that were read already, by their paths: images share layers.
    compressed: Mutex<HashMap<String, LayerDigests>>,
}

/// The digests of a compressed layer.
#[derive(Clone, Copy)]
struct LayerDigests {
    /// Of the layer as it is.
    blob: Digest,
    /// Of its uncompressed content.
    content: Digest,
}

impl DockerSaveArchive {
    /// Reads the list of the images.
    pub(super) fn read(archive: Arc<ImageArchive>) -> Result<Self> {
        let bytes = archive
            .read_document(MANIFEST, MAX_MANIFEST)?
            .ok_or_else(|| missing_member_error(&archive, MANIFEST))?;
        let items: Vec<DockerSaveItem> = serde_json::from_slice(&bytes).map_err(|error| {
            Error::invalid_document(format!("{MANIFEST} of {}", archive.name()), error)
        })?;
        let mut by_name = HashMap::new();
        for (place, item) in items.iter().enumerate() {
            for name in item.names() {
                by_name.entry(name).or_insert(place);
            }
        }
        Ok(Self { archive, items, by_name, compressed: Mutex::default() })
    }

    /// The names of its images.
    pub(super) fn list_names(&self) -> Vec<Reference> {
        self.by_name.keys().cloned().collect()
    }

    /// Its images without a name, for messages.
    pub(super) fn list_unnamed(&self) -> Vec<String> {
        let unnamed = self.items.iter().filter(|item| item.names().next().is_none());
        unnamed.map(|item| item.config.clone()).collect()
    }

    /// Imports the image into the store.
    pub(super) fn import_image(
        &self,
        wanted: ImageSelection<'_>,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<ImportedImage> {
        let archive = &*self.archive;
        let item = self.find_item(wanted.reference)?;
        let config = archive
            .read_document(&item.config, MAX_CONFIG)?
            .ok_or_else(|| missing_member_error(archive, &item.config))?;
        let diff_ids = read_diff_ids(archive, item, &config)?;
        let platform = imported_image::parse_config_platform(&config);
        imported_image::check_platform(wanted, platform.as_ref())?;

        let mut descriptors = Vec::with_capacity(diff_ids.len());
        for (path, diff_id) in item.layers.iter().flatten().zip(diff_ids) {
            descriptors.push(self.import_layer(path, diff_id, store, progress)?);
        }

        // Layers are in the store now; the manifest, which names them, is written last.
        let config_digest = store.put_bytes(&config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Some(Descriptor::new(
                media_type::OCI_CONFIG,
                config_digest,
                config.len() as u64,
            )),
            layers: descriptors,
            manifests: vec![],
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|error| {
            Error::invalid_document(format!("the manifest of {}", wanted.reference), error)
        })?;
        let digest = store.put_bytes(&bytes)?;
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64);
        Ok(ImportedImage {
            root: imported_image::build_root(wanted, &descriptor),
            manifests: vec![to_lock_manifest(&descriptor, &manifest, platform)],
            indexes: Vec::new(),
        })
    }

    /// Finds the image by its name, or the only one in the archive if it has no name (it was saved by
    /// its id).
    fn find_item(&self, wanted: &Reference) -> Result<&DockerSaveItem> {
        let place = self.by_name.get(wanted).copied().or_else(|| {
            let is_meant = |item: &DockerSaveItem| item.names().any(|name| is_named(&name, wanted));
            self.items.iter().position(is_meant)
        });
        if let Some(item) = place.and_then(|place| self.items.get(place)) {
            return Ok(item);
        }
        let there: Vec<String> =
            self.items.iter().flat_map(|item| item.repo_tags.iter().flatten().cloned()).collect();
        match (self.items.as_slice(), there.as_slice()) {
            ([only], []) => Ok(only),
            ([_], named) => {
                Err(imported_image::other_name_error(self.archive.name(), wanted, named))
            }
            _ => {
                let what = format!("image {wanted} in {}", self.archive.name());
                Err(Error::not_found_among(what, &there))
            }
        }
    }

    /// Imports a layer. Docker writes layers as plain tars, whose digest is in the config. crane and
    /// kaniko write them compressed: then the blob's digest is computed by reading it once, and its
    /// uncompressed content is checked against the config.
    fn import_layer(
        &self,
        path: &str,
        diff_id: Digest,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Descriptor> {
        let archive = &*self.archive;
        let content =
            archive.file_content(path).ok_or_else(|| missing_member_error(archive, path))?;
        let what = format!("layer {path} of {}", archive.name());
        let size = content.len();
        let mut first = [0; 8];
        let unreadable = |cause| Error::Read { what: what.clone(), cause };
        let read = net::body::fill_buffer(&mut content.clone(), &mut first).map_err(unreadable)?;
        let (digest, media_type) = match Compression::detect(&first[..read]) {
            Compression::None => (diff_id, media_type::OCI_LAYER_TAR),
            // OCI has no media type for it, and engines that pull would not read it.
            Compression::Xz => {
                return Err(Error::Damaged {
                    what,
                    reason:
                        "it is compressed with xz, which no registry knows; load the archive into an \
                         engine and save it again"
                            .into(),
                });
            }
            compression => {
                let digests = self
                    .hash_layer_once(path, &content, diff_id.algorithm())
                    .map_err(unreadable)?;
                if digests.content != diff_id {
                    return Err(Error::Damaged {
                        what,
                        reason: format!(
                            "its content has digest {}, but the image's config lists {diff_id}",
                            digests.content
                        )
                        .into(),
                    });
                }
                let gzip = compression == Compression::Gzip;
                let media_type =
                    if gzip { media_type::OCI_LAYER_GZIP } else { crate::OCI_LAYER_ZSTD };
                (digests.blob, media_type)
            }
        };
        imported_image::put_blob(store, &digest, size, content, &what, progress)?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// The digests of a compressed layer, which is read only for the first image that has it.
    fn hash_layer_once(
        &self,
        path: &str,
        content: &ArchiveFileReader,
        algorithm: DigestAlgorithm,
    ) -> io::Result<LayerDigests> {
        let known = || self.compressed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digests) = known().get(path)
            && digests.content.algorithm() == algorithm
        {
            return Ok(*digests);
        }
        let digests = hash_layer(content.clone(), algorithm)?;
        known().insert(path.to_owned(), digests);
        Ok(digests)
    }
}

impl DockerSaveItem {
    /// The names that the image has in the archive; texts that are no names are left out.
    fn names(&self) -> impl Iterator<Item = Reference> {
        self.repo_tags.iter().flatten().filter_map(|tag| tag.parse().ok())
    }
}

/// The digests of the uncompressed layers, from the image's config, in the order of the layers.
fn read_diff_ids(
    archive: &ImageArchive,
    item: &DockerSaveItem,
    config: &[u8],
) -> Result<Vec<Digest>> {
    let config: DockerSaveConfig = serde_json::from_slice(config).map_err(|error| {
        Error::invalid_document(format!("{} of {}", item.config, archive.name()), error)
    })?;
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    let layers = item.layers.as_ref().map_or(0, Vec::len);
    // Layers and diff_ids are paired by position below.
    if layers != diff_ids.len() || layers > MAX_LAYERS {
        return Err(Error::Damaged {
            what: archive.name().to_owned(),
            reason: format!(
                "the image has {layers} layers, but its config {} lists {}; at most {MAX_LAYERS} are supported",
                item.config,
                diff_ids.len()
            ).into(),
        });
    }
    Ok(diff_ids)
}

/// The sha256 of a compressed layer, and the digest of its uncompressed content, of the algorithm that
/// the config uses, in one pass.
fn hash_layer(content: ArchiveFileReader, algorithm: DigestAlgorithm) -> io::Result<LayerDigests> {
    let mut outer = DigestReader { inner: content, hash: DigestHasher::new_sha256() };
    let (_, mut plain) = compression::decompress(&mut outer)?;
    let mut inner = DigestReader { inner: &mut plain, hash: DigestHasher::new(algorithm) };
    io::copy(&mut inner, &mut io::sink())?;
    let content = inner.hash.finish();
    drop(plain);
    // The decoder stops after the last gzip member; bytes after it belong to the blob as well.
    io::copy(&mut outer, &mut io::sink())?;
    Ok(LayerDigests { blob: outer.hash.finish(), content })
}

/// Hashes everything that is read through it.
struct DigestReader<R> {
    inner: R,
    hash: DigestHasher,
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

fn missing_member_error(archive: &ImageArchive, path: &str) -> Error {
    Error::Damaged {
        what: archive.name().to_owned(),
        reason: format!("it lists {path}, but does not contain it").into(),
    }
}
