//! Resolves models: from the Hugging Face Hub, Ollama's registry, a URL, an image, or local
//! folders.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use remote::hub::{self, HubClient, ModelDependency, ModelFileFilter};
use remote::model::LockedSnapshot;
use remote::oci::{self, ImageQuery, PlatformRequirement, RegistryClient};
use remote::{local, ollama};
use types::input::{self, AttachedContent, HubModelSource, Input, ModelDependencies};
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
    let mut needing = VecDeque::new();
    for (model, outcome) in outcomes {
        match outcome {
            Ok(found) => {
                if let input::InputModel::Hub { dependencies, .. } = model {
                    needing.extend(found.iter().cloned().map(|model| (model, *dependencies)));
                }
                models.extend(found);
            }
            Err(cause) => problems.push(ResolveProblem { thing: format_model(model), cause }),
        }
    }
    resolve_dependencies(world, input, pins, needing, &mut models, problems).await;
    models
}

/// Adds the models that others need to `models`, where that is requested, and names them otherwise.
async fn resolve_dependencies(
    world: &ResolveContext,
    input: &Input,
    pins: &LockPins<'_>,
    mut needing: VecDeque<(lock::LockedModel, ModelDependencies)>,
    models: &mut Vec<lock::LockedModel>,
    problems: &mut Vec<ResolveProblem>,
) {
    // A model that could not be resolved is requested all the same.
    let requested = input.models.iter().filter_map(|model| match model {
        input::InputModel::Hub { id, .. } => Some(id.clone()),
        _ => None,
    });
    let mut known: HashSet<ModelId> = requested.collect();
    known.extend(models.iter().filter_map(|model| match model {
        lock::LockedModel::Hub(model) => Some(model.hf.clone()),
        _ => None,
    }));
    while let Some((model, policy)) = needing.pop_front() {
        let lock::LockedModel::Hub(model) = model else { continue };
        let needed = match find_model_dependencies(world, &model).await {
            Ok(needed) => needed,
            Err(cause) => {
                problems.push(ResolveProblem { thing: model.hf.to_string(), cause });
                continue;
            }
        };
        for dependency in needed {
            if !known.insert(dependency.id.clone()) {
                continue;
            }
            let ModelDependency { id, revision, reason } = &dependency;
            if policy == ModelDependencies::Told {
                world.progress.add_note(&format!(
                    "{} needs {id} ({reason}), which is not carried; add `hf: {id}` to models:, or `dependencies: true` to {}",
                    model.hf, model.hf
                ));
                continue;
            }
            let wanted = RequestedHubModel { id, revision, include: &[], exclude: &[] };
            match resolve_hub_model(world, &wanted, &HubModelSource::Hub, pins).await {
                Ok(found) => {
                    needing.push_back((found.clone(), policy));
                    models.push(found);
                }
                Err(cause) => {
                    let thing = format!("{id} (needed by {}, {reason})", model.hf);
                    problems.push(ResolveProblem { thing, cause });
                }
            }
        }
    }
}

/// The models that the configuration files of a model name. The files are in the store, except for a
/// pinned model of which the store has lost them.
async fn find_model_dependencies(
    world: &ResolveContext,
    model: &LockedHubModel,
) -> remote::Result<Vec<ModelDependency>> {
    let configurations = hub::list_configurations(&model.files);
    if configurations.is_empty() {
        return Ok(Vec::new());
    }
    if model.from.is_none() {
        let client = HubClient::new(&world.client, &world.mirrors)?;
        let jobs = configurations
            .iter()
            .map(|(path, blob)| {
                Ok(remote::fetch::FetchJob {
                    blob: *blob,
                    name: format!("{} {path}", model.hf),
                    request: client.file_request(&model.hf, &model.commit, path)?,
                    alternatives: Vec::new(),
                })
            })
            .collect::<remote::Result<Vec<_>>>()?;
        let progress = Arc::clone(&world.progress);
        let report =
            remote::fetch::fetch_blobs(&world.client, &world.store, jobs, progress).await?;
        if let Some(failure) = report.failed.into_iter().next() {
            return Err(failure.error);
        }
    }
    let mut needed = Vec::new();
    for (path, blob) in configurations {
        let bytes = store::read_blob(&world.store, &blob.digest, hub::MAX_CONFIGURATION)?;
        needed.extend(hub::find_dependencies(&model.hf, path, &bytes));
    }
    Ok(needed)
}

/// Resolves one entry of `models:`. A path in an image may hold several models.
async fn resolve_model(
    world: &ResolveContext,
    input: &Input,
    model: &input::InputModel,
    pins: &LockPins<'_>,
) -> remote::Result<Vec<lock::LockedModel>> {
    match model {
        input::InputModel::Hub { id, revision, include, exclude, from, .. } => {
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
            let client = HubClient::new(&world.client, &world.mirrors)?;
            let known = pins.pinned_small_files(wanted.id);
            (client.take_snapshot(&id, &revision, &filter, &known, &store, &progress).await?, None)
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
