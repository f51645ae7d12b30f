//! Resolves models: from the Hugging Face Hub, Ollama's registry, a URL, an image, or local
//! folders.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use remote::hub::{HubClient, ModelFileFilter};
use remote::model::LockedSnapshot;
use remote::oci::{self, ImageQuery, PlatformRequirement, RegistryClient};
use remote::{local, ollama};
use types::input::{self, AttachedContent, HubModelSource, Input};
use types::lock::{self, LockedHubModel, ModelOrigin};
use types::{ModelId, Reference};

use crate::ResolveProblem;
use crate::context::{LOOKUPS, ResolveContext, run_blocking};
use crate::pins::LockPins;

/// Resolves all models of the input.
pub(crate) async fn resolve_models(
    world: &ResolveContext,
    input: &Input,
    pins: &LockPins<'_>,
    problems: &mut Vec<ResolveProblem>,
) -> Vec<lock::LockedModel> {
    let outcomes: Vec<_> = stream::iter(&input.models)
        .map(|model| async move { (model, resolve_model(world, input, model, pins).await) })
        .buffered(LOOKUPS)
        .collect()
        .await;
    let mut models = Vec::new();
    for (model, outcome) in outcomes {
        match outcome {
            Ok(found) => models.extend(found),
            Err(cause) => problems.push(ResolveProblem { thing: format_model(model), cause }),
        }
    }
    models
}

/// Resolves one entry of `models:`. A path in an image may hold several models.
async fn resolve_model(
    world: &ResolveContext,
    input: &Input,
    model: &input::InputModel,
    pins: &LockPins<'_>,
) -> remote::Result<Vec<lock::LockedModel>> {
    match model {
        input::InputModel::Hub { id, revision, include, exclude, from } => {
            let wanted = RequestedHubModel { id, revision, include, exclude };
            resolve_hub_model(world, &wanted, from, pins).await.map(|model| vec![model])
        }
        input::InputModel::Ollama { name, folder } => {
            resolve_ollama_model(world, name, folder.as_deref(), pins)
                .await
                .map(|model| vec![model])
        }
        input::InputModel::Url { url, sha256 } => {
            // A sha256 in the input that differs from the pinned one means that the content
            // changed.
            let is_it = |pinned: &lock::LockedModel| {
                matches!(pinned, lock::LockedModel::Url(pinned) if pinned.url == url.public_text()
                    && sha256.is_none_or(|wanted| wanted == pinned.content.digest))
            };
            if let Some(pinned) = pins.pinned_model(is_it) {
                return Ok(vec![pinned.clone()]);
            }
            let (client, store) = (&world.client, &world.store);
            let found = remote::http::look_up_file(
                client,
                url.expose_secrets(),
                *sha256,
                store,
                &world.progress,
            )
            .await?;
            let documents = remote::artifact::build_file_artifact(&found.title, found.content)?;
            documents.write_to_store(store)?;
            Ok(vec![lock::LockedModel::Url(lock::LockedUrlModel {
                url: url.public_text(),
                reference: documents.reference,
                title: documents.title,
                content: documents.content,
                manifest: documents.manifest_blob,
            })])
        }
        input::InputModel::ImagePath { image, path, id } => {
            resolve_models_in_image(world, input, image, path, id.as_ref()).await
        }
    }
}

/// Which files of which repository and revision of the Hub are requested.
struct RequestedHubModel<'a> {
    id: &'a ModelId,
    revision: &'a str,
    include: &'a [String],
    exclude: &'a [String],
}

/// Resolves a model of the Hub: by its pin, from the Hub, or from a local cache or folder.
async fn resolve_hub_model(
    world: &ResolveContext,
    wanted: &RequestedHubModel<'_>,
    from: &HubModelSource,
    pins: &LockPins<'_>,
) -> remote::Result<lock::LockedModel> {
    let filter = ModelFileFilter::new(wanted.include, wanted.exclude)?;
    let (id, revision) = (wanted.id.clone(), wanted.revision.to_owned());
    let (store, progress) = (world.store.clone(), Arc::clone(&world.progress));
    let (snapshot, from) = match from {
        HubModelSource::Hub => {
            let is_it = |pinned: &lock::LockedModel| {
                matches!(pinned, lock::LockedModel::Hub(pinned) if pinned.hf == *wanted.id
                    && pinned.revision == wanted.revision
                    && pinned.include == wanted.include
                    && pinned.exclude == wanted.exclude
                    && pinned.from.is_none())
            };
            if let Some(pinned) = pins.pinned_model(is_it) {
                return Ok(pinned.clone());
            }
            let hub = HubClient::new(&world.client, &world.mirrors)?;
            let known = pins.pinned_small_files(wanted.id);
            (hub.take_snapshot(&id, &revision, &filter, &known, &store, &progress).await?, None)
        }
        HubModelSource::Cache(path) => {
            let from = ModelOrigin::Cache(path.display().to_string());
            let path = world.resolve_path(path);
            let snapshot = run_blocking(move || {
                local::import_model_from_cache(&path, &id, &revision, &filter, &store, &*progress)
            })
            .await?;
            (snapshot, Some(from))
        }
        HubModelSource::Folder(path) => {
            let from = ModelOrigin::Folder(path.display().to_string());
            let path = world.resolve_path(path);
            let snapshot = run_blocking(move || {
                local::import_model_from_folder(&path, &id, &revision, &filter, &store, &*progress)
            })
            .await?;
            (snapshot, Some(from))
        }
    };
    lock_snapshot(world, snapshot, wanted, from)
}

