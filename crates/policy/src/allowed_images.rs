//! The images that may start at a site: the names at the site of everything that is locked, with
//! the tags and digests that the locks have for each.

use std::collections::{BTreeMap, BTreeSet};

use types::lock::Lock;
use types::receipt::Receipt;
use types::site::RegistryTarget;
use types::{Digest, Reference, RootKind};

use crate::{Error, Result};

/// By which versions a policy admits an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmittedVersions {
    /// By a locked tag, or by a locked digest.
    TagsAndDigests,
    /// By a locked digest alone: a tag can be pushed again, a digest cannot.
    Digests,
}

/// The images of a site that may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedImages {
    /// The beginning of all names at the site: `registry.internal:5000/ai/`.
    pub(crate) site: String,
    /// By which versions they are admitted.
    pub(crate) admit: AdmittedVersions,
    /// Tags and digests by the path of the repository after `site`: `library/nginx`.
    pub(crate) images: BTreeMap<String, BTreeSet<String>>,
}

impl AllowedImages {
    /// Collects the images of the locks, and their models, which pods mount as image volumes.
    /// Besides the digest of an image, the digests of its platforms' manifests are admitted. The
    /// receipts add the digests of indexes that the registry could only store in a rewritten form.
    pub fn new(
        locks: &[Lock],
        receipts: &[Receipt],
        registry: &RegistryTarget,
        admit: AdmittedVersions,
    ) -> Result<Self> {
        let prefix = registry.parse_prefix()?;
        let roots: Vec<_> = locks.iter().flat_map(Lock::roots).collect();
        // All roots, as in `gantry load`: a model and an image must not get the same name either.
        let names = prefix.site_references(registry.naming, roots.iter().map(|root| &root.name))?;
        let mut allowed = Self { site: format!("{prefix}/"), admit, images: BTreeMap::new() };
        for lock in locks {
            if lock.images.is_empty() {
                return Err(Error::NothingLocked { lock: lock.name.clone() });
            }
            for image in &lock.images {
                let own = image.manifests.iter().map(|manifest| manifest.digest);
                let digests =
                    own.chain([image.digest]).chain(find_rewritten_digests(receipts, image.digest));
                allowed.add_versions(names.get(&image.reference), digests);
            }
        }
        for root in
            roots.iter().filter(|root| matches!(root.kind, RootKind::Model | RootKind::Ollama))
        {
            allowed.add_versions(names.get(&root.name), [root.descriptor.digest]);
        }
        allowed.check_registry_host()?;
        Ok(allowed)
    }

    /// The number of repositories.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether no image may start.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Adds the versions of one repository. `target` is its name at the site.
    fn add_versions(
        &mut self,
        target: Option<&Reference>,
        digests: impl IntoIterator<Item = Digest>,
    ) {
        let Some(target) = target else { return };
        let name = target.name();
        let path = name.strip_prefix(&self.site).unwrap_or(&name).to_owned();
        let versions = self.images.entry(path).or_default();
        versions.extend(digests.into_iter().map(|digest| digest.to_string()));
        // A pinned reference keeps its digest in the name, and may be used with that.
        versions.extend(target.digest().map(Digest::to_string));
        if self.admit == AdmittedVersions::TagsAndDigests {
            versions.extend(target.tag().map(str::to_owned));
        }
    }

    /// Checks that runtimes read the site's names as they are written. A policy compares the text
    /// of a name, but if a runtime reads `registry/x` as `docker.io/registry/x`, the policy would
    /// admit images from the internet.
    fn check_registry_host(&self) -> Result<()> {
        let Some(path) = self.images.keys().next() else { return Ok(()) };
        let target = format!("{}{path}", self.site);
        let read: Reference = target.parse()?;
        if read.name() == target {
            return Ok(());
        }
        let registry = self.site.split('/').next().unwrap_or_default().to_owned();
        Err(Error::NotAHost { registry, read: read.name(), target })
    }
}

/// Finds the digests under which a registry stores an index that it could not take unchanged.
fn find_rewritten_digests(
    receipts: &[Receipt],
    digest: Digest,
) -> impl Iterator<Item = Digest> + '_ {
    let roots = receipts.iter().flat_map(|receipt| &receipt.roots);
    roots.filter(move |held| held.digest == digest).filter_map(|held| held.rewritten)
}
