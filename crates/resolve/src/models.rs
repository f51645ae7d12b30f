//! Resolves models: from the Hugging Face Hub, Ollama's registry, a URL, an image, or local
//! folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use remote::hub::{Filter, Hub};
use remote::model::Snapshot;
use remote::oci::{self, Registry, Want};
use remote::{local, ollama};
use types::input::{self, HubFrom, Input};
use types::lock::{self, HubModel, ModelFrom};
use types::{ModelId, Reference};

use crate::pins::Pins;
use crate::{LOOKUPS, Problem, World, blocking};

/// Resolves all models of the input.
pub(crate) async fn resolve(
    world: &World,
    input: &Input,
    pins: &Pins<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<lock::Model> {
    let outcomes: Vec<_> = stream::iter(&input.models)
        .map(|model| async move { (model, one(world, input, model, pins).await) })
        .buffered(LOOKUPS)
        .collect()
        .await;
    let mut models = Vec::new();
    for (model, outcome) in outcomes {
        match outcome {
            Ok(found) => models.extend(found),
            Err(cause) => problems.push(Problem { thing: shown(model), cause }),
        }
    }
    models
}

/// Resolves one entry of `models:`. A path in an image may hold several models.
async fn one(
    world: &World,
    input: &Input,
    model: &input::Model,
    pins: &Pins<'_>,
) -> remote::Result<Vec<lock::Model>> {
    match model {
        input::Model::Hub { id, revision, include, exclude, from } => {
            let wanted = Wanted { id, revision, include, exclude };
            hub(world, &wanted, from, pins).await.map(|model| vec![model])
        }
        input::Model::Ollama { name, folder } => {
            of_ollama(world, name, folder.as_deref(), pins).await.map(|model| vec![model])
        }
        input::Model::Url { url, sha256 } => {
            // A sha256 in the input that differs from the pinned one means that the content
            // changed.
            let is_it = |pinned: &lock::Model| {
                matches!(pinned, lock::Model::Url(pinned) if pinned.url == *url
                    && sha256.is_none_or(|wanted| wanted == pinned.content.digest))
            };
            if let Some(pinned) = pins.model(is_it) {
                return Ok(vec![pinned.clone()]);
            }
            let (client, store) = (&world.client, &world.store);
            let found = remote::http::find(client, url, *sha256, store, &world.progress).await?;
            let documents = remote::artifact::documents(&found.title, found.content)?;
            documents.put(store)?;
            Ok(vec![lock::Model::Url(lock::UrlModel {
                url: url.clone(),
                reference: documents.reference,
                title: documents.title,
                content: documents.content,
                manifest: documents.manifest_blob,
            })])
        }
        input::Model::ImagePath { image, path, id } => {
            in_image(world, input, image, path, id.as_ref()).await
        }
    }
}

/// Which files of which repository and revision of the Hub are requested.
struct Wanted<'a> {
    id: &'a ModelId,
    revision: &'a str,
    include: &'a [String],
    exclude: &'a [String],
}

/// Resolves a model of the Hub: by its pin, from the Hub, or from a local cache or folder.
async fn hub(
    world: &World,
    wanted: &Wanted<'_>,
    from: &HubFrom,
    pins: &Pins<'_>,
) -> remote::Result<lock::Model> {
    let filter = Filter::new(wanted.include, wanted.exclude)?;
    let (id, revision) = (wanted.id.clone(), wanted.revision.to_owned());
    let (store, progress) = (world.store.clone(), Arc::clone(&world.progress));
    let (snapshot, from) = match from {
        HubFrom::Hub => {
            let is_it = |pinned: &lock::Model| {
                matches!(pinned, lock::Model::Hub(pinned) if pinned.hf == *wanted.id
                    && pinned.revision == wanted.revision
                    && pinned.include == wanted.include
                    && pinned.exclude == wanted.exclude
                    && pinned.from.is_none())
            };
            if let Some(pinned) = pins.model(is_it) {
                return Ok(pinned.clone());
            }
            let hub = Hub::new(&world.client, &world.mirrors)?;
            let known = pins.small_files(wanted.id);
            (hub.snapshot(&id, &revision, &filter, &known, &store, &progress).await?, None)
        }
        HubFrom::Cache(path) => {
            let from = ModelFrom::Cache(path.display().to_string());
            let path = world.path(path);
            let snapshot = blocking(move || {
                local::model_from_cache(&path, &id, &revision, &filter, &store, &*progress)
            })
            .await?;
            (snapshot, Some(from))
        }
        HubFrom::Folder(path) => {
            let from = ModelFrom::Folder(path.display().to_string());
            let path = world.path(path);
            let snapshot = blocking(move || {
                local::model_from_folder(&path, &id, &revision, &filter, &store, &*progress)
            })
            .await?;
            (snapshot, Some(from))
        }
    };
    locked(world, snapshot, wanted, from)
}

