//! What imports of images have in common, whatever the format: which image is wanted, copying its
//! blobs to the store, its platform and its root.

use std::io::Read;

use serde::Deserialize;
use store::progress::Progress;
use store::{Store, WriteStart};
use types::{Descriptor, Digest, Platform, Reference, Root, RootKind, lock};

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
    /// The indexes below the image's own that lead to them.
    pub indexes: Vec<lock::LockedManifest>,
}

/// Which image is imported: its name and the wanted platforms.
#[derive(Clone, Copy)]
pub(super) struct ImageSelection<'a> {
    pub(super) reference: &'a Reference,
    pub(super) platforms: &'a [Platform],
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
            Error::Damaged { what: what.to_owned(), reason: types::Cause::from_error(error) }
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

/// The root of an image under its requested name, without the annotations of its source.
pub(super) fn build_root(wanted: ImageSelection<'_>, descriptor: &Descriptor) -> Root {
    let plain = Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size);
    Root::new(wanted.reference.clone(), RootKind::Image, plain)
}

/// The error for an archive or layout that holds one image, which has another name.
pub(super) fn other_name_error(place: &str, wanted: &Reference, found: &[String]) -> Error {
    let found = found.join(", ");
    Error::Local {
        path: place.into(),
        reason: format!(
            "it holds {found}, and gantry.yaml asks it for {wanted}; write the image's own name there, or give the image the other name (docker tag) and save it again"
        )
        .into(),
    }
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
