//! A registry as the target of `gantry load`: implements [`Sink`], which `land` drives. Roots get
//! the names that the site's naming gives them. Order matters and comes from `land`: blobs first,
//! then the manifests of an index, then the root's own manifest under its tag.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Method, header};
use net::{Client, HttpResponse, Mirrors, RepeatPolicy, RequestBody};
use store::{PutResult, RootClosure, Sink, Source, TransferCallback};
use types::naming::RegistryPrefix;
use types::{
    Descriptor, Digest, DigestAlgorithm, Index, Manifest, Reference, Root, RootKind, media_type,
    rewritten_index::{self, IndexEntryChange},
};

use super::push_state::{LeftOutManifest, PushState, RewrittenIndex};
use super::registry::{RegistryClient, RegistryScope, referrers_tag};
use super::upload::BlobUpload;
use super::upload_state::{RestartedUpload, UploadState};
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

/// A registry to which roots are pushed.
pub struct RegistrySink {
    pub(super) registry: RegistryClient,
    pub(super) targets: HashMap<Reference, Reference>,
    pub(super) policy: SparsePolicy,
    state: Mutex<PushState>,
    uploads: UploadState,
    /// Held while the index under a referrers tag is read, changed and written: registries have no
    /// conditional write, so two at once would lose an entry.
    fallback: tokio::sync::Mutex<()>,
}

impl RegistrySink {
    /// A sink for roots; `targets` maps each root's name to its name in the site's registry (from
    /// [`Prefix::targets`], which has checked that no two names collide).
    pub fn new(
        client: &Client,
        mirrors: &Mirrors,
        prefix: &RegistryPrefix,
        targets: impl IntoIterator<Item = (Reference, Reference)>,
        policy: SparsePolicy,
    ) -> Self {
        Self {
            registry: RegistryClient::new(client, mirrors, prefix.registry()),
            targets: targets.into_iter().collect(),
            policy,
            state: Mutex::default(),
            uploads: UploadState::new(),
            fallback: tokio::sync::Mutex::default(),
        }
    }

    /// Notes unfinished uploads in this folder, so that another run goes on with them. It is created
    /// when it is needed; it holds addresses by which anyone may go on with an upload.
    #[must_use]
    pub fn keep_uploads_in(mut self, folder: PathBuf) -> Self {
        self.uploads.keep_in(folder);
        self
    }

    /// Lets every upload end after the piece that it is sending. A registry can go on with such an
    /// upload, and not every one with an upload that is cut.
    pub fn stop_uploads(&self) {
        self.uploads.stop();
    }

    /// The indexes that were rewritten so far.
    pub fn rewritten_indexes(&self) -> Vec<RewrittenIndex> {
        self.lock_state().rewritten.clone()
    }

    /// The manifests that the registry does not take, and that were left out so far.
    pub fn left_out_manifests(&self) -> Vec<LeftOutManifest> {
        self.lock_state().left_out.clone()
    }

    /// The uploads whose beginning the registry had and lost.
    pub fn restarted_uploads(&self) -> Vec<RestartedUpload> {
        self.uploads.restarted_uploads()
    }

    /// The reference under which the registry is asked for a target.
    pub(super) fn name_of(target: &Reference) -> Result<Reference> {
        match target.tag() {
            Some(tag) => Ok(target.with_tag(tag)?),
            None => Ok(target.clone()),
        }
    }

    /// The digest that the registry has under a name. One that refuses to say so (403, 401, 400) may
    /// not have the repository yet; whether it takes a push shows in the push.
    pub(super) async fn find_pushed_digest(&self, name: &Reference) -> Result<Option<Digest>> {
        match self.registry.find_digest(name).await {
            Err(Error::Net { cause, .. }) if matches!(cause.status(), Some(400..=499)) => Ok(None),
            found => found,
        }
    }

