//! An image out of an archive or a layout: found by its name, its chosen platforms taken into the
//! store, told as a lock needs it.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use store::progress::Progress;
use store::{Begin, Store};
use types::{Descriptor, Digest, Kind, Manifest, Platform, Reference, Root, lock};

use super::archive::Archive;
use super::docker_save;
use super::layout::Layout;
use crate::{Error, Result};

/// Read and written at once.
const BUFFER: usize = 256 << 10;
/// Largest image config that is read. Those of real images stay below 100 KB; buildkit's with
/// embedded build info reach a few MB.
pub(super) const MAX_CONFIG: u64 = 16 << 20;

/// An image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The index or manifest under the name that was asked for.
    pub root: Root,
    /// The manifests that came in: those of the chosen platforms.
    pub manifests: Vec<lock::Manifest>,
}

/// What is asked for: a name and the platforms.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) reference: &'a Reference,
    pub(super) platforms: &'a [Platform],
}

/// Takes an image out of a `docker save` archive (either form) or an OCI archive, compressed or
/// not. It is found by its name, or is the only one there.
pub fn image_from_archive(
    path: &Path,
    reference: &Reference,
    platforms: &[Platform],
    store: &Store,
    progress: &dyn Progress,
) -> Result<Image> {
    let archive = Archive::open(path, store)?;
    from_archive(archive, Wanted { reference, platforms }, store, progress)
}

/// Takes an image out of a folder in OCI image layout.
pub fn image_from_layout(
    path: &Path,
    reference: &Reference,
    platforms: &[Platform],
    store: &Store,
    progress: &dyn Progress,
) -> Result<Image> {
    let layout = Layout::folder(path)?;
    layout.image(Wanted { reference, platforms }, store, progress)
}

/// An archive of docker 25 and later has both forms; the layout is the truer one, since it keeps
/// the image's own manifests where the engine has them.
pub(super) fn from_archive(
    archive: Archive,
    wanted: Wanted<'_>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Image> {
    let is_layout = archive.has("oci-layout") && archive.has("index.json");
    let is_docker_save = archive.has(docker_save::MANIFEST);
    match (is_layout, is_docker_save) {
        (true, false) => Layout::archive(archive).image(wanted, store, progress),
        (false, true) => docker_save::image(&archive, wanted, store, progress),
        (true, true) => {
            let layout = Layout::archive(archive);
            match layout.image(wanted, store, progress) {
                // Docker 25 writes no names of untagged images into index.json.
                Err(Error::NotFound { .. }) => {
                    docker_save::image(layout.as_archive()?, wanted, store, progress)
                }
                result => result,
            }
        }
        (false, false) => Err(Error::Local {
            path: archive.name().into(),
            reason: "it has neither the manifest.json of docker save nor the index.json of an OCI \
                     archive; a file system (docker export) has no image in it"
                .into(),
        }),
    }
}

/// Puts a blob of known digest into the store, unless it is there.
pub(super) fn put_blob(
    store: &Store,
    digest: &Digest,
    size: u64,
    mut content: impl Read,
    what: &str,
    progress: &dyn Progress,
) -> Result<()> {
    progress.expect(size);
    let mut writer = match store.writer(digest, size)? {
        Begin::Present => {
            progress.skip(size);
            return Ok(());
        }
        Begin::Writer(writer) => writer,
    };
    let unreadable = |cause| Error::Read { what: what.to_owned(), cause };
    let mut buffer = vec![0; BUFFER];
    // A partial would have to be passed over by reading as much of the source, and may be of
    // something else: reading a local source from its start costs no more.
    writer.restart()?;
    loop {
        match content.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => {
                writer.write(&buffer[..read])?;
                progress.advance(read as u64);
            }
        }
    }
    writer.commit().map_err(|error| damaged(what, error))
}

/// A wrong digest in a local source means that the source is damaged, not that the way was.
pub(super) fn damaged(what: &str, error: store::Error) -> Error {
    match error {
        store::Error::DigestMismatch { .. } | store::Error::SizeMismatch { .. } => {
            Error::Damaged { what: what.to_owned(), reason: error.to_string() }
        }
        other => other.into(),
    }
}

/// The platform that a config is made for (image-spec, config.md).
pub(super) fn platform_of_config(bytes: &[u8]) -> Option<Platform> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        variant: Option<String>,
    }
    let config: Config = serde_json::from_slice(bytes).ok()?;
    (!config.os.is_empty() && !config.architecture.is_empty()).then_some(Platform {
        os: config.os,
        architecture: config.architecture,
        variant: config.variant.filter(|variant| !variant.is_empty()),
    })
}

/// An image of one manifest is taken when it is for one of the platforms, or says none.
pub(super) fn check_platform(wanted: Wanted<'_>, own: Option<&Platform>) -> Result<()> {
    match own {
        Some(own) if !wanted.platforms.iter().any(|platform| own.satisfies(platform)) => {
            Err(no_platform(wanted, &[own.to_string()]))
        }
        _ => Ok(()),
    }
}

pub(super) fn no_platform(wanted: Wanted<'_>, found: &[String]) -> Error {
    Error::NoPlatform {
        reference: wanted.reference.to_string(),
        wanted: wanted.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        available: found.join(", "),
    }
}

/// A manifest as a lock tells it.
pub(crate) fn locked(
    descriptor: &Descriptor,
    manifest: &Manifest,
    platform: Option<Platform>,
) -> lock::Manifest {
    lock::Manifest {
        digest: descriptor.digest,
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
        platform,
        config: manifest.config.as_ref().map(Into::into),
        layers: manifest.layers.iter().map(Into::into).collect(),
    }
}

pub(super) fn root(wanted: Wanted<'_>, descriptor: &Descriptor) -> Root {
    let plain = Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size);
    Root::new(wanted.reference.clone(), Kind::Image, plain)
}
