//! What a lock needs in the store: which blobs are to be fetched, which must be made from local
//! sources again, and the names that everything gets when it is there.

use std::collections::{HashMap, HashSet};

use net::HttpRequest;
use remote::fetch::FetchJob;
use remote::hub::HubClient;
use remote::oci::RegistryClient;
use remote::ollama;
use store::{Source, Store};
use types::input::Input;
use types::lock::{Blob, BlobOrigin, Lock, LockedBlob};
use types::{Digest, Reference, Root, annotation};

use crate::context::ResolveContext;
use crate::{Error, ResolveProblem, Result, UpgradeSelection};

/// Where the blobs of a lock come from.
pub struct FetchPlan {
    /// The blobs to fetch. Some may be in the store already; the fetch engine skips them.
    pub remote: Vec<FetchJob>,
    /// Blobs that are not in the store and only come from local sources: see [`restore_content`].
    pub missing: Vec<Blob>,
}

/// The blobs of a lock as jobs for [`remote::fetch_blobs`].
pub fn plan_fetch(world: &ResolveContext, lock: &Lock) -> Result<FetchPlan> {
    let content = lock.blobs();
    // A blob that one item has from a local source may be remote content of another: then it can be
    // fetched.
    let fetchable: HashSet<Digest> = content
        .iter()
        .filter(|content| content.origin != BlobOrigin::Local)
        .map(|content| content.blob.digest)
        .collect();
    let mut jobs = FetchPlan { remote: Vec::new(), missing: Vec::new() };
    for content in &content {
        match blob_request(world, content) {
            Ok(Some(request)) => {
                jobs.remote.push(FetchJob { blob: content.blob, name: job_name(content), request });
            }
            Ok(None) => {
                if !fetchable.contains(&content.blob.digest)
                    && !is_stored(&world.store, content.blob)?
                {
                    jobs.missing.push(content.blob);
                }
            }
            Err(cause) => {
                let thing = content.owner.to_string();
                return Err(Error::Several(vec![ResolveProblem { thing, cause }]));
            }
        }
    }
    Ok(jobs)
}

/// Puts content from local sources into the store again, where the store has lost it. The input is
/// resolved with the pins of the lock, and the result must be the same as the lock.
///
/// # Errors
/// [`Error::Changed`] when a local source is not what was locked.
pub async fn restore_content(world: &ResolveContext, input: &Input, lock: &Lock) -> Result<()> {
    let again =
        crate::lock_input::lock_input(world, input, Some(lock), &UpgradeSelection::Nothing).await?;
    let (now, then) = (again.roots(), lock.roots());
    match then.iter().find(|root| !now.contains(root)) {
        Some(changed) => Err(Error::Changed { thing: changed.name.to_string() }),
        None => Ok(()),
    }
}

/// Publishes the roots of a lock in the store. If a branch of a model has moved to another commit,
/// the branch belongs to the new snapshot, and the old snapshot stays with its commit as its
/// revision.
pub fn publish_roots(store: &Store, lock: &Lock) -> Result<()> {
    let mut roots = lock.roots();
    // Which snapshot the lock says is a branch: ("BAAI/bge-m3", "main") -> name of the root.
    let claims: HashMap<_, _> =
        roots.iter().filter_map(|root| Some((claimed_branch(root)?, &root.name))).collect();
    let mut outdated: Vec<Root> = store.roots().map_err(Error::Store)?;
    outdated.retain(|root| {
        claimed_branch(root)
            .and_then(|claim| claims.get(&claim))
            .is_some_and(|name| **name != root.name)
    });
    for root in &mut outdated {
        let annotations = &mut root.descriptor.annotations;
        // From now on it is only reachable by its commit.
        if let Some(commit) = annotations.get(annotation::MODEL_COMMIT).cloned() {
            annotations.insert(annotation::MODEL_REVISION.to_owned(), commit);
        }
    }
    roots.extend(outdated);
    store.publish_roots(&roots).map_err(Error::Store)
}

/// Which model and which branch of it a root is, by its annotations.
fn claimed_branch(root: &Root) -> Option<(String, String)> {
    let annotation = |key: &str| root.descriptor.annotations.get(key).cloned();
    Some((annotation(annotation::MODEL_ID)?, annotation(annotation::MODEL_REVISION)?))
}

fn is_stored(store: &Store, blob: Blob) -> Result<bool> {
    Ok(store.blob_size(&blob.digest).map_err(Error::Store)? == Some(blob.size))
}

/// The request that fetches a blob; `None` for content from local sources.
fn blob_request(
    world: &ResolveContext,
    content: &LockedBlob<'_>,
) -> remote::Result<Option<HttpRequest>> {
    let registry = |reference: &Reference| {
        RegistryClient::new(&world.client, &world.mirrors, reference.registry())
    };
    let digest = &content.blob.digest;
    Ok(Some(match &content.origin {
        BlobOrigin::Manifest(reference) => {
            registry(reference).manifest_request(&reference.with_digest(*digest))?
        }
        BlobOrigin::Blob(reference) => {
            registry(reference).blob_request(reference.repository(), digest)?
        }
        BlobOrigin::Ollama(model) => {
            let name = model.ollama.parse()?;
            let registry = ollama::OllamaRegistry::new(&world.client, &world.mirrors, &name)?;
            match *digest == model.manifest.digest {
                true => registry.manifest_request()?,
                false => registry.blob_request(digest)?,
            }
        }
        BlobOrigin::Hub { model, file } => HubClient::new(&world.client, &world.mirrors)?
            .file_request(&model.hf, &model.commit, &file.path)?,
        BlobOrigin::Url(url) => remote::http::build_file_request(url)?,
        BlobOrigin::Local => return Ok(None),
    }))
}

/// What a blob is called in progress and errors.
fn job_name(content: &LockedBlob<'_>) -> String {
    match &content.origin {
        BlobOrigin::Hub { model, file } => format!("{} {}", model.hf, file.path),
        BlobOrigin::Url(url) => (*url).to_owned(),
        _ => content.owner.to_string(),
    }
}
