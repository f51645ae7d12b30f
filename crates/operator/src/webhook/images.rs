//! The locked images and models by the names that pods may use: the names of the source and those
//! of the site.

use std::collections::{BTreeMap, BTreeSet};

use types::lock::Lock;
use types::naming::{NamingRule, RegistryPrefix};
use types::receipt::Receipt;
use types::site::Site;
use types::{Digest, Reference, RootKind};

use crate::{Error, Result};

/// How an image at the site is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImagePinning {
    /// Like the pod names it: a tag stays a tag.
    AsNamed,
    /// With the locked digest added: a tag can be pushed again with another content, a digest
    /// cannot.
    Digest,
}

/// All images that may start, with their names at the site.
#[derive(Debug, Clone)]
pub struct WebhookImages {
    prefix: RegistryPrefix,
    naming: NamingRule,
    pin: ImagePinning,
    pull_secret: Option<String>,
    /// By `registry/repository` of the source.
    foreign: BTreeMap<String, Vec<LockedVersion>>,
    /// By `registry/repository` of the site.
    home: BTreeMap<String, Vec<LockedVersion>>,
}

/// One locked version of a repository.
#[derive(Debug, Clone)]
struct LockedVersion {
    tag: Option<String>,
    /// The digest at the source.
    digest: Digest,
    /// The digest at the site: another one if the site's registry did not accept the index as it is
    /// and `load` had to rewrite it.
    at_site: Digest,
    /// The digests of the manifests of its platforms, which are the same at the source and the
    /// site.
    platforms: BTreeSet<Digest>,
}

/// What is to be done with the image of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageDecision {
    /// It is locked and named at the site: nothing.
    Stays,
    /// It is locked and must get this name, the one at the site.
    Moves(String),
    /// It is not locked; [`WebhookImages::explain_refusal`] has the explanation for the user.
    Unknown,
}

/// Names that are less similar than this (Jaro-Winkler) are not suggested: high enough that little
/// more than typos and other spellings pass.
const ALIKE: f64 = 0.86;
/// How many versions of a repository a message lists.
const TOLD: usize = 3;

impl WebhookImages {
    /// The images and models of the locks. The receipts say which indexes the site's registry has
    /// in rewritten form.
    ///
    /// # Errors
    /// Fails for a lock without images, and when two roots would have the same name at the site.
    pub fn new(
        locks: &[Lock],
        receipts: &[Receipt],
        site: &Site,
        pin: ImagePinning,
    ) -> Result<Self> {
        let registry = &site.registry;
        let prefix = registry.parse_prefix()?;
        let roots: Vec<_> = locks.iter().flat_map(Lock::roots).collect();
        // All roots, also charts and files, as `load` does: so two that would get the same name are
        // found.
        let names = prefix.site_references(registry.naming, roots.iter().map(|root| &root.name))?;
        let mut locked = Self {
            prefix,
            naming: registry.naming,
            pin,
            pull_secret: registry.pull_secret.clone(),
            foreign: BTreeMap::new(),
            home: BTreeMap::new(),
        };
        let rewritten: BTreeMap<Digest, Digest> = receipts
            .iter()
            .flat_map(|receipt| &receipt.roots)
            .filter_map(|held| Some((held.digest, held.rewritten?)))
            .collect();
        for lock in locks {
            if lock.images.is_empty() {
                return Err(Error::NothingLocked { lock: lock.name.clone() });
            }
            for image in &lock.images {
                let version = LockedVersion {
                    tag: image.reference.tag().map(str::to_owned),
                    digest: image.digest,
                    at_site: rewritten.get(&image.digest).copied().unwrap_or(image.digest),
                    platforms: image.manifests.iter().map(|manifest| manifest.digest).collect(),
                };
                locked.add_version(&image.reference, names.get(&image.reference), version);
            }
        }
        for root in
            roots.iter().filter(|root| matches!(root.kind, RootKind::Model | RootKind::Ollama))
        {
            let version = LockedVersion {
                tag: root.name.tag().map(str::to_owned),
                digest: root.descriptor.digest,
                at_site: root.descriptor.digest,
                platforms: BTreeSet::new(),
            };
            locked.add_version(&root.name, names.get(&root.name), version);
        }
        Ok(locked)
    }

