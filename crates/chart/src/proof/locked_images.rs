//! Checks images against the lock: the site will only have the images that `gantry.lock` has, so an
//! overlay that names another one leads to `ImagePullBackOff`.

use std::collections::BTreeMap;

use serde::Serialize;
use types::{Digest, Reference};

use crate::find::{Confidence, FoundImage, ManifestLocation};

/// The images of one or more locks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockedImages {
    /// By the image's name (`ghcr.io/org/app`), the tags and digests that are locked.
    images: BTreeMap<String, Vec<(Option<String>, Digest)>>,
}

/// An image that the chart needs and the lock does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnlockedImage {
    /// The image, with tag and digest as the chart writes them.
    pub image: Reference,
    /// The first location where the chart names it.
    pub place: ManifestLocation,
}

impl LockedImages {
    /// Whether the lock has the image with this very tag or digest. A reference with both is pulled
    /// by its digest; the container runtime ignores the tag then.
    pub fn contains(&self, image: &Reference) -> bool {
        let all = self.images.get(&image.name()).into_iter().flatten();
        all.into_iter().any(|(tag, digest)| match image.digest() {
            Some(own) => own == digest,
            // A locked tag may point to another digest upstream by now; the site has the locked
            // one.
            None => tag.as_deref() == image.tag(),
        })
    }
}

impl FromIterator<(Reference, Digest)> for LockedImages {
    fn from_iter<I: IntoIterator<Item = (Reference, Digest)>>(all: I) -> Self {
        let mut images: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (reference, digest) in all {
            let tag = reference.tag().map(str::to_owned);
            images.entry(reference.name()).or_default().push((tag, digest));
        }
        Self { images }
    }
}

impl From<&types::lock::Lock> for LockedImages {
    fn from(lock: &types::lock::Lock) -> Self {
        lock.images.iter().map(|image| (image.reference.clone(), image.digest)).collect()
    }
}

/// The images among those found that the lock does not have, each once. Images that are only
/// possible are left out, because nothing may ever pull them.
pub(crate) fn list_unlocked_images<'a>(
    found: impl IntoIterator<Item = &'a FoundImage>,
    locked: &LockedImages,
) -> Vec<UnlockedImage> {
    let mut missing: Vec<UnlockedImage> = Vec::new();
    for found in found {
        let is_known = missing.iter().any(|missing| missing.image == found.reference);
        if found.confidence > Confidence::Possible
            && !is_known
            && !locked.contains(&found.reference)
        {
            let (image, place) = (found.reference.clone(), found.place.clone());
            missing.push(UnlockedImage { image, place });
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_image_is_locked_with_its_own_tag_or_digest_only() {
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        let reference = |text: &str| text.parse::<Reference>().unwrap();
        let locked: LockedImages =
            [(reference("ghcr.io/a/b:1"), Digest::from_hex(&one).unwrap())].into_iter().collect();
        for (image, is_locked) in [
            ("ghcr.io/a/b:1".to_owned(), true),
            (format!("ghcr.io/a/b@sha256:{one}"), true),
            (format!("ghcr.io/a/b:2@sha256:{one}"), true),
            (format!("ghcr.io/a/b:1@sha256:{other}"), false),
            ("ghcr.io/a/b:2".to_owned(), false),
            ("quay.io/a/b:1".to_owned(), false),
        ] {
            assert_eq!(locked.contains(&reference(&image)), is_locked, "{image}");
        }
    }
}