    fn target_of(&self, root: &Root) -> Result<&Reference> {
        self.targets.get(&root.name).ok_or_else(|| Error::NotFound {
            what: format!("a target name for {}", root.name),
            hint: "this is a bug in Gantry, please report it".into(),
        })
    }

    pub(super) fn lock_state(&self) -> std::sync::MutexGuard<'_, PushState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a repository has a blob.
    fn record_blob(&self, digest: Digest, repository: &str) {
        let mut state = self.lock_state();
        let known = state.repositories.entry(digest).or_default();
        if !known.iter().any(|other| other == repository) {
            known.push(repository.to_owned());
        }
    }

    /// PUTs a manifest under a tag or digest.
    async fn send_manifest(
        &self,
        repository: &str,
        version: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<HttpResponse> {
        let what = format!("pushing {}/{repository}:{version}", self.registry.host());
        let path = format!("manifests/{version}");
        let mut request =
            self.registry.build_request(Method::PUT, repository, &path, RegistryScope::Push)?;
        if let Ok(value) = HeaderValue::from_str(media_type) {
            request = request.header(header::CONTENT_TYPE, value);
        }
        let request = request.body(RequestBody::Bytes(bytes.into()));
        self.registry
            .client()
            .send(&request, RepeatPolicy::Safe)
            .await
            .map_err(Error::from_net(what))
    }

    /// PUTs a manifest under its digest, once for each repository; the inner error is the registry's
    /// refusal. Two roots may list the same manifest, and a registry that keeps manifests in files may not
    /// find one while it is written again: then it refuses the index of the root that came first.
    async fn send_manifest_once(
        &self,
        repository: &str,
        digest: Digest,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Result<(), net::Error>> {
        let key = (repository.to_owned(), digest);
        let turn = Arc::clone(self.lock_state().pushed.entry(key).or_default());
        let mut is_pushed = turn.lock().await;
        if *is_pushed {
            return Ok(Ok(()));
        }
        let response =
            self.send_manifest(repository, &digest.to_string(), media_type, bytes).await?;
        let sent = response.require_success().await.map(|_| ());
        *is_pushed = sent.is_ok();
        Ok(sent)
    }

    /// PUTs the root's own manifest. An index that the registry refuses because of missing
    /// platforms is rewritten, where the policy allows it.
    async fn send_root_manifest(
        &self,
        root: &Root,
        target: &Reference,
        bytes: Vec<u8>,
    ) -> Result<HttpResponse> {
        let what = || format!("pushing {target}");
        let media_type = &root.descriptor.media_type;
        let sparse = self.lock_state().sparse.get(&root.name).cloned().unwrap_or_default();
        let refused = self.lock_state().refused.get(&root.name).cloned().unwrap_or_default();
        let flattened = self.lock_state().flattened.get(&root.name).cloned().unwrap_or_default();
        let renamed = self.renamed_manifests(root);
        let version = target.tag().map_or_else(|| target.digest_or_tag(), str::to_owned);
        let repository = target.repository();
        // An index whose attestation was refused is not complete at any registry that looks.
        let is_kept = refused.is_empty()
            && flattened.is_empty()
            && renamed.is_empty()
            && (sparse.is_empty() || self.policy != SparsePolicy::Rewrite);
        if is_kept {
            let response =
                self.send_manifest(repository, &version, media_type, bytes.clone()).await?;
            if response.status().is_success() {
                self.record_kept_digest(root, target, &bytes).await?;
                return Ok(response);
            }
            let refused = response.into_error().await;
            if target.tag().is_none() && self.may_rename(&root.descriptor.digest, &refused) {
                let kept = store::hash::sha256(&bytes).to_string();
                let response =
                    self.send_manifest(repository, &kept, media_type, bytes.clone()).await?;
                let response = response.require_success().await.map_err(Error::from_net(what()))?;
                self.record_kept_digest(root, target, &bytes).await?;
                return Ok(response);
            }
            if sparse.is_empty() {
                return Err(Error::Net { what: what(), cause: refused });
            }
            if !is_refused_as_sparse(&refused) {
                return Err(Error::Net { what: what(), cause: refused });
            }
            if self.policy == SparsePolicy::Keep {
                return Err(Error::SparseIndexRefused {
                    registry: self.registry.host().to_owned(),
                    target: target.to_string(),
                });
            }
        }
        let from = &root.descriptor.digest;
        let change_of = |digest: &Digest| match flattened.get(digest) {
            Some(inner) => IndexEntryChange::Flatten(inner.clone()),
            None if renamed.contains_key(digest) => IndexEntryChange::Rename(renamed[digest]),
            None if sparse.contains(digest) || refused.contains(digest) => IndexEntryChange::Remove,
            None => IndexEntryChange::Keep,
        };
        let bytes = rewritten_index::rewrite_index(&what(), &bytes, from, change_of)?;
        let to = store::hash::sha256(&bytes);
        // Without a tag the name is the old digest, which the rewritten bytes do not have.
        let version = target.tag().map_or_else(|| to.to_string(), str::to_owned);
        let response = self.send_manifest(repository, &version, media_type, bytes).await?;
        let response = response.require_success().await.map_err(Error::from_net(what()))?;
        let from = root.descriptor.digest;
        let (flattened, renamed) = (!flattened.is_empty(), !renamed.is_empty());
        let rewritten = RewrittenIndex { name: root.name.clone(), from, to, flattened, renamed };
        self.lock_state().rewritten.push(rewritten);
        Ok(response)
    }

    /// Has the index within a root's index replaced by what it lists.
    fn flatten_index(&self, root: &Root, digest: Digest, inner: Vec<u8>) {
        let mut state = self.lock_state();
        state.flattened.entry(root.name.clone()).or_default().insert(digest, inner);
    }

    /// Whether the registry has the root under its name, with all carried manifests.
    async fn find_root(&self, root: &Root, needs: &RootClosure) -> Result<bool> {
        let sparse: HashSet<Digest> = needs.sparse.iter().map(|d| d.digest).collect();
        self.lock_state().sparse.insert(root.name.clone(), sparse);
        let target = self.target_of(root)?;
        let name = Self::name_of(target)?;
        let found = self.lock_state().found.remove(&root.name);
        let found = match found {
            Some(found) => found,
            None => self.find_pushed_digest(&name).await?,
        };
        match found {
            None => return Ok(false),
            Some(digest) if digest == root.descriptor.digest => {}
            Some(_) => return self.holds_rewritten(root, &name, needs).await,
        }
        // The index may be there from an earlier load that carried fewer platforms.
        for manifest in &needs.manifests {
            let is_root = manifest.digest == root.descriptor.digest;
            if !is_root
                && self.registry.find_digest(&target.with_digest(manifest.digest)).await?.is_none()
            {
                return Ok(false);
            }
        }
        if root.kind == RootKind::Attached && target.tag().is_none() {
            return self.lists_referrer(target, root.descriptor.digest).await;
        }
        Ok(true)
    }

    /// Whether the registry has this index under its name already, rewritten with the same
    /// platforms. Such a registry accepts no index without its manifests, so they need not be
    /// asked for.
    async fn holds_rewritten(
        &self,
        root: &Root,
        name: &Reference,
        needs: &RootClosure,
    ) -> Result<bool> {
        let from = root.descriptor.digest;
        let is_long = from.algorithm() != DigestAlgorithm::Sha256;
        if needs.sparse.is_empty() && !is_long || self.policy == SparsePolicy::Keep {
            return Ok(false);
        }
        let Some(found) = self.registry.find_manifest(name).await? else { return Ok(false) };
        if is_long && store::hash::has_digest(&found.bytes, &from) {
            return self.holds_kept_bytes(root, name, &found.bytes, needs).await;
        }
        if needs.sparse.is_empty() {
            return Ok(false);
        }
        let carried = |is_listed: &dyn Fn(&Descriptor) -> bool| -> BTreeSet<Digest> {
            let manifests = needs.manifests.iter().filter(|manifest| is_listed(manifest));
            manifests.map(|manifest| manifest.digest).filter(|digest| *digest != from).collect()
        };
        let is_written_with = |carried: &BTreeSet<Digest>| {
            rewritten_index::is_rewritten_from(&found.manifest, &from, carried)
        };
        // A flattened index lists the manifests of nested indexes, and not these themselves.
        let flattened =
            is_written_with(&carried(&|manifest| !media_type::is_index(&manifest.media_type)))
                && needs
                    .manifests
                    .iter()
                    .any(|it| it.digest != from && media_type::is_index(&it.media_type));
        if !flattened && !is_written_with(&carried(&|_| true)) {
            return Ok(false);
        }
        let to = found.descriptor.digest;
        let rewritten =
            RewrittenIndex { name: root.name.clone(), from, to, flattened, renamed: false };
        self.lock_state().rewritten.push(rewritten);
        Ok(true)
    }

    /// Whether the registry lists a manifest among the referrers of its subject: an interrupted
    /// load may have pushed the manifest without updating the referrers tag.
    async fn lists_referrer(&self, target: &Reference, digest: Digest) -> Result<bool> {
        let Some(found) = self.registry.find_manifest(target).await? else { return Ok(false) };
        let Some(subject) = found.manifest.subject else { return Ok(true) };
        let listed = self.registry.list_referrers(target.repository(), &subject.digest).await?;
        Ok(listed.iter().any(|descriptor| descriptor.digest == digest))
    }

    /// Adds a manifest to the index under its subject's referrers tag, for a registry without the
    /// referrers API (distribution-spec 1.1, "Pushing manifests with subject").
    async fn update_referrers_tag(
        &self,
        target: &Reference,
        descriptor: &Descriptor,
        subject: Digest,
    ) -> Result<()> {
        let _turn = self.fallback.lock().await;
        let tag = referrers_tag(target.registry(), target.repository(), &subject)?;
        let found = self.registry.find_manifest(&tag).await?;
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
            message: cause.into(),
        })?;
        let version = tag.digest_or_tag();
        let response =
            self.send_manifest(target.repository(), &version, media_type::OCI_INDEX, bytes).await?;
        response.require_success().await.map(|_| ()).map_err(Error::from_net(what))
    }
}

