//! Images in the archive format of `docker save` (docker before 25, podman, skopeo's
//! `docker-archive:`, kaniko, crane): `manifest.json` lists a config and layers. It contains no OCI
//! manifest, so one is built. Config and layers are kept byte for byte and determine the manifest,
//! so the same archive always gives the same digest.

use std::collections::BTreeMap;
use std::io::{self, Read};

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

/// Imports the image into the store.
pub(super) fn import_image(
    archive: &ImageArchive,
    wanted: ImageSelection<'_>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<ImportedImage> {
    let item = select_item(read_items(archive)?, archive, wanted.reference)?;
    let config = archive
        .read_document(&item.config, MAX_CONFIG)?
        .ok_or_else(|| missing_member_error(archive, &item.config))?;
    let diff_ids = read_diff_ids(archive, &item, &config)?;
    let platform = imported_image::parse_config_platform(&config);
    imported_image::check_platform(wanted, platform.as_ref())?;

    let layers = item.layers.unwrap_or_default();
    let mut descriptors = Vec::with_capacity(layers.len());
    for (path, diff_id) in layers.iter().zip(diff_ids) {
        let content =
            archive.file_content(path).ok_or_else(|| missing_member_error(archive, path))?;
        let what = format!("layer {path} of {}", archive.name());
        descriptors.push(import_layer(&what, content, diff_id, store, progress)?);
    }

    // Layers are in the store now; the manifest, which names them, is written last.
    let config_digest = store.put_bytes(&config)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Some(Descriptor::new(media_type::OCI_CONFIG, config_digest, config.len() as u64)),
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

fn read_items(archive: &ImageArchive) -> Result<Vec<DockerSaveItem>> {
    let bytes = archive
        .read_document(MANIFEST, MAX_MANIFEST)?
        .ok_or_else(|| missing_member_error(archive, MANIFEST))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::invalid_document(format!("{MANIFEST} of {}", archive.name()), error)
    })
}

/// Selects the image by its name, or the only one in the archive if it has no name (it was saved by
/// its id).
fn select_item(
    mut items: Vec<DockerSaveItem>,
    archive: &ImageArchive,
    wanted: &Reference,
) -> Result<DockerSaveItem> {
    let has_name = |item: &DockerSaveItem| {
        item.repo_tags
            .iter()
            .flatten()
            .any(|tag| tag.parse::<Reference>().is_ok_and(|name| is_named(&name, wanted)))
    };
    if let Some(found) = items.iter().position(has_name) {
        return Ok(items.swap_remove(found));
    }
    let is_alone = items.len() == 1;
    let there: Vec<String> =
        items.iter().flat_map(|item| item.repo_tags.clone().unwrap_or_default()).collect();
    if is_alone {
        return match there.as_slice() {
            [] => Ok(items.swap_remove(0)),
            named => Err(imported_image::other_name_error(archive.name(), wanted, named)),
        };
    }
    Err(Error::not_found_among(format!("image {wanted} in {}", archive.name()), &there))
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

/// Imports a layer. Docker writes layers as plain tars, whose digest is in the config. crane and
/// kaniko write them compressed: then the blob's digest is computed by reading it once, and its
/// uncompressed content is checked against the config.
fn import_layer(
    what: &str,
    content: ArchiveFileReader,
    diff_id: Digest,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Descriptor> {
    let size = content.len();
    let mut first = [0; 8];
    let unreadable = |cause| Error::Read { what: what.to_owned(), cause };
    let read = net::body::fill_buffer(&mut content.clone(), &mut first).map_err(unreadable)?;
    let (digest, media_type) = match Compression::detect(&first[..read]) {
        Compression::None => (diff_id, media_type::OCI_LAYER_TAR),
        // OCI has no media type for it, and engines that pull would not read it.
        Compression::Xz => {
            return Err(Error::Damaged {
                what: what.to_owned(),
                reason:
                    "it is compressed with xz, which no registry knows; load the archive into an \
                         engine and save it again"
                        .into(),
            });
        }
        compression => {
            let (digest, inside) =
                hash_layer(content.clone(), diff_id.algorithm()).map_err(unreadable)?;
            if inside != diff_id {
                return Err(Error::Damaged {
                    what: what.to_owned(),
                    reason: format!(
                        "its content has digest {inside}, but the image's config lists {diff_id}"
                    )
                    .into(),
                });
            }
            let gzip = compression == Compression::Gzip;
            (digest, if gzip { media_type::OCI_LAYER_GZIP } else { crate::OCI_LAYER_ZSTD })
        }
    };
    imported_image::put_blob(store, &digest, size, content, what, progress)?;
    Ok(Descriptor::new(media_type, digest, size))
}

/// The sha256 of a compressed layer, and the digest of its uncompressed content, of the algorithm that
/// the config uses, in one pass.
fn hash_layer(
    content: ArchiveFileReader,
    algorithm: DigestAlgorithm,
) -> io::Result<(Digest, Digest)> {
    let mut outer = DigestReader { inner: content, hash: DigestHasher::new_sha256() };
    let (_, mut plain) = compression::decompress(&mut outer)?;
    let mut inner = DigestReader { inner: &mut plain, hash: DigestHasher::new(algorithm) };
    io::copy(&mut inner, &mut io::sink())?;
    let inside = inner.hash.finish();
    drop(plain);
    // The decoder stops after the last gzip member; bytes after it belong to the blob as well.
    io::copy(&mut outer, &mut io::sink())?;
    Ok((outer.hash.finish(), inside))
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
