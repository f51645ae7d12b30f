//! A registry as the target of `gantry load`: implements [`Sink`], which `land` drives. Roots get
//! the names that the site's naming gives them. Order matters and comes from `land`: blobs first,
//! then the manifests of an index, then the root's own manifest under its tag.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Method, header};
use net::{Body, Client, Mirrors, Repeat, Response};
use serde_json::json;
use store::{Closure, Moved, Put, Sink, Source};
use types::naming::Prefix;
use types::{Descriptor, Digest, Index, Kind, Manifest, Reference, Root, annotation, media_type};

use super::registry::{Registry, Scope, fallback_tag};
use super::upload::Upload;
use crate::{Error, Result};

/// What to do with a sparse index (one of which only some platforms are carried) when the registry
/// does not accept it. docker-registry 2.8 does not: it answers `MANIFEST_BLOB_UNKNOWN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SparsePolicy {
    /// Keep the index where the registry accepts it; otherwise rewrite it with the platforms that
    /// are carried, and report the old and the new digest.
    #[default]
    Auto,
    /// Keep it, and fail where the registry does not accept it.
    Keep,
    /// Always rewrite it.
    Rewrite,
}

/// An index that was rewritten for the registry, and so has another digest there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The root's name at the source.
    pub name: Reference,
    /// Its digest at the source.
    pub from: Digest,
    /// Its digest in the registry.
    pub to: Digest,
}

/// A registry to which roots are pushed.
pub struct Push {
    registry: Registry,
    targets: HashMap<Reference, Reference>,
    policy: SparsePolicy,
    state: Mutex<State>,
    /// Held while the index under a referrers tag is read, changed and written: registries have no
    /// conditional write, so two at once would lose an entry.
    fallback: tokio::sync::Mutex<()>,
}

/// What a push has learnt so far; shared by all its concurrent transfers.
#[derive(Default)]
struct State {
    /// The repositories that are known to have a blob, from which it can be mounted.
    repositories: HashMap<Digest, Vec<String>>,
    /// For each root the manifests that its index lists and the source does not have.
    sparse: HashMap<Reference, HashSet<Digest>>,
    rewritten: Vec<Rewritten>,
}

impl Push {
    /// A sink for roots; `targets` maps each root's name to its name in the site's registry (from
    /// [`Prefix::targets`], which has checked that no two names collide).
    pub fn new(
        client: &Client,
        mirrors: &Mirrors,
        prefix: &Prefix,
        targets: impl IntoIterator<Item = (Reference, Reference)>,
        policy: SparsePolicy,
    ) -> Self {
        Self {
            registry: Registry::new(client, mirrors, prefix.registry()),
            targets: targets.into_iter().collect(),
            policy,
            state: Mutex::default(),
            fallback: tokio::sync::Mutex::default(),
        }
    }

    /// The indexes that were rewritten so far.
    pub fn rewritten(&self) -> Vec<Rewritten> {
        self.state().rewritten.clone()
    }

    /// Checks before any work that the registry is reachable and accepts pushes with the user's
    /// credential: opens an upload session in the first repository and cancels it. Asking for
    /// `/v2/` would not do, since registries answer there also to those who may only read.
    pub async fn check(&self) -> Result<()> {
        let Some(target) = self.targets.values().next() else { return Ok(()) };
        let what = format!("the registry {}", self.registry.host());
        let path = "blobs/uploads/";
        let request =
            self.registry.request(Method::POST, target.repository(), path, Scope::Push)?;
        let client = self.registry.client();
        let response = client.send(&request, Repeat::Safe).await.map_err(Error::net(&what))?;
        let response = response.success().await.map_err(|cause| match cause {
            // A web server, a read-only registry, or a project that does not exist.
            net::Error::Status { status: 400..=499 | 501, .. } => Error::NoPush {
                target: format!("{}/{}", self.registry.host(), target.repository()),
                cause,
            },
            other => Error::net(&what)(other),
        })?;
        // The session was opened only to see that it is granted.
        if let Some(location) = response.header("location") {
            let mut cancel = request;
            cancel.set_path_and_query(location).map_err(Error::net(&what))?;
            cancel.set_method(Method::DELETE);
            // A registry that cannot cancel drops the session by itself after some time.
            let _ = client.send(&cancel, Repeat::Safe).await;
        }
        Ok(())
    }

