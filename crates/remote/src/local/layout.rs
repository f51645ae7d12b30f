//! Reads OCI image layouts (image-spec, image-layout.md): `index.json` and blobs, as a folder or in
//! a tar. `docker save` of docker 25 and later writes this format too.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use store::Store;
use store::progress::Progress;
use types::descriptor::PlatformObject;
use types::json::{MAX_JSON_NODES, parse_json};
use types::{
    Descriptor, Digest, Index, Manifest, Reference, Root, RootKind, annotation, lock, media_type,
};

use super::archive::ImageArchive;
use super::imported_image::{self, ImageSelection, ImportedImage, MAX_CONFIG, is_named};
use super::layout_images::LayoutImages;
use crate::linked_folder::LinkedFolder;
use crate::lock_manifest::to_lock_manifest;
use crate::{Error, Result};

/// The document that lists a layout's images.
const INDEX: &str = "index.json";
/// Limit for `index.json`: ten thousand images need about 5 MB.
const MAX_INDEX: u64 = 64 << 20;
/// Limit for indexes in indexes: one inside another is common, deeper ones are not known.
const MAX_DEPTH: usize = 4;
/// BuildKit's annotation of an attestation: the digest of the manifest that it describes (BuildKit,
/// docs/attestations/attestation-storage.md).
const ATTESTED: &str = "vnd.docker.reference.digest";

/// An open layout.
pub(super) struct ImageLayout {
    name: String,
    blobs: LayoutBlobs,
    images: LayoutImages,
}

/// Where a layout's files are.
enum LayoutBlobs {
    /// Others may write to it: a link must not lead out of it.
    Folder(LinkedFolder),
    Archive(Arc<ImageArchive>),
}

impl ImageLayout {
    /// Opens a layout in a folder.
    pub(super) fn open_folder(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let folder = LinkedFolder::open(path.to_owned())?;
        if !folder.read_metadata(INDEX)?.is_some_and(|metadata| metadata.is_file()) {
            return Err(Error::Local {
                path: path.to_owned(),
                reason: "it has no index.json; an OCI layout is a folder with index.json, \
                         oci-layout and blobs/"
                    .into(),
            });
        }
        let missing = || folder.read_error(INDEX)(std::io::ErrorKind::NotFound.into());
        let index = folder.read_document(INDEX, MAX_INDEX)?.ok_or_else(missing)?;
        let images = parse_index(&name, &index)?;
        Ok(Self { name, blobs: LayoutBlobs::Folder(folder), images })
    }

    /// A layout in an open archive.
    pub(super) fn in_archive(archive: Arc<ImageArchive>) -> Result<Self> {
        let name = archive.name().to_owned();
        let index = archive.read_document(INDEX, MAX_INDEX)?.unwrap_or_default();
        let images = parse_index(&name, &index)?;
        Ok(Self { name, blobs: LayoutBlobs::Archive(archive), images })
    }

    /// The names of its images. What is no image (a chart, a signature) is not listed.
    pub(super) fn list_names(&self) -> Vec<Reference> {
        let roots = self.images.entries().iter().filter_map(Root::from_descriptor);
        roots.filter(|root| root.kind == RootKind::Image).map(|root| root.name).collect()
    }

    /// Its images without a full name, for messages.
    pub(super) fn list_unnamed(&self) -> Vec<String> {
        let is_named = |entry: &Descriptor| Root::from_descriptor(entry).is_some();
        let (named, unnamed): (Vec<_>, Vec<_>) =
            self.images.entries().iter().partition(|entry| is_named(entry));
        // Some tools list an image once for each of its names, and once more without.
        let named: HashSet<&Digest> = named.iter().map(|entry| &entry.digest).collect();
        let unnamed = unnamed.into_iter().filter(|entry| !named.contains(&entry.digest));
        unnamed.map(describe_entry).collect()
    }

    /// Imports the image into the store: an index is kept byte for byte, with the content of the
    /// chosen platforms only.
    pub(super) fn import_image(
        &self,
        wanted: ImageSelection<'_>,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<ImportedImage> {
        let entry = self.find_image(wanted.reference)?;
        let (document, bytes) = self.read_manifest(&entry)?;
        let descriptor =
            Descriptor::new(document.effective_media_type(), entry.digest, bytes.len() as u64);
        let mut taken = TakenManifests::default();
        let take = ImageImport { layout: self, wanted, store, progress };
        if document.is_index() {
            take.import_index(&document, 0, &mut taken)?;
            // Attestations have no platform, so they alone do not make an image.
            if taken.manifests.iter().all(|manifest| manifest.platform.is_none()) {
                return Err(imported_image::no_platform_error(wanted, &list_platforms(&document)));
            }
            store.put_document(&entry.digest, &bytes)?;
        } else {
            let platform = take.read_platform(&entry, &document)?;
            imported_image::check_platform(wanted, platform.as_ref())?;
            take.import_blobs(&document)?;
            store.put_document(&entry.digest, &bytes)?;
            taken.manifests.push(to_lock_manifest(&descriptor, &document, platform));
        }
        Ok(ImportedImage {
            root: imported_image::build_root(wanted, &descriptor),
            manifests: taken.manifests,
            indexes: taken.indexes,
        })
    }

