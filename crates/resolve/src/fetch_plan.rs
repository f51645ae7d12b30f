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
        let requests = blob_request(world, content)
            .and_then(|request| Ok((request, alternative_requests(content)?)));
        match requests {
            Ok((Some(request), alternatives)) => {
                let (blob, name) = (content.blob, job_name(content));
                jobs.remote.push(FetchJob { blob, name, request, alternatives });
            }
            Ok((None, _)) => {
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
    let (now, then) = (again.lock.roots(), lock.roots());
    let now: HashMap<&Reference, &Root> = now.iter().map(|root| (&root.name, root)).collect();
    match then.iter().find(|root| now.get(&root.name) != Some(root)) {
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
        BlobOrigin::Blob(reference) | BlobOrigin::ForeignLayer { reference, .. } => {
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

/// The requests for a layer that its registry may not have, by the addresses in the manifest. No
/// credential is sent there: anyone can write any address into a manifest.
fn alternative_requests(content: &LockedBlob<'_>) -> remote::Result<Vec<HttpRequest>> {
    let BlobOrigin::ForeignLayer { urls, .. } = &content.origin else { return Ok(Vec::new()) };
    let is_web = |url: &&String| url.starts_with("https://") || url.starts_with("http://");
    urls.iter().filter(is_web).map(|url| remote::http::build_anonymous_request(url)).collect()
}

/// What a blob is called in progress and errors.
fn job_name(content: &LockedBlob<'_>) -> String {
    match &content.origin {
        BlobOrigin::Hub { model, file } => format!("{} {}", model.hf, file.path),
        BlobOrigin::Url(url) => (*url).to_owned(),
        _ => content.owner.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;
    use std::sync::Arc;

    use net::{Client, Mirrors};
    use store::hash::sha256;
    use store::progress::SilentProgress;
    use types::lock::{ImageOrigin, LockedImage, LockedManifest};
    use types::{Platform, media_type};

    use super::*;

    fn make_world() -> (tempfile::TempDir, ResolveContext) {
        let folder = tempfile::tempdir().unwrap();
        let world = ResolveContext {
            client: Client::builder().build().unwrap(),
            mirrors: Mirrors::new(&[].into(), &[]).unwrap(),
            store: Store::open(folder.path().join("store")).unwrap(),
            base: PathBuf::from("."),
            progress: Arc::new(SilentProgress),
        };
        (folder, world)
    }

    fn make_image(reference: &str, from: Option<ImageOrigin>, layer: &[u8]) -> LockedImage {
        let manifest = LockedManifest {
            digest: sha256(reference.as_bytes()),
            size: 1,
            media_type: media_type::OCI_MANIFEST.into(),
            platform: Some(Platform::linux_amd64()),
            config: None,
            layers: vec![Blob { digest: sha256(layer), size: layer.len() as u64 }],
            layer_urls: std::collections::BTreeMap::new(),
        };
        LockedImage {
            reference: reference.parse().unwrap(),
            digest: manifest.digest,
            media_type: manifest.media_type.clone(),
            size: 1,
            platforms: vec![Platform::linux_amd64()],
            from,
            indexes: vec![],
            manifests: vec![manifest],
            attached: vec![],
            attached_content: types::input::AttachedContent::Carried,
            seen: vec![],
        }
    }

    fn make_lock(images: Vec<LockedImage>) -> Lock {
        let platforms = vec![Platform::linux_amd64()];
        let name = "site".to_owned();
        Lock {
            version: types::lock::VERSION,
            name,
            platforms,
            requests: vec![],
            charts: vec![],
            manifests: vec![],
            images,
            models: vec![],
            files: vec![],
        }
    }

    fn make_snapshot_root(commit: char, revision: &str) -> Root {
        let commit = commit.to_string().repeat(40);
        let name = format!("huggingface.co/o/n:{commit}").parse().unwrap();
        let manifest = Blob { digest: sha256(commit.as_bytes()), size: 1 };
        Root::for_model(
            &name,
            manifest,
            &"o/n".parse().unwrap(),
            &commit.parse().unwrap(),
            revision,
        )
    }

    #[test]
    fn what_only_this_machine_has_is_missing_and_what_a_registry_has_is_fetched() {
        let (_folder, world) = make_world();
        let archive = || Some(ImageOrigin::Archive("own.tar".into()));
        let lock = make_lock(vec![
            make_image("ghcr.io/a/b:1", None, b"shared"),
            make_image("own:1", archive(), b"shared"),
            make_image("own:2", archive(), b"own"),
        ]);
        let plan = plan_fetch(&world, &lock).unwrap();
        let fetched: Vec<&str> = plan.remote.iter().map(|job| job.name.as_str()).collect();
        assert!(fetched.iter().all(|name| *name == "ghcr.io/a/b:1"), "{fetched:?}");
        let is_missing =
            |bytes: &[u8]| plan.missing.iter().any(|blob| blob.digest == sha256(bytes));
        assert!(is_missing(b"own") && is_missing(b"own:1"));
        // The registry has this layer: it need not be made from the archive again.
        assert!(!is_missing(b"shared"));
        world.store.put_bytes(b"own").unwrap();
        let plan = plan_fetch(&world, &lock).unwrap();
        assert!(plan.missing.iter().all(|blob| blob.digest != sha256(b"own")));
    }

    #[test]
    fn a_root_claims_a_branch_only_with_both_annotations() {
        let root = make_snapshot_root('a', "main");
        assert_eq!(claimed_branch(&root), Some(("o/n".into(), "main".into())));
        let mut without = root;
        without.descriptor.annotations.remove(annotation::MODEL_REVISION);
        assert_eq!(claimed_branch(&without), None);
    }
}