    /// The number of locked repositories.
    pub fn len(&self) -> usize {
        self.foreign.len()
    }

    /// Whether nothing is locked.
    pub fn is_empty(&self) -> bool {
        self.foreign.is_empty()
    }

    /// The name of the pull secret that pods need at the site.
    pub fn pull_secret(&self) -> Option<&str> {
        self.pull_secret.as_deref()
    }

    /// Whether an image's name is one at the site's registry, locked or not.
    pub fn is_at_site(&self, image: &str) -> bool {
        image.strip_prefix(&self.prefix.to_string()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Decides what is to be done with an image, by the name that a pod has for it.
    pub fn decide(&self, image: &str) -> ImageDecision {
        let Ok(reference) = image.parse::<Reference>() else { return ImageDecision::Unknown };
        let is_home = self.is_at_site(image);
        let versions = self.locked_versions(&reference, is_home);
        let Some(version) = versions.iter().find(|version| version.is_meant_by(&reference)) else {
            return ImageDecision::Unknown;
        };
        let target = if is_home {
            Ok(reference.clone())
        } else {
            self.prefix.site_reference(self.naming, &reference)
        };
        match target.and_then(|target| self.pin_reference(&target, version)) {
            Ok(target) if is_home && target == reference => ImageDecision::Stays,
            Ok(target) => ImageDecision::Moves(target.to_string()),
            // A name that would be too long at the site was never loaded there.
            Err(_) => ImageDecision::Unknown,
        }
    }

    /// Explains for the user that an image is not locked, and which similar one is.
    pub fn explain_refusal(&self, image: &str) -> String {
        match image.parse() {
            Ok(reference) => {
                let versions = self.locked_versions(&reference, self.is_at_site(image));
                self.explain_unlocked(&reference, versions)
            }
            Err(cause) => cause.to_string(),
        }
    }

    /// The locked versions of the reference's repository.
    fn locked_versions(&self, reference: &Reference, is_home: bool) -> &[LockedVersion] {
        let all = if is_home { &self.home } else { &self.foreign };
        all.get(&reference.name()).map(Vec::as_slice).unwrap_or_default()
    }

    /// The name at the site with the digest at the site, as far as the name has one or is to get
    /// one.
    fn pin_reference(
        &self,
        target: &Reference,
        version: &LockedVersion,
    ) -> types::Result<Reference> {
        let digest = match target.digest() {
            // The digest of the source's index: the site may have another one. That of a platform's
            // manifest, in the next line, is the same on both sides.
            Some(digest) if *digest == version.digest => Some(version.at_site),
            Some(digest) => Some(*digest),
            None if self.pin == ImagePinning::Digest => Some(version.at_site),
            None => None,
        };
        Reference::new(target.registry(), target.repository(), target.tag(), digest)
    }

    fn add_version(
        &mut self,
        name: &Reference,
        target: Option<&Reference>,
        version: LockedVersion,
    ) {
        let Some(target) = target else { return };
        self.home.entry(target.name()).or_default().push(version.clone());
        self.foreign.entry(name.name()).or_default().push(version);
    }

    /// `IMAGE is not locked`, with the locked versions of its repository or the most similar one.
    fn explain_unlocked(&self, image: &Reference, versions: &[LockedVersion]) -> String {
        let nearest = match versions {
            [] => self.describe_nearest(image),
            versions => {
                let mut told: Vec<String> =
                    versions.iter().take(TOLD).map(LockedVersion::display_version).collect();
                if versions.len() > TOLD {
                    told.push(format!("{} more", versions.len() - TOLD));
                }
                Some(format!("{} is locked as {}", image.name(), told.join(", ")))
            }
        };
        let nearest = nearest.map(|nearest| format!(" ({nearest})")).unwrap_or_default();
        format!("{image} is not locked{nearest}")
    }

    /// The most similar locked repository, if any is similar enough.
    fn describe_nearest(&self, image: &Reference) -> Option<String> {
        let name = image.name();
        let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let own = last(&name);
        let likeness = |known: &String| {
            // The same last part (`nginx` of another registry or mirror) counts more than any
            // similarity of letters.
            let same = if last(known) == own { 1.0 } else { 0.0 };
            same + strsim::jaro_winkler(known, &name)
        };
        let (known, versions) = self
            .foreign
            .iter()
            .map(|(known, versions)| (likeness(known), known, versions))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, ..)| *likeness > ALIKE)
            .map(|(_, known, versions)| (known, versions))?;
        let version = versions.first().map(LockedVersion::display_version).unwrap_or_default();
        Some(format!("the most similar locked image is {known} as {version}"))
    }
}