    /// Finds the image's entry in `index.json`: by its full name, by the annotations of skopeo and
    /// hauler, by its tag alone (tools that write no name), or the only entry if it has no name.
    fn find_image(&self, wanted: &Reference) -> Result<Descriptor> {
        if let Some(found) = self.images.find_exact(wanted) {
            return Ok(found.clone());
        }
        let entries = self.images.entries();
        let by_name = |entry: &Descriptor| match (Root::from_descriptor(entry), wanted.digest()) {
            (_, Some(digest)) => entry.digest == *digest,
            (Some(root), None) => is_named(&root.name, wanted),
            (None, None) => false,
        };
        let by_tag = |entry: &Descriptor| {
            Root::from_descriptor(entry).is_none()
                && entry.annotations.get(annotation::REF_NAME).map(String::as_str) == wanted.tag()
        };
        if let Some(found) = entries.iter().find(|entry| by_name(entry)) {
            return Ok(found.clone());
        }
        let tagged: Vec<&Descriptor> = entries.iter().filter(|entry| by_tag(entry)).collect();
        match (tagged.as_slice(), entries) {
            ([only], _) => Ok((*only).clone()),
            (_, [only]) if is_unnamed(only) => Ok(only.clone()),
            (_, [only]) => {
                let found = [describe_entry(only)];
                Err(imported_image::other_name_error(&self.name, wanted, &found))
            }
            _ => {
                let there: Vec<String> = entries.iter().map(describe_entry).collect();
                Err(Error::not_found_among(format!("image {wanted} in {}", self.name), &there))
            }
        }
    }

    /// Reads a manifest; its bytes are checked against its digest.
    fn read_manifest(&self, descriptor: &Descriptor) -> Result<(Manifest, Vec<u8>)> {
        let bytes = self.read_document(&descriptor.digest, Manifest::MAX_SIZE)?;
        let name = format!("{} of {}", descriptor.digest, self.name);
        Ok((Manifest::parse(&name, &bytes)?, bytes))
    }

    /// Reads a blob of at most `most` bytes into memory, and checks its digest.
    fn read_document(&self, digest: &Digest, most: u64) -> Result<Vec<u8>> {
        let (size, content) =
            self.open_blob(digest)?.ok_or_else(|| self.missing_blob_error(digest))?;
        let what = format!("{digest} of {}", self.name);
        if size > most {
            return Err(Error::TooLarge { what, size, most });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        content
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|cause| Error::Read { what: what.clone(), cause })?;
        let actual = store::hash::compute_digest(digest.algorithm(), &bytes);
        // Blobs that are copied to the store are verified there; those parsed here are not.
        if actual != *digest {
            return Err(Error::Damaged {
                what,
                reason: format!("its content has digest {actual}").into(),
            });
        }
        Ok(bytes)
    }

    /// Length and content of a blob; `None` when the layout does not contain it.
    fn open_blob(&self, digest: &Digest) -> Result<Option<(u64, Box<dyn Read>)>> {
        let path = digest.layout_path();
        match &self.blobs {
            LayoutBlobs::Archive(archive) => Ok(archive.file_content(&path).map(|content| {
                let boxed: Box<dyn Read> = Box::new(content.clone());
                (content.len(), boxed)
            })),
            LayoutBlobs::Folder(folder) => {
                let Some(file) = folder.open_file(&path)? else { return Ok(None) };
                let size = file.metadata().map_err(folder.read_error(&path))?.len();
                Ok(Some((size, Box::new(file))))
            }
        }
    }

    fn missing_blob_error(&self, digest: &Digest) -> Error {
        Error::Damaged {
            what: self.name.clone(),
            reason: format!("it lists the blob {digest}, but does not contain it").into(),
        }
    }
}

/// What was imported of an image, as a lock lists it.
#[derive(Default)]
struct TakenManifests {
    manifests: Vec<lock::LockedManifest>,
    indexes: Vec<lock::LockedManifest>,
}

/// The import of one image from a layout to a store.
struct ImageImport<'a> {
    layout: &'a ImageLayout,
    wanted: ImageSelection<'a>,
    store: &'a Store,
    progress: &'a dyn Progress,
}

