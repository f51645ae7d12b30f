//! Resolves sets of plain manifests: their sources are read and checked, joined to one ordered stream,
//! stored as an OCI artifact, and searched for images.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use chart::manifest_set::{ManifestFault, ManifestSet, ManifestText, ObjectKey, PlacedObject};
use chart::{OperatorRules, inspect};
use store::Source as _;
use types::input::{Input, InputManifestSet, ManifestSource};
use types::lock::{self, Blob};
use types::{Cause, Digest, Reference, SecretUrl};

use crate::context::{ResolveContext, run_blocking};
use crate::manifest_sources::read_local_manifests;
use crate::release_images::ReleaseImages;
use crate::{Error, ResolveProblem, Result};

/// The longest file of manifests at a URL.
const MAX_REMOTE: u64 = 64 << 20;

/// A resolved set of manifests, and the images that it names.
pub(crate) struct ResolvedManifestSet {
    pub(crate) locked: lock::LockedManifestSet,
    pub(crate) images: ReleaseImages,
    objects: Vec<PlacedObject>,
}

/// Resolves all sets of manifests of the input. The images of those that have no `include:` of their own
/// are added to `common`.
pub(crate) async fn resolve_manifests(
    world: &ResolveContext,
    input: &Input,
    common: &mut BTreeSet<Reference>,
    problems: &mut Vec<ResolveProblem>,
) -> Vec<ResolvedManifestSet> {
    let rules = Arc::new(OperatorRules::from_input(input));
    let mut resolved = Vec::new();
    for set in &input.manifests {
        match resolve_manifest_set(world, input, set, &rules).await {
            Ok(one) => {
                if set.include.is_none() {
                    common.extend(one.images.references().cloned());
                }
                resolved.push(one);
            }
            Err(cause) => {
                let thing = format!("release {}", set.release);
                problems.push(ResolveProblem { thing, cause });
            }
        }
    }
    resolved
}

async fn resolve_manifest_set(
    world: &ResolveContext,
    input: &Input,
    set: &InputManifestSet,
    rules: &Arc<OperatorRules>,
) -> remote::Result<ResolvedManifestSet> {
    let built = read_manifest_set(world, set).await?;
    let release = set.release.clone();
    let (store, rules) = (world.store.clone(), Arc::clone(rules));
    let (set_of, artifact, found) = run_blocking(move || {
        let size = built.stream().len() as u64;
        let content = Blob { digest: store.put_bytes(built.stream().as_bytes())?, size };
        let artifact = remote::artifact::build_manifests_artifact(&release, content)?;
        artifact.write_to_store(&store)?;
        let findings = inspect::inspect_stream(built.stream(), &rules).findings;
        Ok::<_, remote::Error>((built, artifact, findings))
    })
    .await?;
    for broken in &found.broken {
        let place = &broken.place;
        world.progress.add_note(&format!(
            "{}: {}/{} has no valid image at {}: {:?} {}",
            set.release, place.kind, place.name, place.path, broken.text, broken.reason
        ));
    }
    let images = ReleaseImages::select(&set.release, found.images, set.include.as_ref(), input)?;
    let locked = lock::LockedManifestSet {
        release: set.release.clone(),
        namespace: set.namespace.clone(),
        from: set.sources.iter().map(ManifestSource::locked_name).collect(),
        reference: artifact.reference,
        content: artifact.content,
        manifest: artifact.manifest_blob,
    };
    Ok(ResolvedManifestSet { locked, images, objects: set_of.objects().to_vec() })
}

/// Reads the sources of a set of manifests, wherever they are, checks them, and joins them to one ordered
/// stream. What is at a URL is downloaded into the store.
///
/// # Errors
/// A source that cannot be read, and [`remote::Error::Manifests`] with the document that cannot be used.
pub async fn read_manifest_set(
    world: &ResolveContext,
    set: &InputManifestSet,
) -> remote::Result<ManifestSet> {
    let mut texts = Vec::new();
    for source in &set.sources {
        texts.extend(match source {
            ManifestSource::Url { url, sha256 } => {
                vec![download_manifests(world, url, *sha256).await?]
            }
            local => read_source(&world.base, local).await?,
        });
    }
    run_blocking(move || ManifestSet::build(&texts).map_err(to_remote_error)).await
}

async fn read_source(base: &Path, source: &ManifestSource) -> remote::Result<Vec<ManifestText>> {
    let (base, source) = (base.to_owned(), source.clone());
    run_blocking(move || read_local_manifests(&base, &source)).await
}

/// Downloads a file of manifests, unless the store has it.
async fn download_manifests(
    world: &ResolveContext,
    url: &SecretUrl,
    sha256: Digest,
) -> remote::Result<ManifestText> {
    let name = url.public_text();
    if world.store.blob_size(&sha256)?.is_none() {
        let file = remote::http::look_up_file(
            &world.client,
            url.expose_secrets(),
            None,
            &world.store,
            &world.progress,
        )
        .await?;
        if file.content.digest != sha256 {
            return Err(remote::Error::DigestMismatch {
                server: name.clone(),
                what: "the manifests".into(),
                expected: sha256.to_string(),
                actual: file.content.digest.to_string(),
            });
        }
    }
    let store = world.store.clone();
    let bytes = run_blocking(move || store::read_blob(&store, &sha256, MAX_REMOTE)).await?;
    let text = String::from_utf8(bytes).map_err(|error| remote::Error::Manifests {
        reason: Cause::about(format!("{name} is not a text in UTF-8"), error),
    })?;
    Ok(ManifestText { name, text })
}

/// Refuses an object that two sets have: each deploy of one would overwrite the other's.
///
/// # Errors
/// [`Error::NameCollision`] with both places.
pub(crate) fn check_objects(sets: &[ResolvedManifestSet]) -> Result<()> {
    let mut seen: HashMap<ObjectKey, (&ResolvedManifestSet, &PlacedObject)> = HashMap::new();
    let describe = |set: &ResolvedManifestSet, object: &PlacedObject| {
        format!("that of the release {} in {}", set.locked.release, object.place)
    };
    for set in sets {
        for object in &set.objects {
            let key = object.key.in_namespace(set.locked.namespace.as_deref());
            let name = key.to_string();
            if let Some((other, first)) = seen.insert(key, (set, object)) {
                return Err(Error::NameCollision {
                    name,
                    first: describe(other, first),
                    second: describe(set, object),
                });
            }
        }
    }
    Ok(())
}

/// The fault of a set of manifests as an error of its source.
fn to_remote_error(fault: ManifestFault) -> remote::Error {
    remote::Error::Manifests { reason: Cause::from_error(fault) }
}
