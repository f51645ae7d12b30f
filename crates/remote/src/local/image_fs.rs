//! Imports models from an image's file system. The layers are read once to find out where each file
//! is, and those with wanted files a second time to copy them to the store. Nothing is unpacked to
//! disk.

use std::collections::HashMap;
use std::io::Read;

use store::progress::Progress;
use store::{Source, Store};
use types::lock::LockedManifest;
use types::{Digest, ModelId};

use self::files::{FileLocation, ImageFileSystem};
use super::folder;
use super::hf_cache;
use super::tree::{self, FileImport, FileTree, FolderEntry, FolderEntryKind, ImportedFile};
use crate::hub::ModelFileFilter;
use crate::model::LockedSnapshot;
use crate::tarball::{self, WalkControl};
use crate::{Error, Result, compression};

mod files;

/// Imports the models at a path of an image: every snapshot of a Hugging Face cache there (the
/// folder itself or its `hub/`), or else the folder as one model, for which `id` is required.
/// `image` is the manifest of one platform, whose layers `source` has; `name` is the image's name
/// in errors.
pub fn import_models_from_image(
    name: &str,
    image: &LockedManifest,
    path: &str,
    id: Option<&ModelId>,
    source: &dyn Source,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Vec<LockedSnapshot>> {
    let tree = ImageTree::read(name, image, path, source)?;
    let cached = hf_cache::find_cached_models(&tree, "")?;
    if cached.is_empty() {
        let id = id.ok_or_else(|| Error::Model {
            id: tree.describe_path(""),
            reason:
                "the folder is not a Hugging Face cache, so the name of the model is not known; \
                     give `name: org/name`"
                    .into(),
        })?;
        return folder::import_model_from_tree(
            &tree,
            "",
            id,
            "main",
            &ModelFileFilter::accept_all(),
            store,
            progress,
        )
        .map(|snapshot| vec![snapshot]);
    }
    let mut snapshots = Vec::new();
    for model in cached.iter().filter(|model| id.is_none_or(|id| model.id == *id)) {
        for (revision, commit) in model.list_revisions(&tree)? {
            snapshots.push(model.import_snapshot(
                &tree,
                &revision,
                &commit,
                &ModelFileFilter::accept_all(),
                store,
                progress,
            )?);
        }
    }
    if snapshots.is_empty() {
        let there: Vec<String> = cached.iter().map(|model| model.id.to_string()).collect();
        let id = id.map_or("any", ModelId::as_str);
        return Err(Error::not_found_among(
            format!("model {id} in {}", tree.describe_path("")),
            &there,
        ));
    }
    Ok(snapshots)
}

/// A folder of an image's file system.
struct ImageTree<'a> {
    name: String,
    /// The folder's path, without leading slash.
    folder: String,
    layers: Vec<Digest>,
    files: ImageFileSystem,
    source: &'a dyn Source,
}

impl<'a> ImageTree<'a> {
    fn read(
        name: &str,
        image: &LockedManifest,
        path: &str,
        source: &'a dyn Source,
    ) -> Result<Self> {
        let layers: Vec<Digest> = image.layers.iter().map(|layer| layer.digest).collect();
        let mut files = ImageFileSystem::new();
        for (number, layer) in layers.iter().enumerate() {
            let shown = layer_name(name, layer);
            // Whiteouts depend on the order: layers are listed base first (image-spec,
            // manifest.md).
            files.begin_layer(number as u32);
            tarball::walk_tar(&shown, open_layer(&shown, layer, source)?, |member, content| {
                files.apply_member(&shown, member, content)?;
                Ok(WalkControl::Continue)
            })?;
        }
        let tree = Self {
            name: name.to_owned(),
            folder: tarball::normalize_path(path),
            layers,
            files,
            source,
        };
        if tree.list_folder("")?.is_none() {
            return Err(Error::NotFound {
                what: format!("the folder {path} in {name}"),
                hint: format!("list it with: podman run --rm {name} ls -la {path}"),
            });
        }
        Ok(tree)
    }

    fn path_in_image(&self, path: &str) -> String {
        tree::join_paths(&self.folder, path)
    }

    fn locate_file(&self, path: &str) -> Result<FileLocation> {
        self.files
            .find_node(&self.path_in_image(path))
            .and_then(|node| self.files.file_location(node))
            .ok_or_else(|| Error::Damaged {
                what: self.describe_path(path),
                reason: "it is not a file".into(),
            })
    }
}

