//! Imports models from an image's file system. The layers are read once to find out where each file
//! is, and those with wanted files a second time to copy them to the store. Nothing is unpacked to
//! disk.

use std::collections::HashMap;
use std::io::Read;

use store::progress::Progress;
use store::{Source, Store};
use types::lock::Manifest;
use types::{Digest, ModelId};

use self::files::{Files, Place};
use super::folder;
use super::hf_cache;
use super::tree::{self, Entry, EntryKind, Taken, Tree, Wanted};
use crate::hub::Filter;
use crate::model::Snapshot;
use crate::tarball::{self, Next};
use crate::{Error, Result, compression};

mod files;

/// Imports the models at a path of an image: every snapshot of a Hugging Face cache there (the
/// folder itself or its `hub/`), or else the folder as one model, for which `id` is required.
/// `image` is the manifest of one platform, whose layers `source` has; `name` is the image's name
/// in errors.
pub fn models_from_image(
    name: &str,
    image: &Manifest,
    path: &str,
    id: Option<&ModelId>,
    source: &dyn Source,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Vec<Snapshot>> {
    let tree = ImageTree::read(name, image, path, source)?;
    let cached = hf_cache::find(&tree, "")?;
    if cached.is_empty() {
        let id = id.ok_or_else(|| Error::Model {
            id: tree.shown(""),
            reason:
                "the folder is not a Hugging Face cache, so the name of the model is not known; \
                     give `name: org/name`"
                    .into(),
        })?;
        return folder::from_tree(&tree, "", id, "main", &Filter::all(), store, progress)
            .map(|snapshot| vec![snapshot]);
    }
    let mut snapshots = Vec::new();
    for model in cached.iter().filter(|model| id.is_none_or(|id| model.id == *id)) {
        for (revision, commit) in model.revisions(&tree)? {
            snapshots.push(model.take(
                &tree,
                &revision,
                &commit,
                &Filter::all(),
                store,
                progress,
            )?);
        }
    }
    if snapshots.is_empty() {
        let there: Vec<String> = cached.iter().map(|model| model.id.to_string()).collect();
        let id = id.map_or("any", ModelId::as_str);
        return Err(Error::absent(format!("model {id} in {}", tree.shown("")), &there));
    }
    Ok(snapshots)
}

/// A folder of an image's file system.
struct ImageTree<'a> {
    name: String,
    /// The folder's path, without leading slash.
    folder: String,
    layers: Vec<Digest>,
    files: Files,
    source: &'a dyn Source,
}

impl<'a> ImageTree<'a> {
    fn read(name: &str, image: &Manifest, path: &str, source: &'a dyn Source) -> Result<Self> {
        let layers: Vec<Digest> = image.layers.iter().map(|layer| layer.digest).collect();
        let mut files = Files::new();
        for (number, layer) in layers.iter().enumerate() {
            let shown = layer_name(name, layer);
            // Whiteouts depend on the order: layers are listed base first (image-spec,
            // manifest.md).
            files.begin_layer(number as u32);
            tarball::walk(&shown, open(&shown, layer, source)?, |member, content| {
                files.apply(&shown, member, content)?;
                Ok(Next::Go)
            })?;
        }
        let tree =
            Self { name: name.to_owned(), folder: tarball::normal(path), layers, files, source };
        if tree.list("")?.is_none() {
            return Err(Error::NotFound {
                what: format!("the folder {path} in {name}"),
                hint: format!("list it with: podman run --rm {name} ls -la {path}"),
            });
        }
        Ok(tree)
    }

    fn at(&self, path: &str) -> String {
        tree::join(&self.folder, path)
    }

    fn place(&self, path: &str) -> Result<Place> {
        self.files.find(&self.at(path)).and_then(|node| self.files.place(node)).ok_or_else(|| {
            Error::Damaged { what: self.shown(path), reason: "it is not a file".into() }
        })
    }
}

