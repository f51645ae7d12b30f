//! Imports an image from an archive or an OCI layout: the entry points, and what the formats have
//! in common. The image is found by its name, the chosen platforms are copied to the store, and the
//! result describes them as a lock does.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use store::progress::Progress;
use store::{Store, WriteStart};
use types::{Descriptor, Digest, Manifest, Platform, Reference, Root, RootKind, lock};

use super::archive::ImageArchive;
use super::docker_save;
use super::layout::ImageLayout;
use crate::{Error, Result};

/// Bytes of one read and write.
const BUFFER: usize = 256 << 10;
/// Limit for an image's config. Those of real images stay below 100 KB; BuildKit's with embedded
/// build info reach a few MB.
pub(super) const MAX_CONFIG: u64 = 16 << 20;

/// An image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedImage {
    /// The root to publish: the index or manifest, under the name that was requested.
    pub root: Root,
    /// The manifests that were imported: those of the chosen platforms.
    pub manifests: Vec<lock::LockedManifest>,
}

/// Which image is imported: its name and the wanted platforms.
#[derive(Clone, Copy)]
pub(super) struct ImageSelection<'a> {
    pub(super) reference: &'a Reference,
    pub(super) platforms: &'a [Platform],
}

/// Imports an image from a `docker save` archive (either format) or an OCI archive, compressed or
/// not. It is found by its name, or it is the only one in the archive.
pub fn import_image_from_archive(
    path: &Path,
    reference: &Reference,
    platforms: &[Platform],
    store: &Store,
    progress: &dyn Progress,
) -> Result<ImportedImage> {
    let archive = ImageArchive::open(path, store)?;
    import_from_open_archive(archive, ImageSelection { reference, platforms }, store, progress)
}

/// Imports an image from a folder in the OCI image layout.
pub fn import_image_from_layout(
    path: &Path,
    reference: &Reference,
    platforms: &[Platform],
    store: &Store,
    progress: &dyn Progress,
) -> Result<ImportedImage> {
    let layout = ImageLayout::open_folder(path)?;
    layout.import_image(ImageSelection { reference, platforms }, store, progress)
}

/// Imports an image from an open archive. Archives of docker 25 and later have both formats; the
/// OCI layout is preferred, since it has the image's original manifests where the engine kept them.
pub(super) fn import_from_open_archive(
    archive: ImageArchive,
    wanted: ImageSelection<'_>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<ImportedImage> {
    let is_layout = archive.has_file("oci-layout") && archive.has_file("index.json");
    let is_docker_save = archive.has_file(docker_save::MANIFEST);
    match (is_layout, is_docker_save) {
        (true, false) => ImageLayout::from_archive(archive).import_image(wanted, store, progress),
        (false, true) => docker_save::import_image(&archive, wanted, store, progress),
        (true, true) => {
            // Both formats are tried on the same archive; it is not opened twice.
            let layout = ImageLayout::from_archive(archive);
            match layout.import_image(wanted, store, progress) {
                // Docker 25 leaves the names of untagged images out of index.json.
                Err(Error::NotFound { .. }) => {
                    docker_save::import_image(layout.as_archive()?, wanted, store, progress)
                }
                result => result,
            }
        }
        (false, false) => Err(Error::Local {
            path: archive.name().into(),
            reason:
                "it contains no image: neither manifest.json (docker save) nor index.json (OCI \
                     archive); an archive of docker export has only files, use docker save"
                    .into(),
        }),
    }
}

/// Copies a blob of known digest to the store, unless the store has it already.
pub(super) fn put_blob(
    store: &Store,
    digest: &Digest,
    size: u64,
    mut content: impl Read,
    what: &str,
    progress: &dyn Progress,
) -> Result<()> {
    progress.expect_bytes(size);
    let mut writer = match store.open_writer(digest, size)? {
        WriteStart::Present => {
            progress.skip_bytes(size);
            return Ok(());
        }
        WriteStart::Writer(writer) => writer,
    };
    let unreadable = |cause| Error::Read { what: what.to_owned(), cause };
    let mut buffer = vec![0; BUFFER];
    // Continuing a partial blob would mean to read as much of the source anyway, and the partial
    // may have other content: start again.
    writer.restart()?;
    loop {
        match content.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => {
                writer.write(&buffer[..read])?;
                progress.advance_bytes(read as u64);
            }
        }
    }
    writer.commit().map_err(|error| damaged_source_error(what, error))
}

/// A wrong digest here means that the local source is damaged: no network was involved.
pub(super) fn damaged_source_error(what: &str, error: store::Error) -> Error {
    match error {
        store::Error::DigestMismatch { .. } | store::Error::SizeMismatch { .. } => {
            Error::Damaged { what: what.to_owned(), reason: error.to_string() }
        }
        other => other.into(),
    }
}

/// Reads the platform from an image's config (image-spec, config.md); `None` when it has none.
pub(super) fn parse_config_platform(bytes: &[u8]) -> Option<Platform> {
    #[derive(Deserialize)]
    struct ConfigPlatform {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        variant: Option<String>,
    }
    let config: ConfigPlatform = serde_json::from_slice(bytes).ok()?;
    (!config.os.is_empty() && !config.architecture.is_empty()).then_some(Platform {
        os: config.os,
        architecture: config.architecture,
        variant: config.variant.filter(|variant| !variant.is_empty()),
    })
}

/// Checks an image without an index: it must be for one of the wanted platforms, or name none.
pub(super) fn check_platform(wanted: ImageSelection<'_>, own: Option<&Platform>) -> Result<()> {
    match own {
        Some(own) if !wanted.platforms.iter().any(|platform| own.satisfies(platform)) => {
            Err(no_platform_error(wanted, &[own.to_string()]))
        }
        _ => Ok(()),
    }
}

pub(super) fn no_platform_error(wanted: ImageSelection<'_>, found: &[String]) -> Error {
    Error::NoPlatform {
        reference: wanted.reference.to_string(),
        wanted: wanted.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        available: found.join(", "),
    }
}

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
    }
}

/// The root of an image under its requested name, without the annotations of its source.
pub(super) fn build_root(wanted: ImageSelection<'_>, descriptor: &Descriptor) -> Root {
    let plain = Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size);
    Root::new(wanted.reference.clone(), RootKind::Image, plain)
}