impl FileTree for ImageTree<'_> {
    fn describe_path(&self, path: &str) -> String {
        format!("/{} of {}", self.path_in_image(path), self.name)
    }

    fn list_folder(&self, folder: &str) -> Result<Option<Vec<FolderEntry>>> {
        let folder = self.path_in_image(folder);
        let Some(names) =
            self.files.find_node(&folder).and_then(|node| self.files.list_names(node))
        else {
            return Ok(None);
        };
        let entry = |name: String| {
            let kind = match self.files.find_node(&tree::join_paths(&folder, &name)) {
                None => FolderEntryKind::Broken,
                Some(node) => match self.files.file_location(node) {
                    Some(place) => FolderEntryKind::File { size: place.size },
                    None => FolderEntryKind::Folder,
                },
            };
            FolderEntry { name, kind }
        };
        Ok(Some(names.into_iter().map(entry).collect()))
    }

    fn read_document(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(node) = self.files.find_node(&self.path_in_image(path)) else { return Ok(None) };
        let Some(place) = self.files.file_location(node) else { return Ok(None) };
        if place.size > most {
            return Err(Error::TooLarge { what: self.describe_path(path), size: place.size, most });
        }
        match self.files.kept_document(place) {
            Some(bytes) => Ok(Some(bytes.to_owned())),
            None => Err(ImageFileSystem::explain_unkept(self.describe_path(path), place)),
        }
    }

    fn real_path(&self, path: &str) -> Result<String> {
        self.files.real_path(&self.path_in_image(path)).ok_or_else(|| Error::Damaged {
            what: self.describe_path(path),
            reason: "it is a link to a file that does not exist".into(),
        })
    }

    fn import_files(
        &self,
        wanted: &[FileImport],
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Vec<ImportedFile>> {
        // One content may be wanted several times: hard links, blobs that several snapshots share.
        let mut by_place: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
        for (number, file) in wanted.iter().enumerate() {
            let place = self.locate_file(&file.path)?;
            by_place.entry((place.layer, place.member)).or_default().push(number);
        }
        let mut taken: Vec<Option<ImportedFile>> = vec![None; wanted.len()];
        for (layer, digest) in self.layers.iter().enumerate() {
            let layer = layer as u32;
            // A layer is read at most once, and only as far as its last wanted file.
            let mut left = by_place.keys().filter(|place| place.0 == layer).count();
            if left == 0 {
                continue;
            }
            let shown = layer_name(&self.name, digest);
            let mut number = 0;
            tarball::walk_tar(&shown, open_layer(&shown, digest, self.source)?, |_, content| {
                let member = number;
                number += 1;
                let Some(indexes) = by_place.get(&(layer, member)) else {
                    return Ok(WalkControl::Continue);
                };
                let first = indexes[0];
                let what = self.describe_path(&wanted[first].path);
                // The same content may be wanted with and without its git id: compute it if any
                // needs it, since the layer is read only once.
                let richest = indexes
                    .iter()
                    .find(|index| wanted[**index].hash == tree::RequiredHash::Git)
                    .unwrap_or(&first);
                let answer =
                    tree::import_file(&what, &wanted[*richest], &mut *content, store, progress)?;
                for index in indexes {
                    let mut own = answer.clone();
                    if wanted[*index].hash != tree::RequiredHash::Git {
                        own.git = None;
                    }
                    taken[*index] = Some(own);
                }
                left -= 1;
                Ok(if left == 0 { WalkControl::Stop } else { WalkControl::Continue })
            })?;
        }
        taken
            .into_iter()
            .zip(wanted)
            .map(|(taken, file)| {
                taken.ok_or_else(|| Error::Damaged {
                    what: self.describe_path(&file.path),
                    reason: "its layer changed while it was read".into(),
                })
            })
            .collect()
    }
}

/// Opens a layer from the source, uncompressed.
fn open_layer<'a>(
    what: &str,
    layer: &Digest,
    source: &'a dyn Source,
) -> Result<Box<dyn Read + Send + 'a>> {
    let size = source.blob_size(layer)?.ok_or(store::Error::BlobMissing { digest: *layer })?;
    let reader = source.open_blob(layer, 0..size)?;
    let (_, plain) = compression::decompress(reader)
        .map_err(|cause| Error::Read { what: what.to_owned(), cause })?;
    Ok(plain)
}

fn layer_name(image: &str, layer: &Digest) -> String {
    format!("layer {} of {image}", layer.short_hex())
}