/// Stores the documents of a snapshot and makes its entry in the lock.
fn lock_snapshot(
    world: &ResolveContext,
    mut snapshot: LockedSnapshot,
    wanted: &RequestedHubModel<'_>,
    from: Option<ModelOrigin>,
) -> remote::Result<lock::LockedModel> {
    // The manifest lists the files in this order, so its digest depends on it.
    snapshot.files.sort_by(|a, b| a.path.cmp(&b.path));
    let documents = snapshot.write_to_store(&world.store)?;
    let descriptor = &documents.root.descriptor;
    Ok(lock::LockedModel::Hub(LockedHubModel {
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

async fn resolve_ollama_model(
    world: &ResolveContext,
    text: &str,
    folder: Option<&Path>,
    pins: &LockPins<'_>,
) -> remote::Result<lock::LockedModel> {
    let name: ollama::OllamaName = text.parse()?;
    let (found, from) = match folder {
        None => {
            let is_it = |pinned: &lock::LockedModel| {
                matches!(pinned, lock::LockedModel::Ollama(pinned)
                    if pinned.ollama == text && pinned.from.is_none())
            };
            if let Some(pinned) = pins.pinned_model(is_it) {
                return Ok(pinned.clone());
            }
            let registry = ollama::OllamaRegistry::new(&world.client, &world.mirrors, &name)?;
            (registry.look_up_model(&world.store).await?, None)
        }
        Some(folder) => {
            let from = ModelOrigin::Folder(folder.display().to_string());
            let path: PathBuf = world.resolve_path(folder);
            let (store, progress) = (world.store.clone(), Arc::clone(&world.progress));
            let found = run_blocking(move || {
                local::import_model_from_ollama_folder(&path, &name, &store, &*progress)
            })
            .await?;
            (found, Some(from))
        }
    };
    Ok(lock::LockedModel::Ollama(lock::LockedOllamaModel {
        ollama: text.to_owned(),
        from,
        reference: found.root.name,
        manifest: found.manifest,
    }))
}

/// Resolves the models inside an image: its layers are fetched into the store, and the files are
/// extracted from them. The image itself is not carried, unless it is requested elsewhere.
async fn resolve_models_in_image(
    world: &ResolveContext,
    input: &Input,
    image: &Reference,
    path: &str,
    id: Option<&ModelId>,
) -> remote::Result<Vec<lock::LockedModel>> {
    let registry = RegistryClient::new(&world.client, &world.mirrors, image.registry());
    // Model files are the same on every platform: the first one that the image has is enough.
    let query = ImageQuery {
        reference: image,
        platforms: &input.platforms,
        requirement: PlatformRequirement::Any,
        // The image itself is not carried, so its signatures are not either.
        attached: AttachedContent::LeftOut,
    };
    let found = oci::inspect_image(&registry, &world.store, query).await?;
    let Some(manifest) = found.manifests.first() else {
        return Err(remote::Error::NotFound {
            what: format!("an image in {image}"),
            hint: "its index has no image for the platforms of gantry.yaml".into(),
        });
    };
    let jobs = manifest
        .blobs()
        .map(|blob| {
            Ok(remote::fetch::FetchJob {
                blob,
                name: image.to_string(),
                request: registry.blob_request(image.repository(), &blob.digest)?,
                alternatives: Vec::new(),
            })
        })
        .collect::<remote::Result<Vec<_>>>()?;
    let report =
        remote::fetch::fetch_blobs(&world.client, &world.store, jobs, Arc::clone(&world.progress))
            .await?;
    if let Some(failure) = report.failed.into_iter().next() {
        return Err(failure.error);
    }
    let (store, progress) = (world.store.clone(), Arc::clone(&world.progress));
    let (name, manifest, folder) = (image.to_string(), manifest.clone(), path.to_owned());
    let id = id.cloned();
    let snapshots = run_blocking(move || {
        local::import_models_from_image(
            &name,
            &manifest,
            &folder,
            id.as_ref(),
            &store,
            &store,
            &*progress,
        )
    })
    .await?;
    let from = ModelOrigin::Image { image: image.clone(), path: path.to_owned() };
    snapshots
        .into_iter()
        .map(|snapshot| {
            let (id, revision) = (snapshot.id.clone(), snapshot.revision.clone());
            let wanted =
                RequestedHubModel { id: &id, revision: &revision, include: &[], exclude: &[] };
            lock_snapshot(world, snapshot, &wanted, Some(from.clone()))
        })
        .collect()
}

/// The model as it is written in the input, for messages.
fn format_model(model: &input::InputModel) -> String {
    match model {
        input::InputModel::Hub { id, .. } => id.to_string(),
        input::InputModel::Ollama { name, .. } => name.clone(),
        input::InputModel::Url { url, .. } => url.to_string(),
        input::InputModel::ImagePath { image, path, .. } => format!("{image} {path}"),
    }
}