    fn target(&self, root: &Root) -> Result<&Reference> {
        self.targets.get(&root.name).ok_or_else(|| Error::NotFound {
            what: format!("a target name for {}", root.name),
            hint: "this is a bug in Gantry, please report it".into(),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a repository has a blob.
    fn learned(&self, digest: Digest, repository: &str) {
        let mut state = self.state();
        let known = state.repositories.entry(digest).or_default();
        if !known.iter().any(|other| other == repository) {
            known.push(repository.to_owned());
        }
    }

    /// PUTs a manifest under a tag or digest.
    async fn put(
        &self,
        repository: &str,
        version: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Response> {
        let what = format!("pushing {}/{repository}:{version}", self.registry.host());
        let path = format!("manifests/{version}");
        let mut request = self.registry.request(Method::PUT, repository, &path, Scope::Push)?;
        if let Ok(value) = HeaderValue::from_str(media_type) {
            request = request.header(header::CONTENT_TYPE, value);
        }
        let request = request.body(Body::Bytes(bytes.into()));
        self.registry.client().send(&request, Repeat::Safe).await.map_err(Error::net(what))
    }

    /// PUTs the root's own manifest. An index that the registry refuses because of missing
    /// platforms is rewritten, where the policy allows it.
    async fn put_root(&self, root: &Root, target: &Reference, bytes: Vec<u8>) -> Result<Response> {
        let what = || format!("pushing {target}");
        let media_type = &root.descriptor.media_type;
        let sparse = self.state().sparse.get(&root.name).cloned().unwrap_or_default();
        let version = target.tag().map_or_else(|| target.version(), str::to_owned);
        let repository = target.repository();
        if sparse.is_empty() || self.policy != SparsePolicy::Rewrite {
            let response = self.put(repository, &version, media_type, bytes.clone()).await?;
            if response.status().is_success() || sparse.is_empty() {
                return response.success().await.map_err(Error::net(what()));
            }
            let refused = response.into_error().await;
            // `MANIFEST_BLOB_UNKNOWN` in most registries, `MANIFEST_INVALID` in some.
            let is_sparse = matches!(&refused, net::Error::Status { status: 400 | 404, message, .. }
                if message.contains("UNKNOWN") || message.contains("INVALID"));
            if !is_sparse {
                return Err(Error::Net { what: what(), cause: refused });
            }
            if self.policy == SparsePolicy::Keep {
                return Err(Error::Sparse {
                    registry: self.registry.host().to_owned(),
                    target: target.to_string(),
                });
            }
        }
        let bytes = without(&what(), &bytes, &sparse, &root.descriptor.digest)?;
        let to = store::hash::sha256(&bytes);
        // Without a tag the name is the old digest, which the rewritten bytes do not have.
        let version = target.tag().map_or_else(|| to.to_string(), str::to_owned);
        let response = self.put(repository, &version, media_type, bytes).await?;
        let response = response.success().await.map_err(Error::net(what()))?;
        let from = root.descriptor.digest;
        self.state().rewritten.push(Rewritten { name: root.name.clone(), from, to });
        Ok(response)
    }

    /// Whether the registry has this index under its name already, rewritten with the same
    /// platforms. Such a registry accepts no index without its manifests, so they need not be
    /// asked for.
    async fn holds_rewritten(
        &self,
        root: &Root,
        name: &Reference,
        needs: &Closure,
    ) -> Result<bool> {
        if needs.sparse.is_empty() || self.policy == SparsePolicy::Keep {
            return Ok(false);
        }
        let Some(found) = self.registry.find(name).await? else { return Ok(false) };
        let from = root.descriptor.digest;
        let was = found.manifest.annotations.get(annotation::WRITTEN_FROM);
        let has: HashSet<Digest> = found.manifest.manifests.iter().map(|d| d.digest).collect();
        let wanted: HashSet<Digest> =
            needs.manifests.iter().map(|d| d.digest).filter(|digest| *digest != from).collect();
        if was != Some(&from.to_string()) || has != wanted {
            return Ok(false);
        }
        let to = found.descriptor.digest;
        self.state().rewritten.push(Rewritten { name: root.name.clone(), from, to });
        Ok(true)
    }

    /// Whether the registry lists a manifest among the referrers of its subject: an interrupted
    /// load may have pushed the manifest without updating the referrers tag.
    async fn lists(&self, target: &Reference, digest: Digest) -> Result<bool> {
        let Some(found) = self.registry.find(target).await? else { return Ok(false) };
        let Some(subject) = found.manifest.subject else { return Ok(true) };
        let listed = self.registry.referrers(target.repository(), &subject.digest).await?;
        Ok(listed.iter().any(|descriptor| descriptor.digest == digest))
    }

    /// Adds a manifest to the index under its subject's referrers tag, for a registry without the
    /// referrers API (distribution-spec 1.1, "Pushing manifests with subject").
    async fn update_fallback(
        &self,
        target: &Reference,
        descriptor: &Descriptor,
        subject: Digest,
    ) -> Result<()> {
        let _turn = self.fallback.lock().await;
        let tag = fallback_tag(target.registry(), target.repository(), &subject)?;
        let found = self.registry.find(&tag).await?;
        let manifests = found.map(|found| found.manifest.manifests).unwrap_or_default();
        // Another root of this load, or another client, may have listed it already.
        let mut index = Index { manifests, ..Index::default() };
        if index.manifests.iter().any(|other| other.digest == descriptor.digest) {
            return Ok(());
        }
        index.manifests.push(descriptor.clone());
        // Sorted, so that the tag's digest does not depend on the order of the transfers.
        index.manifests.sort_by_key(|descriptor| descriptor.digest);
        let what = format!("pushing {tag}");
        let bytes = serde_json::to_vec(&index).map_err(|cause| types::Error::Document {
            document: what.clone(),
            line: 0,
            column: 0,
            message: cause.to_string(),
        })?;
        let version = tag.version();
        let response =
            self.put(target.repository(), &version, media_type::OCI_INDEX, bytes).await?;
        response.success().await.map(|_| ()).map_err(Error::net(what))
    }
}

impl Sink for Push {
    type Error = Error;

    /// True when the name has the root's digest, and for an index all carried manifests exist too.
    /// Blobs are not asked for: registries check them when they accept a manifest.
    async fn holds(&self, root: &Root, needs: &Closure) -> Result<bool> {
        let sparse: HashSet<Digest> = needs.sparse.iter().map(|d| d.digest).collect();
        self.state().sparse.insert(root.name.clone(), sparse);
        let target = self.target(root)?;
        let name = match target.tag() {
            Some(tag) => target.with_tag(tag)?,
            None => target.clone(),
        };
        match self.registry.head(&name).await? {
            None => return Ok(false),
            Some(digest) if digest == root.descriptor.digest => {}
            Some(_) => return self.holds_rewritten(root, &name, needs).await,
        }
        // The index may be there from an earlier load that carried fewer platforms.
        for manifest in &needs.manifests {
            let is_root = manifest.digest == root.descriptor.digest;
            if !is_root && self.registry.head(&target.with_digest(manifest.digest)).await?.is_none()
            {
                return Ok(false);
            }
        }
        if root.kind == Kind::Attached && target.tag().is_none() {
            return self.lists(target, root.descriptor.digest).await;
        }
        Ok(true)
    }

    async fn put_blob(
        &self,
        root: &Root,
        blob: &Descriptor,
        from: Arc<dyn Source>,
        moved: Moved,
    ) -> Result<Put> {
        let repository = self.target(root)?.repository();
        // Cloned out of the lock, which must not be held while requests are awaited.
        let known = self.state().repositories.get(&blob.digest).cloned().unwrap_or_default();
        if known.iter().any(|other| other == repository)
            || self.registry.has_blob(repository, &blob.digest).await?
        {
            self.learned(blob.digest, repository);
            return Ok(Put::Present);
        }
        let upload = Upload::new(&self.registry, repository, blob, from, moved);
        let put = upload.run(known.first().map(String::as_str)).await?;
        self.learned(blob.digest, repository);
        Ok(put)
    }

    async fn put_manifest(
        &self,
        root: &Root,
        manifest: &Descriptor,
        bytes: Vec<u8>,
    ) -> Result<Put> {
        let repository = self.target(root)?.repository();
        let version = manifest.digest.to_string();
        let response = self.put(repository, &version, &manifest.media_type, bytes).await?;
        let what = format!("pushing {}/{repository}@{version}", self.registry.host());
        response.success().await.map_err(Error::net(what))?;
        Ok(Put::Moved)
    }

    async fn publish(&self, root: &Root, bytes: Vec<u8>) -> Result<()> {
        let target = self.target(root)?;
        let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
        let response = self.put_root(root, target, bytes).await?;
        // A registry that knows the referrers API confirms it with this header; all others need the
        // tag (distribution-spec 1.1, "Pushing manifests with subject").
        if let Some(subject) = &manifest.subject
            && response.header("oci-subject").is_none()
        {
            let mut descriptor = root.descriptor.clone();
            descriptor.annotations.clone_from(&manifest.annotations);
            descriptor.artifact_type = manifest
                .artifact_type
                .clone()
                .or_else(|| manifest.config.as_ref().map(|config| config.media_type.clone()));
            self.update_fallback(target, &descriptor, subject.digest).await?;
        }
        Ok(())
    }
}

/// Removes the given manifests from an index, and notes the original digest in an annotation. Works
/// on the JSON itself, so that fields which Gantry does not know stay.
fn without(what: &str, bytes: &[u8], sparse: &HashSet<Digest>, from: &Digest) -> Result<Vec<u8>> {
    let error = |cause: serde_json::Error| types::Error::Document {
        document: what.to_owned(),
        line: 0,
        column: 0,
        message: cause.to_string(),
    };
    let mut index: serde_json::Value = serde_json::from_slice(bytes).map_err(error)?;
    if let Some(manifests) = index.get_mut("manifests").and_then(|value| value.as_array_mut()) {
        manifests.retain(|manifest| {
            let digest = manifest.get("digest").and_then(|value| value.as_str());
            digest.and_then(|text| text.parse().ok()).is_none_or(|digest| !sparse.contains(&digest))
        });
    }
    if let Some(index) = index.as_object_mut() {
        let annotations = index.entry("annotations").or_insert_with(|| json!({}));
        if annotations.is_null() {
            *annotations = json!({});
        }
        annotations[annotation::WRITTEN_FROM] = json!(from);
    }
    Ok(serde_json::to_vec(&index).map_err(error)?)
}