impl LockedVersion {
    /// Whether a reference means this version: by its digest, else by its tag. With a digest, the
    /// tag does not matter: container runtimes ignore it then.
    fn is_meant_by(&self, reference: &Reference) -> bool {
        match reference.digest() {
            Some(digest) => {
                [self.digest, self.at_site].contains(digest) || self.platforms.contains(digest)
            }
            None => self.tag.is_some() && self.tag.as_deref() == reference.tag(),
        }
    }

    fn display_version(&self) -> String {
        match &self.tag {
            Some(tag) => tag.clone(),
            None => self.at_site.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::webhook::test_sample;

    fn moved_name(locked: &WebhookImages, image: &str) -> String {
        match locked.decide(image) {
            ImageDecision::Moves(to) => to,
            other => panic!("{image}: {other:?}"),
        }
    }

    #[test]
    fn a_locked_image_has_its_name_at_the_site_whatever_way_it_is_written() {
        let locked = test_sample::sample_images(ImagePinning::AsNamed);
        let (index, platform) = (test_sample::sample_digest(1), test_sample::sample_digest(2));
        for (image, at_site) in [
            ("nginx:1.25".to_owned(), "site:5000/ai/library/nginx:1.25".to_owned()),
            ("docker.io/nginx:1.25".to_owned(), "site:5000/ai/library/nginx:1.25".to_owned()),
            (
                "index.docker.io/library/nginx:1.25".to_owned(),
                "site:5000/ai/library/nginx:1.25".to_owned(),
            ),
            (format!("nginx@{index}"), format!("site:5000/ai/library/nginx@{index}")),
            (format!("nginx:9@{platform}"), format!("site:5000/ai/library/nginx:9@{platform}")),
        ] {
            assert_eq!(moved_name(&locked, &image), at_site, "{image}");
        }
        assert_eq!(locked.decide("site:5000/ai/library/nginx:1.25"), ImageDecision::Stays);
    }

    #[test]
    fn with_digests_a_tag_gets_the_digest_that_was_locked() {
        let locked = test_sample::sample_images(ImagePinning::Digest);
        let pinned = format!("site:5000/ai/library/nginx:1.25@{}", test_sample::sample_digest(1));
        assert_eq!(moved_name(&locked, "nginx:1.25"), pinned);
        assert_eq!(moved_name(&locked, "site:5000/ai/library/nginx:1.25"), pinned);
        assert_eq!(locked.decide(&pinned), ImageDecision::Stays);
    }

    #[test]
    fn what_the_registry_has_in_another_form_is_asked_for_in_that_form() {
        let other = test_sample::sample_digest(9);
        let locked = test_sample::sample_with_rewritten(ImagePinning::Digest, Some(other));
        let pinned = format!("site:5000/ai/library/nginx:1.25@{other}");
        assert_eq!(moved_name(&locked, "nginx:1.25"), pinned);
        let by_index = format!("nginx:1.25@{}", test_sample::sample_digest(1));
        assert_eq!(moved_name(&locked, &by_index), pinned);
    }

    #[test]
    fn what_is_not_locked_is_told_with_what_is_nearest() {
        let locked = test_sample::sample_images(ImagePinning::AsNamed);
        for (image, why) in [
            ("nginx", "nginx is locked as 1.25"),
            (
                "quay.io/mirror/nginx:1",
                "the most similar locked image is docker.io/library/nginx as 1.25",
            ),
            ("ghcr.io/shop/wed:1", "most similar locked image is ghcr.io/shop/web as 2.1"),
            ("zzz.example/qqq:1", "is not locked"),
            ("site:5000/ai/library/nginx:1.26", "is locked as 1.25"),
            ("site:5000/aix/library/nginx:1.25", "is not locked"),
            ("UPPER:1", "lower case"),
        ] {
            assert_eq!(locked.decide(image), ImageDecision::Unknown, "{image}");
            let told = locked.explain_refusal(image);
            assert!(told.contains(why), "{image}: {told}");
        }
    }
}
