//! One locked root as a site holds it: its two names, and all digests that stand for it.

use std::collections::BTreeSet;

use crate::lock::LockedImage;
use crate::receipt::{Receipt, ReceiptRoot};
use crate::rewritten_index::{self, IndexCoverage};
use crate::{Digest, ImagePin, Manifest, Reference, RootKind};

/// What a digest is of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestRole {
    /// The digest that the source has: of the index, or of the manifest of an image without one.
    Source,
    /// The digest of the index as it was rewritten for a registry.
    Rewritten,
    /// The digest of the manifest of a platform.
    Platform,
    /// The digest of an attestation in the index, which starts in no pod.
    Attestation,
}

/// Whether a site has what a reference with a digest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinState {
    /// It has, or there is no digest or nothing locked that it could be of.
    Held,
    /// Neither a receipt nor the site's registry says so.
    Unknown,
    /// It has another index.
    Absent,
}

/// A locked root, with its name and its digests at the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRoot {
    source: Reference,
    target: Reference,
    kind: RootKind,
    digest: Digest,
    platforms: BTreeSet<Digest>,
    attestations: BTreeSet<Digest>,
    configs: BTreeSet<Digest>,
    rewritten: BTreeSet<Digest>,
    site_digest: Digest,
    /// Whether `site_digest` is more than an assumption.
    is_site_digest_known: bool,
    /// The number of the newest receipt that names this very root.
    held: Option<usize>,
}

impl SiteRoot {
    pub(super) fn new(source: Reference, kind: RootKind, digest: Digest) -> Self {
        Self {
            target: source.clone(),
            source,
            kind,
            digest,
            platforms: BTreeSet::new(),
            attestations: BTreeSet::new(),
            configs: BTreeSet::new(),
            rewritten: BTreeSet::new(),
            site_digest: digest,
            is_site_digest_known: kind != RootKind::Image,
            held: None,
        }
    }

    /// Its name at the source, as it is locked.
    pub fn source(&self) -> &Reference {
        &self.source
    }

    /// Its name at the site. Tag and digest are those of the source.
    pub fn target(&self) -> &Reference {
        &self.target
    }

    /// What it is.
    pub fn kind(&self) -> RootKind {
        self.kind
    }

    /// Its digest at the source.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its digest at the site: another one where the newest receipt says that its index was
    /// rewritten.
    pub fn site_digest(&self) -> Digest {
        self.site_digest
    }

    /// Whether the digest at the site is known: from a receipt, or because all of the root is carried.
    pub fn is_site_digest_known(&self) -> bool {
        self.is_site_digest_known
    }

    /// The digest by which a pod is to name it, so that it gets this content whatever the tag has. `None`
    /// where the site has no digest that everything agrees on, or none is wanted.
    ///
    /// The manifest of a single platform is the same at the source and at every registry. An index that
    /// was rewritten has a digest that only a receipt tells, so it counts where it is asked for alone.
    pub fn pinned_digest(&self, pin: ImagePin) -> Option<Digest> {
        let is_kept = self.is_site_digest_known && self.site_digest == self.digest;
        let mut platforms = self.platforms.iter();
        let single = platforms.next().copied().filter(|_| platforms.next().is_none());
        match pin {
            ImagePin::None | ImagePin::Annotation => None,
            ImagePin::Auto | ImagePin::Digest if is_kept => Some(self.digest),
            ImagePin::Auto => single,
            ImagePin::Digest => single.or(self.is_site_digest_known.then_some(self.site_digest)),
        }
    }

    /// Whether the site has what a reference with one of this root's digests names.
    pub(super) fn pin_state(&self, digest: &Digest) -> PinState {
        match self.role_of(digest) {
            // The manifest of a platform is loaded as it is.
            Some(DigestRole::Platform | DigestRole::Attestation) if *digest != self.digest => {
                PinState::Held
            }
            None => PinState::Held,
            Some(_) if !self.is_site_digest_known => PinState::Unknown,
            Some(_) if *digest == self.site_digest => PinState::Held,
            Some(_) => PinState::Absent,
        }
    }

    /// All manifests of its index that are carried, attestations included. For an image without an
    /// index the manifest itself.
    pub fn manifests(&self) -> BTreeSet<Digest> {
        self.platforms.union(&self.attestations).copied().collect()
    }

    /// Whether it is attached to an image: a signature, an SBOM or an attestation.
    pub fn is_attached(&self) -> bool {
        self.kind == RootKind::Attached
    }

    /// Whether a pod can start or mount it.
    pub fn is_startable(&self) -> bool {
        matches!(self.kind, RootKind::Image | RootKind::Model | RootKind::Ollama)
    }

