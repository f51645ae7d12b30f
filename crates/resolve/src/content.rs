//! From a lock to what is to be fetched, and to what must be made or taken in again.

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

/// What a lock asks of the network, and what only this machine has.
pub struct Jobs {
    /// Blobs to fetch; some may be in the store.
    pub remote: Vec<Job>,
    /// Blobs that no network gives and that are not in the store.
    pub missing: Vec<Blob>,
}

/// The blobs of a lock as jobs for [`remote::fetch`].
pub fn jobs(world: &World, lock: &Lock) -> Result<Jobs> {
    let content = lock.content();
    // A blob that one thing has locally and another remotely can come from there.
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

/// Makes again, or takes in again, what the store lost of things that no network gives: the input
/// is resolved with the lock's pins, and must give the lock again.
pub async fn restore(world: &World, input: &Input, lock: &Lock) -> Result<()> {
    let again = crate::lock(world, input, Some(lock), &Upgrade::Nothing).await?;
    let (now, then) = (again.roots(), lock.roots());
    match then.iter().find(|root| !now.contains(root)) {
        Some(changed) => Err(Error::Changed { thing: changed.name.to_string() }),
        None => Ok(()),
    }
}

/// Gives the things of a lock their names in the store. A branch of a model that moved on belongs to
/// the new snapshot; the one before stays, by its commit.
pub fn publish(store: &Store, lock: &Lock) -> Result<()> {
    let mut roots = lock.roots();
    let claims: HashMap<_, _> =
        roots.iter().filter_map(|root| Some((claim(root)?, &root.name))).collect();
    let mut outdated: Vec<Root> = store.roots().map_err(Error::Store)?;
    outdated.retain(|root| {
        claim(root).and_then(|claim| claims.get(&claim)).is_some_and(|name| **name != root.name)
    });
    for root in &mut outdated {
        let annotations = &mut root.descriptor.annotations;
        if let Some(commit) = annotations.get(annotation::MODEL_COMMIT).cloned() {
            annotations.insert(annotation::MODEL_REVISION.to_owned(), commit);
        }
    }
    roots.extend(outdated);
    store.publish(&roots).map_err(Error::Store)
}

/// Which branch of which model a root says to be.
fn claim(root: &Root) -> Option<(String, String)> {
    let annotation = |key: &str| root.descriptor.annotations.get(key).cloned();
    Some((annotation(annotation::MODEL_ID)?, annotation(annotation::MODEL_REVISION)?))
}

fn has(store: &Store, blob: Blob) -> Result<bool> {
    Ok(store.size(&blob.digest).map_err(Error::Store)? == Some(blob.size))
}

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

fn name(content: &Content<'_>) -> String {
    match &content.origin {
        Origin::Hub { model, file } => format!("{} {}", model.hf, file.path),
        Origin::Url(url) => (*url).to_owned(),
        _ => content.owner.to_string(),
    }
}
