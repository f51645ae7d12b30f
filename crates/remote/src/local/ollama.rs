//! A model out of Ollama's models folder (`spec/ollama.md`, "On disk"): the manifest as it is, and
//! the blobs that it names.

use std::path::Path;

use store::Store;
use store::progress::Progress;
use types::{Manifest, lock};

use super::image::locked;
use super::tree::{self, Folder, Hash, Tree, Wanted};
use crate::ollama::{Model, Name};
use crate::{Error, Result};

/// The layers of an Ollama model: weights, projector, template, licence and a few more.
const MAX_LAYERS: usize = 256;

/// Takes a model out of a models folder (`~/.ollama/models`), or out of its parent.
pub fn model_from_ollama_folder(
    path: &Path,
    name: &Name,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Model> {
    let folder = Folder::open(path.to_owned())?;
    let base = ["", "models"]
        .into_iter()
        .find(|base| matches!(folder.list(&tree::join(base, "manifests")), Ok(Some(_))))
        .ok_or_else(|| Error::Local {
            path: path.to_owned(),
            reason: "it has no manifests/; Ollama's models folder (~/.ollama/models) has".into(),
        })?;
    let manifests = tree::join(base, "manifests");
    let document = tree::join(&manifests, &name.path());
    let Some(bytes) = folder.document(&document, Manifest::MAX_SIZE)? else {
        let there = names(&folder, &manifests)?;
        return Err(Error::absent(format!("model {name} in {}", path.display()), &there));
    };
    let (manifest, descriptor) = crate::ollama::manifest(name, &bytes)?;
    let blobs: Vec<_> = manifest.blobs().collect();
    if blobs.len() > MAX_LAYERS {
        return Err(Error::Damaged {
            what: folder.shown(&document),
            reason: format!("it has more than {MAX_LAYERS} layers"),
        });
    }
    let mut wanted = Vec::with_capacity(blobs.len());
    for blob in blobs {
        let file = tree::join(base, &format!("blobs/sha256-{}", blob.digest.hex()));
        let size = std::fs::metadata(path.join(&file))
            .map_err(|cause| Error::Read { what: folder.shown(&file), cause })?
            .len();
        if size != blob.size {
            return Err(Error::Damaged {
                what: folder.shown(&file),
                reason: format!(
                    "it has {size} bytes, the manifest promises {}; run `ollama pull {name}` again",
                    blob.size
                ),
            });
        }
        wanted.push(Wanted { path: file, size, hash: Hash::Known(blob.digest) });
    }
    folder.take(&wanted, store, progress)?;
    store.put_bytes(&bytes)?;
    let locked: lock::Manifest = locked(&descriptor, &manifest, None);
    Model::new(name, &descriptor, locked)
}

/// The models that a folder has, for a message.
fn names(tree: &dyn Tree, manifests: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in tree::files(tree, manifests, |_| true)? {
        if let Some(name) = Name::of_path(&file.path) {
            names.push(name.to_string());
        }
    }
    Ok(names)
}