impl Tree for ImageTree<'_> {
    fn shown(&self, path: &str) -> String {
        format!("/{} of {}", self.at(path), self.name)
    }

    fn list(&self, folder: &str) -> Result<Option<Vec<Entry>>> {
        let folder = self.at(folder);
        let Some(names) = self.files.find(&folder).and_then(|node| self.files.names(node)) else {
            return Ok(None);
        };
        let entry = |name: String| {
            let kind = match self.files.find(&tree::join(&folder, &name)) {
                None => EntryKind::Broken,
                Some(node) => match self.files.place(node) {
                    Some(place) => EntryKind::File { size: place.size },
                    None => EntryKind::Folder,
                },
            };
            Entry { name, kind }
        };
        Ok(Some(names.into_iter().map(entry).collect()))
    }

    fn document(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(node) = self.files.find(&self.at(path)) else { return Ok(None) };
        let Some(place) = self.files.place(node) else { return Ok(None) };
        if place.size > most {
            return Err(Error::TooLarge { what: self.shown(path), size: place.size, most });
        }
        match self.files.kept(place) {
            Some(bytes) => Ok(Some(bytes.to_owned())),
            None => Err(Error::TooLarge {
                what: self.shown(path),
                size: place.size,
                most: files::MAX_KEPT,
            }),
        }
    }

    fn real_path(&self, path: &str) -> Result<String> {
        self.files.real_path(&self.at(path)).ok_or_else(|| Error::Damaged {
            what: self.shown(path),
            reason: "it is a link to a file that does not exist".into(),
        })
    }

    fn take(
        &self,
        wanted: &[Wanted],
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Vec<Taken>> {
        // One content may be wanted several times: hard links, blobs that several snapshots share.
        let mut by_place: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
        for (number, file) in wanted.iter().enumerate() {
            let place = self.place(&file.path)?;
            by_place.entry((place.layer, place.member)).or_default().push(number);
        }
        let mut taken: Vec<Option<Taken>> = vec![None; wanted.len()];
        for (layer, digest) in self.layers.iter().enumerate() {
            let layer = layer as u32;
            // A layer is read at most once, and only as far as its last wanted file.
            let mut left = by_place.keys().filter(|place| place.0 == layer).count();
            if left == 0 {
                continue;
            }
            let shown = layer_name(&self.name, digest);
            let mut number = 0;
            tarball::walk(&shown, open(&shown, digest, self.source)?, |_, content| {
                let member = number;
                number += 1;
                let Some(indexes) = by_place.get(&(layer, member)) else { return Ok(Next::Go) };
                let first = indexes[0];
                let what = self.shown(&wanted[first].path);
                // The same content may be wanted with and without its git id: compute it if any
                // needs it, since the layer is read only once.
                let richest = indexes
                    .iter()
                    .find(|index| wanted[**index].hash == tree::Hash::Git)
                    .unwrap_or(&first);
                let answer =
                    tree::take_one(&what, &wanted[*richest], &mut *content, store, progress)?;
                for index in indexes {
                    let mut own = answer.clone();
                    if wanted[*index].hash != tree::Hash::Git {
                        own.git = None;
                    }
                    taken[*index] = Some(own);
                }
                left -= 1;
                Ok(if left == 0 { Next::Stop } else { Next::Go })
            })?;
        }
        taken
            .into_iter()
            .zip(wanted)
            .map(|(taken, file)| {
                taken.ok_or_else(|| Error::Damaged {
                    what: self.shown(&file.path),
                    reason: "its layer changed while it was read".into(),
                })
            })
            .collect()
    }
}

/// Opens a layer from the source, uncompressed.
fn open<'a>(
    what: &str,
    layer: &Digest,
    source: &'a dyn Source,
) -> Result<Box<dyn Read + Send + 'a>> {
    let size = source.size(layer)?.ok_or(store::Error::BlobMissing { digest: *layer })?;
    let reader = source.open(layer, 0..size)?;
    let (_, plain) =
        compression::open(reader).map_err(|cause| Error::Read { what: what.to_owned(), cause })?;
    Ok(plain)
}

fn layer_name(image: &str, layer: &Digest) -> String {
    format!("layer {} of {image}", layer.short())
}