/// Stores the documents of a snapshot and makes its entry in the lock.
fn locked(
    world: &World,
    mut snapshot: Snapshot,
    wanted: &Wanted<'_>,
    from: Option<ModelFrom>,
) -> remote::Result<lock::Model> {
    // The manifest lists the files in this order, so its digest depends on it.
    snapshot.files.sort_by(|a, b| a.path.cmp(&b.path));
    let documents = snapshot.put(&world.store)?;
    let descriptor = &documents.root.descriptor;
    Ok(lock::Model::Hub(HubModel {
        hf: snapshot.id,
        revision: snapshot.revision,
        commit: snapshot.commit,
        include: wanted.include.to_vec(),
        exclude: wanted.exclude.to_vec(),
        from,
        reference: documents.reference,
        manifest: lock::Blob { digest: descriptor.digest, size: descriptor.size },
        config: documents.config_blob,
        files: snapshot.files,
    }))
}

async fn of_ollama(
    world: &World,
    text: &str,
    folder: Option<&Path>,
    pins: &Pins<'_>,
) -> remote::Result<lock::Model> {
    let name: ollama::Name = text.parse()?;
    let (found, from) = match folder {
        None => {
            let is_it = |pinned: &lock::Model| {
                matches!(pinned, lock::Model::Ollama(pinned)
                    if pinned.ollama == text && pinned.from.is_none())
            };
            if let Some(pinned) = pins.model(is_it) {
                return Ok(pinned.clone());
            }
            let registry = ollama::Registry::new(&world.client, &world.mirrors, &name)?;
            (registry.model(&world.store).await?, None)
        }
        Some(folder) => {
            let from = ModelFrom::Folder(folder.display().to_string());
            let path: PathBuf = world.path(folder);
            let (store, progress) = (world.store.clone(), Arc::clone(&world.progress));
            let found =
                blocking(move || local::model_from_ollama_folder(&path, &name, &store, &*progress))
                    .await?;
            (found, Some(from))
        }
    };
    Ok(lock::Model::Ollama(lock::OllamaModel {
        ollama: text.to_owned(),
        from,
        reference: found.root.name,
        manifest: found.manifest,
    }))
}

/// Resolves the models inside an image: its layers are fetched into the store, and the files are
/// extracted from them. The image itself is not carried, unless it is requested elsewhere.
async fn in_image(
    world: &World,
    input: &Input,
    image: &Reference,
    path: &str,
    id: Option<&ModelId>,
) -> remote::Result<Vec<lock::Model>> {
    let registry = Registry::new(&world.client, &world.mirrors, image.registry());
    // Model files are the same on every platform: the first one that the image has is enough.
    let found = oci::inspect(&registry, &world.store, image, &input.platforms, Want::Any).await?;
    let Some(manifest) = found.manifests.first() else {
        return Err(remote::Error::NotFound {
            what: format!("an image in {image}"),
            hint: "its index has no image for the platforms of gantry.yaml".into(),
        });
    };
    let jobs = manifest
        .blobs()
        .map(|blob| {
            Ok(remote::fetch::Job {
                blob,
                name: image.to_string(),
                request: registry.blob_request(image.repository(), &blob.digest)?,
            })
        })
        .collect::<remote::Result<Vec<_>>>()?;
    let report =
        remote::fetch::fetch(&world.client, &world.store, jobs, Arc::clone(&world.progress))
            .await?;
    if let Some(failure) = report.failed.into_iter().next() {
        return Err(failure.error);
    }
    let (store, progress) = (world.store.clone(), Arc::clone(&world.progress));
    let (name, manifest, folder) = (image.to_string(), manifest.clone(), path.to_owned());
    let id = id.cloned();
    let snapshots = blocking(move || {
        local::models_from_image(&name, &manifest, &folder, id.as_ref(), &store, &store, &*progress)
    })
    .await?;
    let from = ModelFrom::Image { image: image.clone(), path: path.to_owned() };
    snapshots
        .into_iter()
        .map(|snapshot| {
            let (id, revision) = (snapshot.id.clone(), snapshot.revision.clone());
            let wanted = Wanted { id: &id, revision: &revision, include: &[], exclude: &[] };
            locked(world, snapshot, &wanted, Some(from.clone()))
        })
        .collect()
}

/// The model as it is written in the input, for messages.
fn shown(model: &input::Model) -> String {
    match model {
        input::Model::Hub { id, .. } => id.to_string(),
        input::Model::Ollama { name, .. } => name.clone(),
        input::Model::Url { url, .. } => url.clone(),
        input::Model::ImagePath { image, path, .. } => format!("{image} {path}"),
    }
}
