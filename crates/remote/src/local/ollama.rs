//! Imports a model from Ollama's models folder, whose layout is
//! `manifests/<host>/<namespace>/<model>/<tag>` and `blobs/sha256-<hex>`. The manifest is kept byte
//! for byte.

use std::path::Path;

use store::Store;
use store::progress::Progress;
use types::{Manifest, lock};

use super::image::locked;
use super::tree::{self, Folder, Hash, Tree, Wanted};
use crate::ollama::{Model, Name};
use crate::{Error, Result};

/// Limit for the blobs of a model. Real ones have a few: weights, projector, template, license.
const MAX_LAYERS: usize = 256;

/// Imports a model from a models folder (`~/.ollama/models`) or from its parent.
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
            reason: "it has no folder manifests/; give Ollama's models folder (~/.ollama/models)"
                .into(),
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
                    "it has {size} bytes, but the manifest says {}; run `ollama pull {name}` again",
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

/// Lists the models of a folder, for an error message.
fn names(tree: &dyn Tree, manifests: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in tree::files(tree, manifests, |_| true)? {
        if let Some(name) = Name::of_path(&file.path) {
            names.push(name.to_string());
        }
    }
    Ok(names)
}
