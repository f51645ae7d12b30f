//! Images in the archive format of `docker save` (docker before 25, podman, skopeo's
//! `docker-archive:`, kaniko, crane): `manifest.json` lists a config and layers. It contains no OCI
//! manifest, so one is built. Config and layers are kept byte for byte and determine the manifest,
//! so the same archive always gives the same digest.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Deserialize;
use store::Store;
use store::hash::Sha256;
use store::progress::Progress;
use types::{Descriptor, Digest, Manifest, Reference, media_type};

use super::archive::{Archive, Content};
use super::image::{self, Image, MAX_CONFIG, Wanted};
use crate::compression::{self, Compression};
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
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The part of an image's config that proves its layers.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<Digest>>,
}

/// Imports the image into the store.
pub(super) fn image(
    archive: &Archive,
    wanted: Wanted<'_>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Image> {
    let item = find(items(archive)?, archive, wanted.reference)?;
    let config = archive
        .document(&item.config, MAX_CONFIG)?
        .ok_or_else(|| missing(archive, &item.config))?;
    let diff_ids = diff_ids(archive, &item, &config)?;
    let platform = image::platform_of_config(&config);
    image::check_platform(wanted, platform.as_ref())?;

    let layers = item.layers.unwrap_or_default();
    let mut descriptors = Vec::with_capacity(layers.len());
    for (path, diff_id) in layers.iter().zip(diff_ids) {
        let content = archive.content(path).ok_or_else(|| missing(archive, path))?;
        let what = format!("layer {path} of {}", archive.name());
        descriptors.push(layer(&what, content, diff_id, store, progress)?);
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
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|error| Error::document(format!("the manifest of {}", wanted.reference), error))?;
    let digest = store.put_bytes(&bytes)?;
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64);
    Ok(Image {
        root: image::root(wanted, &descriptor),
        manifests: vec![image::locked(&descriptor, &manifest, platform)],
    })
}

fn items(archive: &Archive) -> Result<Vec<Item>> {
    let bytes =
        archive.document(MANIFEST, MAX_MANIFEST)?.ok_or_else(|| missing(archive, MANIFEST))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::document(format!("{MANIFEST} of {}", archive.name()), error))
}

/// Selects the image by its name, or the only one in the archive, whatever its name is.
fn find(mut items: Vec<Item>, archive: &Archive, wanted: &Reference) -> Result<Item> {
    let has_name = |item: &Item| {
        item.repo_tags
            .iter()
            .flatten()
            .any(|tag| tag.parse::<Reference>().is_ok_and(|name| is_named(&name, wanted)))
    };
    if let Some(found) = items.iter().position(has_name) {
        return Ok(items.swap_remove(found));
    }
    if items.len() == 1 {
        return Ok(items.swap_remove(0));
    }
    let there: Vec<String> =
        items.into_iter().flat_map(|item| item.repo_tags.unwrap_or_default()).collect();
    Err(Error::absent(format!("image {wanted} in {}", archive.name()), &there))
}

/// Whether a name in an archive or engine means the wanted image. podman names local builds
/// `localhost/name`, while users write `name`, which is short for `docker.io/library/name`.
pub(super) fn is_named(found: &Reference, wanted: &Reference) -> bool {
    // A reference without tag (only a digest) matches any tag of the same name.
    let same_tag = found.tag() == wanted.tag() || (wanted.tag().is_none());
    let own_build = found.registry() == "localhost"
        && wanted.registry() == "docker.io"
        && wanted.repository().strip_prefix("library/").unwrap_or(wanted.repository())
            == found.repository();
    same_tag && (found.name() == wanted.name() || own_build)
}

/// The digests of the uncompressed layers, from the image's config, in the order of the layers.
fn diff_ids(archive: &Archive, item: &Item, config: &[u8]) -> Result<Vec<Digest>> {
    let config: Config = serde_json::from_slice(config).map_err(|error| {
        Error::document(format!("{} of {}", item.config, archive.name()), error)
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
            ),
        });
    }
    Ok(diff_ids)
}

/// Imports a layer. Docker writes layers as plain tars, whose digest is in the config. crane and
/// kaniko write them compressed: then the blob's digest is computed by reading it once, and its
/// uncompressed content is checked against the config.
fn layer(
    what: &str,
    content: Content,
    diff_id: Digest,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Descriptor> {
    let size = content.len();
    let mut first = [0; 8];
    let unreadable = |cause| Error::Read { what: what.to_owned(), cause };
    let read = net::body::fill(&mut content.clone(), &mut first).map_err(unreadable)?;
    let (digest, media_type) = match Compression::of(&first[..read]) {
        Compression::None => (diff_id, media_type::OCI_LAYER_TAR),
        compression => {
            let (digest, inside) = hashes(content.clone()).map_err(unreadable)?;
            if inside != diff_id {
                return Err(Error::Damaged {
                    what: what.to_owned(),
                    reason: format!(
                        "its content has digest {inside}, but the image's config lists {diff_id}"
                    ),
                });
            }
            let gzip = compression == Compression::Gzip;
            (digest, if gzip { media_type::OCI_LAYER_GZIP } else { crate::OCI_LAYER_ZSTD })
        }
    };
    image::put_blob(store, &digest, size, content, what, progress)?;
    Ok(Descriptor::new(media_type, digest, size))
}

/// The digest of a compressed layer, and that of its uncompressed content, in one pass.
fn hashes(content: Content) -> io::Result<(Digest, Digest)> {
    let mut outer = Hashing { inner: content, hash: Sha256::new() };
    let (_, mut plain) = compression::open(&mut outer)?;
    let mut inner = Hashing { inner: &mut plain, hash: Sha256::new() };
    io::copy(&mut inner, &mut io::sink())?;
    let inside = inner.hash.finish();
    drop(plain);
    // The decoder stops after the last gzip member; bytes after it belong to the blob as well.
    io::copy(&mut outer, &mut io::sink())?;
    Ok((outer.hash.finish(), inside))
}

/// Hashes everything that is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

fn missing(archive: &Archive, path: &str) -> Error {
    Error::Damaged {
        what: archive.name().to_owned(),
        reason: format!("it lists {path}, but does not contain it"),
    }
}