    /// What a digest is of this root; `None` if it is another's.
    pub fn role_of(&self, digest: &Digest) -> Option<DigestRole> {
        if *digest == self.digest {
            Some(DigestRole::Source)
        } else if self.rewritten.contains(digest) {
            Some(DigestRole::Rewritten)
        } else if self.platforms.contains(digest) {
            Some(DigestRole::Platform)
        } else {
            self.attestations.contains(digest).then_some(DigestRole::Attestation)
        }
    }

    /// The digests by which a pod may name it, at the source or at the site.
    pub fn startable_digests(&self) -> BTreeSet<Digest> {
        let all = [self.digest].into_iter().chain(self.rewritten.iter().copied());
        all.chain(self.platforms.iter().copied()).collect()
    }

    /// Whether a container runtime may report this digest for a container of this image: runtimes
    /// report the digest of the index, of the platform's manifest, or of its config.
    pub fn runs_as(&self, digest: &Digest) -> bool {
        self.configs.contains(digest) || self.startable_digests().contains(digest)
    }

    /// Whether a reference to this root's repository, at the source or at the site, means this root:
    /// by its digest, else by its tag.
    pub fn is_meant_by(&self, reference: &Reference) -> bool {
        match reference.digest() {
            Some(digest) => {
                self.role_of(digest).is_some_and(|role| role != DigestRole::Attestation)
            }
            None => self.source.tag().is_some() && self.source.tag() == reference.tag(),
        }
    }

    /// Compares an index of a registry with the locked manifests, to recognise a rewritten index
    /// without a receipt.
    pub fn compare_index(&self, index: &Manifest) -> IndexCoverage {
        rewritten_index::compare_with_carried(index, &self.manifests())
    }

    /// How the root is called in a message about its repository: its tag, else its digest.
    pub fn version(&self) -> String {
        match self.source.tag() {
            Some(tag) => tag.to_owned(),
            None => self.site_digest.to_string(),
        }
    }

    /// Whether a receipt says that its index was rewritten.
    pub(super) fn has_rewritten(&self) -> bool {
        !self.rewritten.is_empty()
    }

    /// Whether the newest receipt that names it is newer than that of another root.
    pub(super) fn is_held_later_than(&self, other: &Self) -> bool {
        self.held > other.held
    }

    /// Adds what a lock says; the same root may be in several, and as several kinds.
    pub(super) fn add_kind(&mut self, kind: RootKind) {
        // What a user listed as an image is one, even if it is also attached to another image.
        self.kind = self.kind.min(kind);
    }

    /// Adds the manifests of an image; several locks may have other platforms of it.
    pub(super) fn add_manifests(&mut self, image: &LockedImage) {
        self.is_site_digest_known |= image.is_whole();
        for manifest in image.platform_manifests() {
            self.platforms.insert(manifest.digest);
            self.configs.extend(manifest.config.map(|config| config.digest));
        }
        self.attestations.extend(image.attestations().map(|manifest| manifest.digest));
        // Where one lock has it as a platform of the image, it is one.
        let platforms = &self.platforms;
        self.attestations.retain(|digest| !platforms.contains(digest));
    }

    /// Sets the name at the site, and what the receipts say.
    pub(super) fn settle(&mut self, target: Reference, receipts: &[Receipt]) {
        self.target = target;
        let all = receipts
            .iter()
            .enumerate()
            .flat_map(|(number, receipt)| receipt.roots.iter().map(move |held| (number, held)));
        let of_this: Vec<(usize, &ReceiptRoot)> = all
            .filter(|(_, held)| {
                held.digest == self.digest && held.name.name() == self.source.name()
            })
            .collect();
        let name = self.target.name();
        let is_here = |held: &ReceiptRoot| {
            held.target.parse::<Reference>().is_ok_and(|target| target.name() == name)
        };
        // The receipt of another registry says nothing that the site's own contradicts. Alone it
        // counts: the site's registry may have been loaded under another address.
        let is_any_here = of_this.iter().any(|(_, held)| is_here(held));
        let counted = of_this.into_iter().filter(|(_, held)| !is_any_here || is_here(held));
        for (number, held) in counted {
            self.rewritten.extend(held.rewritten);
            // An entry without a rewritten index from elsewhere (a store, another registry) says
            // nothing about this registry.
            if held.rewritten.is_some() || is_any_here {
                self.site_digest = held.rewritten.unwrap_or(self.digest);
                self.is_site_digest_known = true;
            }
            if held.name == self.source {
                self.held = Some(number);
            }
        }
        self.rewritten.remove(&self.digest);
    }
}