impl ImageImport<'_> {
    /// Imports the chosen platforms of an index and the attestations for them; adds their manifests
    /// to `taken`.
    fn import_index(
        &self,
        index: &Manifest,
        depth: usize,
        taken: &mut TakenManifests,
    ) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(Error::Damaged {
                what: self.layout.name.clone(),
                reason: format!("indexes are nested more than {MAX_DEPTH} deep").into(),
            });
        }
        let first = taken.manifests.len();
        for child in &index.manifests {
            let platform = child.platform.as_ref().and_then(PlatformObject::to_platform);
            let chosen = platform.as_ref().is_some_and(|own| {
                self.wanted.platforms.iter().any(|platform| own.satisfies(platform))
            });
            // `docker save` of a multi-platform image contains the whole index, but the content of
            // the engine's own platform only.
            if self.layout.open_blob(&child.digest)?.is_none() {
                if let (true, Some(platform)) = (chosen, platform) {
                    let (image, place) = (self.wanted.reference, &self.layout.name);
                    self.progress
                        .add_note(&format!("{place} does not contain {image} for {platform}"));
                }
                continue;
            }
            if media_type::is_index(&child.media_type) {
                let (document, bytes) = self.layout.read_manifest(child)?;
                let before = taken.manifests.len();
                self.import_index(&document, depth + 1, taken)?;
                // An inner index without any chosen platform is not kept.
                if taken.manifests.len() > before {
                    self.store.put_document(&child.digest, &bytes)?;
                    taken.indexes.push(to_lock_manifest(child, &document, None));
                }
            } else if chosen {
                taken.manifests.push(self.import_child(child, platform)?);
            }
        }
        let chosen: Vec<String> =
            taken.manifests[first..].iter().map(|manifest| manifest.digest.to_string()).collect();
        // In a second pass, since an attestation may be listed before the manifest it describes.
        for child in &index.manifests {
            let speaks_of = child.annotations.get(ATTESTED);
            if speaks_of.is_some_and(|digest| chosen.contains(digest))
                && self.layout.open_blob(&child.digest)?.is_some()
            {
                taken.manifests.push(self.import_child(child, None)?);
            }
        }
        Ok(())
    }

    fn import_child(
        &self,
        child: &Descriptor,
        platform: Option<types::Platform>,
    ) -> Result<lock::LockedManifest> {
        let (document, bytes) = self.layout.read_manifest(child)?;
        self.import_blobs(&document)?;
        self.store.put_document(&child.digest, &bytes)?;
        Ok(to_lock_manifest(child, &document, platform))
    }

    /// Imports config and layers of a manifest.
    fn import_blobs(&self, manifest: &Manifest) -> Result<()> {
        for blob in manifest.blobs() {
            let (size, content) = self
                .layout
                .open_blob(&blob.digest)?
                .ok_or_else(|| self.layout.missing_blob_error(&blob.digest))?;
            let what = format!("{} of {}", blob.digest, self.layout.name);
            if size != blob.size {
                return Err(Error::Damaged {
                    what,
                    reason: format!("it has {size} bytes, but its manifest says {}", blob.size)
                        .into(),
                });
            }
            imported_image::put_blob(
                self.store,
                &blob.digest,
                size,
                content,
                &what,
                self.progress,
            )?;
        }
        Ok(())
    }

    /// The platform in the descriptor, or else in the config.
    fn read_platform(
        &self,
        entry: &Descriptor,
        manifest: &Manifest,
    ) -> Result<Option<types::Platform>> {
        if let Some(platform) = entry.platform.as_ref().and_then(PlatformObject::to_platform) {
            return Ok(Some(platform));
        }
        match &manifest.config {
            Some(config) if config.size <= MAX_CONFIG => Ok(imported_image::parse_config_platform(
                &self.layout.read_document(&config.digest, MAX_CONFIG)?,
            )),
            _ => Ok(None),
        }
    }
}

fn parse_index(layout: &str, bytes: &[u8]) -> Result<LayoutImages> {
    let index: Index =
        parse_json(&format!("{INDEX} of {layout}"), "an OCI index", bytes, MAX_JSON_NODES)?;
    Ok(LayoutImages::new(index))
}

fn list_platforms(index: &Manifest) -> Vec<String> {
    index
        .manifests
        .iter()
        .filter_map(|child| child.platform.as_ref()?.to_platform())
        .map(|platform| platform.to_string())
        .collect()
}

/// Whether an entry of `index.json` has no name of its own: tools write the tag `latest` where none
/// was given.
fn is_unnamed(entry: &Descriptor) -> bool {
    let tag = entry.annotations.get(annotation::REF_NAME).map(String::as_str);
    Root::from_descriptor(entry).is_none() && matches!(tag, None | Some("" | "latest"))
}

/// An entry's name in a message.
fn describe_entry(entry: &Descriptor) -> String {
    match (Root::from_descriptor(entry), entry.annotations.get(annotation::REF_NAME)) {
        (Some(root), _) => root.name.to_string(),
        (None, Some(tag)) => format!("(tag {tag})"),
        (None, None) => entry.digest.to_string(),
    }
}
