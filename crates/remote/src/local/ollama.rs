//! Imports a model from Ollama's models folder, whose layout is
//! `manifests/<host>/<namespace>/<model>/<tag>` and `blobs/sha256-<hex>`. The manifest is kept byte
//! for byte.

use std::path::Path;

use store::Store;
use store::progress::Progress;
use types::{Manifest, lock};

use super::tree::{self, DiskFolder, FileImport, FileTree, RequiredHash};
use crate::lock_manifest::to_lock_manifest;
use crate::ollama::{OllamaArtifact, OllamaName};
use crate::{Error, Result};

/// Limit for the blobs of a model. Real ones have a few: weights, projector, template, license.
const MAX_LAYERS: usize = 256;

/// Imports a model from a models folder (`~/.ollama/models`) or from its parent.
pub fn import_model_from_ollama_folder(
    path: &Path,
    name: &OllamaName,
    store: &Store,
    progress: &dyn Progress,
) -> Result<OllamaArtifact> {
    let folder = DiskFolder::open(path.to_owned())?;
    let base = ["", "models"]
        .into_iter()
        .find(|base| {
            matches!(folder.list_folder(&tree::join_paths(base, "manifests")), Ok(Some(_)))
        })
        .ok_or_else(|| Error::Local {
            path: path.to_owned(),
            reason: "it has no folder manifests/; give Ollama's models folder (~/.ollama/models)"
                .into(),
        })?;
    let manifests = tree::join_paths(base, "manifests");
    let document = tree::join_paths(&manifests, &name.manifest_path());
    let Some(bytes) = folder.read_document(&document, Manifest::MAX_SIZE)? else {
        let there = list_model_names(&folder, &manifests)?;
        return Err(Error::not_found_among(format!("model {name} in {}", path.display()), &there));
    };
    let (manifest, descriptor) = crate::ollama::parse_manifest(name, &bytes)?;
    let blobs: Vec<_> = manifest.blobs().collect();
    if blobs.len() > MAX_LAYERS {
        return Err(Error::Damaged {
            what: folder.describe_path(&document),
            reason: format!("it has more than {MAX_LAYERS} layers").into(),
        });
    }
    let mut wanted = Vec::with_capacity(blobs.len());
    for blob in blobs {
        let file = tree::join_paths(base, &format!("blobs/{}", blob.digest.dashed_text()));
        let size = folder.file_size(&file)?;
        if size != blob.size {
            return Err(Error::Damaged {
                what: folder.describe_path(&file),
                reason: format!(
                    "it has {size} bytes, but the manifest says {}; run `ollama pull {name}` again",
                    blob.size
                )
                .into(),
            });
        }
        wanted.push(FileImport { path: file, size, hash: RequiredHash::Known(blob.digest) });
    }
    folder.import_files(&wanted, store, progress)?;
    store.put_bytes(&bytes)?;
    let locked: lock::LockedManifest = to_lock_manifest(&descriptor, &manifest, None);
    OllamaArtifact::new(name, &descriptor, locked)
}

/// Lists the models of a folder, for an error message.
fn list_model_names(tree: &dyn FileTree, manifests: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in tree::list_files(tree, manifests, |_| true)? {
        if let Some(name) = OllamaName::from_path(&file.path) {
            names.push(name.to_string());
        }
    }
    Ok(names)
}
