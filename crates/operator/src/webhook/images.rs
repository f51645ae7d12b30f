//! Decides what is to be done with the image of a pod. What is locked, and under which names and
//! digests the site has it, is asked of [`SiteContent`].

use types::Reference;
use types::lock::Lock;
use types::receipt::Receipt;
use types::site::Site;
use types::site_content::SiteContent;

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
    content: SiteContent,
    pin: ImagePinning,
    pull_secret: Option<String>,
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

/// How many versions of a repository a message lists.
const TOLD: usize = 3;

impl WebhookImages {
    /// The images and models of the locks. The receipts say which indexes the site's registry has
    /// in rewritten form.
    ///
    /// # Errors
    /// Fails for a lock without images, and when the site cannot hold what is locked (two roots
    /// would have the same name there).
    pub fn new(
        locks: &[Lock],
        receipts: &[Receipt],
        site: &Site,
        pin: ImagePinning,
    ) -> Result<Self> {
        let content = SiteContent::new(locks, receipts, &site.registry)?;
        if let Some(lock) = content.lock_without_images() {
            return Err(Error::NothingLocked { lock: lock.to_owned() });
        }
        Ok(Self { content, pin, pull_secret: site.registry.pull_secret.clone() })
    }

    /// The number of locked repositories.
    pub fn len(&self) -> usize {
        self.content.startable_repositories().len()
    }

    /// Whether nothing is locked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the pull secret that pods need at the site.
    pub fn pull_secret(&self) -> Option<&str> {
        self.pull_secret.as_deref()
    }

    /// What the site holds.
    pub(super) fn content(&self) -> &SiteContent {
        &self.content
    }

    /// Decides what is to be done with an image, by the name that a pod has for it.
    pub fn decide(&self, image: &str) -> ImageDecision {
        let Ok(reference) = image.parse::<Reference>() else { return ImageDecision::Unknown };
        if !self.content.is_locked(&reference) {
            return ImageDecision::Unknown;
        }
        let is_at_site = self.content.is_site_name(&reference);
        let target = match is_at_site {
            true => Ok(reference.clone()),
            false => self.content.site_reference(&reference),
        };
        // A name that would be too long at the site was never loaded there.
        let Ok(target) = target else { return ImageDecision::Unknown };
        match self.pin_reference(&target, &reference) {
            Some(target) if is_at_site && target == reference => ImageDecision::Stays,
            Some(target) => ImageDecision::Moves(target.to_string()),
            None => ImageDecision::Unknown,
        }
    }

    /// Explains for the user that an image is refused, and which similar one is locked.
    pub fn explain_refusal(&self, image: &str) -> String {
        match image.parse() {
            Ok(reference) => self.explain_unlocked(&reference),
            Err(cause) => cause.to_string(),
        }
    }

    /// The name at the site with the digest at the site, as far as the name has one or is to get
    /// one. `None` if it is to get one and several contents are locked with its tag.
    fn pin_reference(&self, target: &Reference, image: &Reference) -> Option<Reference> {
        let is_pinned = image.digest().is_some() || self.pin == ImagePinning::Digest;
        let digest = match is_pinned {
            true => Some(self.content.digest_at_site(image)?),
            false => None,
        };
        Reference::new(target.registry(), target.repository(), target.tag(), digest).ok()
    }

    /// `IMAGE is not locked`, with the locked versions of its repository or the most similar one.
    fn explain_unlocked(&self, image: &Reference) -> String {
        let versions = self.content.versions(image);
        if self.content.is_locked(image) && self.content.digest_at_site(image).is_none() {
            let digests: Vec<String> = self
                .content
                .find(image)
                .iter()
                .map(|root| root.site_digest().to_string())
                .collect();
            return format!(
                "{image} is locked with several contents ({}), and no receipt says which one the \
                 site has; name it by its digest, or give the webhook the receipt of the last load",
                digests.join(", ")
            );
        }
        let nearest = match versions.as_slice() {
            [] => self.describe_nearest(image),
            versions => {
                let mut told: Vec<String> =
                    versions.iter().take(TOLD).map(|root| root.version()).collect();
                if versions.len() > TOLD {
                    told.push(format!("{} more", versions.len() - TOLD));
                }
                Some(format!("{} is locked as {}", image.name(), told.join(", ")))
            }
        };
        let nearest = nearest.map(|nearest| format!(" ({nearest})")).unwrap_or_default();
        format!("{image} is not locked{nearest}")
    }

    /// The most similar locked image, if any is similar enough.
    fn describe_nearest(&self, image: &Reference) -> Option<String> {
        let root = self.content.find_nearest(image)?;
        let (known, version) = (root.source().name(), root.version());
        Some(format!("the most similar locked image is {known} as {version}"))
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
    fn two_contents_of_one_tag_get_a_digest_from_the_newest_receipt_only() {
        let (old, new) = (test_sample::sample_lock(), test_sample::sample_lock_with_digests(51));
        let site = Site::parse("site.yaml", test_sample::SITE).unwrap();
        let locked = |receipts: &[Receipt], pin| {
            WebhookImages::new(&[old.clone(), new.clone()], receipts, &site, pin).unwrap()
        };

        let undecided = locked(&[], ImagePinning::Digest);
        assert_eq!(undecided.decide("nginx:1.25"), ImageDecision::Unknown);
        let told = undecided.explain_refusal("nginx:1.25");
        assert!(told.contains("give the webhook the receipt"), "{told}");
        // Both contents are locked, so without a digest the tag may stay what it is.
        let named = locked(&[], ImagePinning::AsNamed);
        assert_eq!(moved_name(&named, "nginx:1.25"), "site:5000/ai/library/nginx:1.25");

        let receipts =
            [test_sample::sample_receipt(1, None), test_sample::sample_receipt(51, None)];
        let decided = locked(&receipts, ImagePinning::Digest);
        let pinned = format!("site:5000/ai/library/nginx:1.25@{}", test_sample::sample_digest(51));
        assert_eq!(moved_name(&decided, "nginx:1.25"), pinned);
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