/// Whether a registry refuses an index since it does not have all that the index lists:
/// `MANIFEST_BLOB_UNKNOWN` in most registries, `MANIFEST_INVALID` in some.
fn is_refused_as_sparse(cause: &net::Error) -> bool {
    matches!(cause, net::Error::Status { status: 400 | 404, message, .. }
        if message.contains("UNKNOWN") || message.contains("INVALID"))
}

/// Whether a registry refuses a manifest for what it is: some take no attestations, no SBOMs, or no
/// config that they do not know. Not when something is missing, or may be right at another time.
fn is_refused_kind(cause: &net::Error) -> bool {
    matches!(cause, net::Error::Status { status: 400 | 405 | 406 | 415 | 422, message, .. }
        if !message.contains("BLOB_UNKNOWN") && !message.contains("DIGEST_INVALID"))
}

impl Sink for RegistrySink {
    type Error = Error;

    /// True when the name has the root's digest, and for an index all carried manifests exist too.
    /// Blobs are not asked for: registries check them when they accept a manifest.
    async fn holds_root(&self, root: &Root, needs: &RootClosure) -> Result<bool> {
        let is_held = self.find_root(root, needs).await?;
        if is_held {
            // Other roots may need some of them, and can mount them from here.
            let repository = self.target_of(root)?.repository();
            needs.blobs.iter().for_each(|blob| self.record_blob(blob.digest, repository));
        }
        Ok(is_held)
    }

