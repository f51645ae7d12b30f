//! What may start at a site: the site's names of what is locked, with the tags and digests that
//! the locks have for each.

use std::collections::{BTreeMap, BTreeSet};

use types::lock::Lock;
use types::receipt::Receipt;
use types::site::Registry;
use types::{Digest, Kind, Reference};

use crate::{Error, Result};

/// How an image may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// By a locked tag, or by a locked digest.
    TagsAndDigests,
    /// By a locked digest alone: a tag can be pushed again, a digest cannot.
    Digests,
}

/// The images of a site that may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// What all names of the site start with: `registry.internal:5000/ai/`.
    pub(crate) site: String,
    /// How they may be named.
    pub(crate) admit: Admit,
    /// Tags and digests by the repository's path behind [`Allowed::site`].
    pub(crate) images: BTreeMap<String, BTreeSet<String>>,
}

impl Allowed {
    /// What a site has of its locks: images, and models, which pods mount as image volumes. With
    /// an image its platforms' own digests are in; a receipt adds the digests of what its registry
    /// could only take in another form.
    pub fn new(
        locks: &[Lock],
        receipts: &[Receipt],
        registry: &Registry,
        admit: Admit,
    ) -> Result<Self> {
        let prefix = registry.prefix()?;
        let roots: Vec<_> = locks.iter().flat_map(Lock::roots).collect();
        // As `load` does: two names that would be one are told, whatever their kind is.
        let names = prefix.targets(registry.naming, roots.iter().map(|root| &root.name))?;
        let mut allowed = Self { site: format!("{prefix}/"), admit, images: BTreeMap::new() };
        for lock in locks {
            if lock.images.is_empty() {
                return Err(Error::NothingLocked { lock: lock.name.clone() });
            }
            for image in &lock.images {
                let own = image.manifests.iter().map(|manifest| manifest.digest);
                let digests = own.chain([image.digest]).chain(rewritten(receipts, image.digest));
                allowed.add(names.get(&image.reference), digests);
            }
        }
        for root in roots.iter().filter(|root| matches!(root.kind, Kind::Model | Kind::Ollama)) {
            allowed.add(names.get(&root.name), [root.descriptor.digest]);
        }
        allowed.is_read_as_it_is()?;
        Ok(allowed)
    }

    /// How many repositories there are.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether nothing may start.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    fn add(&mut self, target: Option<&Reference>, digests: impl IntoIterator<Item = Digest>) {
        let Some(target) = target else { return };
        let name = target.name();
        let path = name.strip_prefix(&self.site).unwrap_or(&name).to_owned();
        let versions = self.images.entry(path).or_default();
        versions.extend(digests.into_iter().map(|digest| digest.to_string()));
        versions.extend(target.digest().map(Digest::to_string));
        if self.admit == Admit::TagsAndDigests {
            versions.extend(target.tag().map(str::to_owned));
        }
    }

    /// A policy compares texts; a node's runtime reads them. Where `registry/x` is
    /// `docker.io/registry/x` to the runtime, the policy would admit what comes from outside.
    fn is_read_as_it_is(&self) -> Result<()> {
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

/// What a registry has in the place of a digest that it could not take as it is.
fn rewritten(receipts: &[Receipt], digest: Digest) -> impl Iterator<Item = Digest> + '_ {
    let roots = receipts.iter().flat_map(|receipt| &receipt.roots);
    roots.filter(move |held| held.digest == digest).filter_map(|held| held.rewritten)
}
