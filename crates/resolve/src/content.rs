//! What a lock needs in the store: which blobs are to be fetched, which must be made from local
//! sources again, and the names that everything gets when it is there.

use std::collections::{HashMap, HashSet};

use net::Request;
use remote::fetch::Job;
use remote::hub::Hub;
use remote::oci::Registry;
use remote::ollama;
use store::{Source, Store};
use types::input::Input;
use types::lock::{Blob, Content, Lock, Origin};
use types::{Digest, Reference, Root, annotation};

use crate::{Error, Problem, Result, Upgrade, World};

/// Where the blobs of a lock come from.
pub struct Jobs {
    /// The blobs to fetch. Some may be in the store already; the fetch engine skips them.
    pub remote: Vec<Job>,
    /// Blobs that are not in the store and only come from local sources: see [`restore`].
    pub missing: Vec<Blob>,
}

/// The blobs of a lock as jobs for [`remote::fetch`].
pub fn jobs(world: &World, lock: &Lock) -> Result<Jobs> {
    let content = lock.content();
    // A blob that one item has from a local source may be remote content of another: then it can be
    // fetched.
    let fetchable: HashSet<Digest> = content
        .iter()
        .filter(|content| content.origin != Origin::Local)
        .map(|content| content.blob.digest)
        .collect();
    let mut jobs = Jobs { remote: Vec::new(), missing: Vec::new() };
    for content in &content {
        match request(world, content) {
            Ok(Some(request)) => {
                jobs.remote.push(Job { blob: content.blob, name: name(content), request });
            }
            Ok(None) => {
                if !fetchable.contains(&content.blob.digest) && !has(&world.store, content.blob)? {
                    jobs.missing.push(content.blob);
                }
            }
            Err(cause) => {
                let thing = content.owner.to_string();
                return Err(Error::Several(vec![Problem { thing, cause }]));
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
pub async fn restore(world: &World, input: &Input, lock: &Lock) -> Result<()> {
    let again = crate::lock(world, input, Some(lock), &Upgrade::Nothing).await?;
    let (now, then) = (again.roots(), lock.roots());
    match then.iter().find(|root| !now.contains(root)) {
        Some(changed) => Err(Error::Changed { thing: changed.name.to_string() }),
        None => Ok(()),
    }
}

/// Publishes the roots of a lock in the store. If a branch of a model has moved to another commit,
/// the branch belongs to the new snapshot, and the old snapshot stays with its commit as its
/// revision.
pub fn publish(store: &Store, lock: &Lock) -> Result<()> {
    let mut roots = lock.roots();
    // Which snapshot the lock says is a branch: ("BAAI/bge-m3", "main") -> name of the root.
    let claims: HashMap<_, _> =
        roots.iter().filter_map(|root| Some((claim(root)?, &root.name))).collect();
    let mut outdated: Vec<Root> = store.roots().map_err(Error::Store)?;
    outdated.retain(|root| {
        claim(root).and_then(|claim| claims.get(&claim)).is_some_and(|name| **name != root.name)
    });
    for root in &mut outdated {
        let annotations = &mut root.descriptor.annotations;
        // From now on it is only reachable by its commit.
        if let Some(commit) = annotations.get(annotation::MODEL_COMMIT).cloned() {
            annotations.insert(annotation::MODEL_REVISION.to_owned(), commit);
        }
    }
    roots.extend(outdated);
    store.publish(&roots).map_err(Error::Store)
}

/// Which model and which branch of it a root is, by its annotations.
fn claim(root: &Root) -> Option<(String, String)> {
    let annotation = |key: &str| root.descriptor.annotations.get(key).cloned();
    Some((annotation(annotation::MODEL_ID)?, annotation(annotation::MODEL_REVISION)?))
}

fn has(store: &Store, blob: Blob) -> Result<bool> {
    Ok(store.size(&blob.digest).map_err(Error::Store)? == Some(blob.size))
}

/// The request that fetches a blob; `None` for content from local sources.
fn request(world: &World, content: &Content<'_>) -> remote::Result<Option<Request>> {
    let registry =
        |reference: &Reference| Registry::new(&world.client, &world.mirrors, reference.registry());
    let digest = &content.blob.digest;
    Ok(Some(match &content.origin {
        Origin::Manifest(reference) => {
            registry(reference).manifest_request(&reference.with_digest(*digest))?
        }
        Origin::Blob(reference) => {
            registry(reference).blob_request(reference.repository(), digest)?
        }
        Origin::Ollama(model) => {
            let name = model.ollama.parse()?;
            let registry = ollama::Registry::new(&world.client, &world.mirrors, &name)?;
            match *digest == model.manifest.digest {
                true => registry.manifest_request()?,
                false => registry.blob_request(digest)?,
            }
        }
        Origin::Hub { model, file } => Hub::new(&world.client, &world.mirrors)?.file_request(
            &model.hf,
            &model.commit,
            &file.path,
        )?,
        Origin::Url(url) => remote::http::request(url)?,
        Origin::Local => return Ok(None),
    }))
}

/// What a blob is called in progress and errors.
fn name(content: &Content<'_>) -> String {
    match &content.origin {
        Origin::Hub { model, file } => format!("{} {}", model.hf, file.path),
        Origin::Url(url) => (*url).to_owned(),
        _ => content.owner.to_string(),
    }
}