    async fn put_blob(
        &self,
        root: &Root,
        blob: &Descriptor,
        from: Arc<dyn Source>,
        moved: TransferCallback,
    ) -> Result<PutResult> {
        let repository = self.target_of(root)?.repository();
        // Cloned out of the lock, which must not be held while requests are awaited.
        let known = self.lock_state().repositories.get(&blob.digest).cloned().unwrap_or_default();
        if known.iter().any(|other| other == repository)
            || self.registry.has_blob(repository, &blob.digest).await?
        {
            self.record_blob(blob.digest, repository);
            return Ok(PutResult::Present);
        }
        let upload =
            BlobUpload::new((&self.registry, &self.uploads), repository, blob, from, moved);
        let put = upload.send_or_mount(known.first().map(String::as_str)).await?;
        self.record_blob(blob.digest, repository);
        Ok(put)
    }

    async fn put_manifest(
        &self,
        root: &Root,
        manifest: &Descriptor,
        bytes: Vec<u8>,
    ) -> Result<PutResult> {
        let repository = self.target_of(root)?.repository();
        let version = manifest.digest.to_string();
        // The bytes of an index are needed again where the registry refuses it.
        let inner = media_type::is_index(&manifest.media_type).then(|| bytes.clone());
        let is_long = manifest.digest.algorithm() != DigestAlgorithm::Sha256;
        let again = is_long.then(|| bytes.clone());
        let what = format!("pushing {}/{repository}@{version}", self.registry.host());
        if let Some(inner) = &inner {
            let renamed = self.renamed_manifests(root);
            let listed = Manifest::parse(&what, inner)?.manifests;
            // An index of digests that the registry does not have is no use there.
            if listed.iter().any(|child| renamed.contains_key(&child.digest)) {
                self.flatten_index(root, manifest.digest, inner.clone());
                return Ok(PutResult::Present);
            }
        }
        let mut sent = self
            .send_manifest_once(repository, manifest.digest, &manifest.media_type, bytes)
            .await?;
        if let (Err(refused), Some(bytes)) = (&sent, again)
            && self.may_rename(&manifest.digest, refused)
        {
            let kept = store::hash::sha256(&bytes);
            sent = self.send_manifest_once(repository, kept, &manifest.media_type, bytes).await?;
            if sent.is_ok() {
                let mut state = self.lock_state();
                state.renamed.entry(root.name.clone()).or_default().insert(manifest.digest, kept);
            }
        }
        match sent {
            Ok(()) => Ok(PutResult::Moved),
            Err(cause)
                if self.policy != SparsePolicy::Keep
                    && manifest.is_attestation()
                    && is_refused_kind(&cause) =>
            {
                let mut state = self.lock_state();
                state.refused.entry(root.name.clone()).or_default().insert(manifest.digest);
                state.leave_out(root, manifest.digest, &cause);
                Ok(PutResult::Present)
            }
            Err(cause) if self.policy != SparsePolicy::Keep && is_refused_as_sparse(&cause) => {
                let Some(inner) = inner else { return Err(Error::Net { what, cause }) };
                self.flatten_index(root, manifest.digest, inner);
                Ok(PutResult::Present)
            }
            Err(cause) => Err(Error::Net { what, cause }),
        }
    }

    async fn publish_root(&self, root: &Root, bytes: Vec<u8>) -> Result<()> {
        let target = self.target_of(root)?;
        let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
        let response = match self.send_root_manifest(root, target, bytes).await {
            // What is attached to an image must not take the load down.
            Err(Error::Net { cause, .. })
                if root.kind == RootKind::Attached && is_refused_kind(&cause) =>
            {
                self.lock_state().leave_out(root, root.descriptor.digest, &cause);
                return Ok(());
            }
            sent => sent?,
        };
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
            self.update_referrers_tag(target, &descriptor, subject.digest).await?;
        }
        Ok(())
    }
}
