//! Imports images from an archive or an OCI layout, which is opened once for all of its images. An
//! image is found by its name, the chosen platforms are copied to the store, and the result describes
//! them as a lock does.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use store::Store;
use store::progress::Progress;
use types::{Platform, Reference};

use super::archive::ImageArchive;
use super::docker_save::{self, DockerSaveArchive};
use super::imported_image::{ImageSelection, ImportedImage};
use super::layout::ImageLayout;
use crate::name_pattern::NamePattern;
use crate::{Error, Result};

/// The images of an archive or an OCI layout. A compressed archive is unpacked once, when it is opened,
/// to a temporary file that goes with this value.
pub struct LocalImages {
    name: String,
    format: LocalImageFormat,
}

/// How the images are stored.
enum LocalImageFormat {
    Layout(ImageLayout),
    DockerSave(DockerSaveArchive),
    /// Archives of docker 25 and later have both. The layout is preferred, since it has the images'
    /// original manifests where the engine kept them.
    Both(ImageLayout, DockerSaveArchive),
}

impl LocalImages {
    /// Opens a `docker save` archive (either format) or an OCI archive, compressed or not.
    ///
    /// # Errors
    /// It cannot be read, or contains no images.
    pub fn open_archive(path: &Path, store: &Store) -> Result<Self> {
        Self::from_archive(ImageArchive::open(path, store)?)
    }

    /// Opens a folder in the OCI image layout.
    ///
    /// # Errors
    /// It cannot be read, or is no layout.
    pub fn open_layout(path: &Path) -> Result<Self> {
        let layout = ImageLayout::open_folder(path)?;
        Ok(Self { name: path.display().to_string(), format: LocalImageFormat::Layout(layout) })
    }

    /// The images in an open archive.
    pub(super) fn from_archive(archive: ImageArchive) -> Result<Self> {
        let archive = Arc::new(archive);
        let name = archive.name().to_owned();
        let is_layout = archive.has_file("oci-layout") && archive.has_file("index.json");
        let layout = || ImageLayout::in_archive(Arc::clone(&archive));
        let saved = || DockerSaveArchive::read(Arc::clone(&archive));
        let format = match (is_layout, archive.has_file(docker_save::MANIFEST)) {
            (true, true) => LocalImageFormat::Both(layout()?, saved()?),
            (true, false) => LocalImageFormat::Layout(layout()?),
            (false, true) => LocalImageFormat::DockerSave(saved()?),
            (false, false) => {
                return Err(Error::Local {
                    path: name.into(),
                    reason: "it contains no image: neither manifest.json (docker save) nor index.json \
                             (OCI archive); an archive of docker export has only files, use docker save"
                        .into(),
                });
            }
        };
        Ok(Self { name, format })
    }

    /// The names of the images that match one of the patterns, or of all images where there is none;
    /// sorted.
    ///
    /// # Errors
    /// A pattern matches nothing; or all are wanted, and there are none, or some have no name. The error
    /// lists the names that are there.
    pub fn select_names(&self, patterns: &[NamePattern]) -> Result<Vec<Reference>> {
        let names = self.list_names();
        let there = || names.iter().map(ToString::to_string).collect::<Vec<_>>();
        if patterns.is_empty() {
            self.require_names(&there())?;
            return Ok(names.into_iter().collect());
        }
        for pattern in patterns {
            if !names.iter().any(|name| pattern.matches(name)) {
                let what = format!("an image that matches {:?} in {}", pattern.as_str(), self.name);
                return Err(Error::not_found_among(what, &there()));
            }
        }
        let is_wanted = |name: &Reference| patterns.iter().any(|pattern| pattern.matches(name));
        Ok(names.into_iter().filter(is_wanted).collect())
    }

    /// Imports an image into the store. It is found by its name, or it is the only one and has none.
    pub fn import_image(
        &self,
        reference: &Reference,
        platforms: &[Platform],
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<ImportedImage> {
        let wanted = ImageSelection { reference, platforms };
        match &self.format {
            LocalImageFormat::Layout(layout) => layout.import_image(wanted, store, progress),
            LocalImageFormat::DockerSave(archive) => archive.import_image(wanted, store, progress),
            LocalImageFormat::Both(layout, archive) => {
                match layout.import_image(wanted, store, progress) {
                    // Docker 25 leaves the names of some images out of index.json.
                    Err(Error::NotFound { .. }) => archive.import_image(wanted, store, progress),
                    outcome => outcome,
                }
            }
        }
    }

    fn list_names(&self) -> BTreeSet<Reference> {
        match &self.format {
            LocalImageFormat::Layout(layout) => layout.list_names().into_iter().collect(),
            LocalImageFormat::DockerSave(archive) => archive.list_names().into_iter().collect(),
            LocalImageFormat::Both(layout, archive) => {
                layout.list_names().into_iter().chain(archive.list_names()).collect()
            }
        }
    }

    /// Refuses to take all images where not all have a name, or where there are none.
    fn require_names(&self, there: &[String]) -> Result<()> {
        let unnamed = match &self.format {
            LocalImageFormat::Layout(layout) => layout.list_unnamed(),
            // Where both list the images, only manifest.json has all of their names.
            LocalImageFormat::DockerSave(archive) | LocalImageFormat::Both(_, archive) => {
                archive.list_unnamed()
            }
        };
        let wrong =
            |reason: String| Error::Local { path: self.name.clone().into(), reason: reason.into() };
        match (unnamed.as_slice(), there) {
            ([], []) => Err(wrong("it contains no images".into())),
            ([], _) => Ok(()),
            ([only], []) => Err(wrong(format!(
                "its image {only} has no name; write the name that it shall have in `image:`"
            ))),
            (unnamed, there) => Err(wrong(format!(
                "{} of its images have no name ({}); give them one (docker tag) and save it again, or choose among those with a name by `images:`: {}",
                unnamed.len(),
                unnamed.join(", "),
                if there.is_empty() { "there are none".to_owned() } else { there.join(", ") }
            ))),
        }
    }
}
