//! Imports an image from an archive or an OCI layout: the entry points, and what the formats have
//! in common. The image is found by its name, the chosen platforms are copied to the store, and the
//! result describes them as a lock does.

use std::path::Path;

use store::Store;
use store::progress::Progress;
use types::{Platform, Reference};

use super::archive::ImageArchive;
use super::docker_save;
use super::imported_image::{ImageSelection, ImportedImage};
use super::layout::ImageLayout;
use crate::{Error, Result};

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
