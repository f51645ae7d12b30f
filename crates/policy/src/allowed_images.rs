//! The images that may start at a site: the names at the site of everything that is locked, with
//! the tags and digests that the locks have for each.

use std::collections::{BTreeMap, BTreeSet};

use types::site_content::SiteContent;

use crate::{Error, Result};

/// By which versions a policy admits an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmittedVersions {
    /// By a locked tag, or by a locked digest.
    TagsAndDigests,
    /// By a locked digest alone: a tag can be pushed again, a digest cannot.
    Digests,
}

/// The images of a site that may start, written as a policy compares them: a reference that begins
/// with `site` is admitted by the version behind its repository's path, which is its digest if it
/// has one, else its tag.
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
    /// Lists what a site holds and pods can start: images, and models, which pods mount as image
    /// volumes.
    ///
    /// # Errors
    /// A lock without images, since its policy would refuse every pod.
    pub fn new(content: &SiteContent, admit: AdmittedVersions) -> Result<Self> {
        if let Some(lock) = content.lock_without_images() {
            return Err(Error::NothingLocked { lock: lock.to_owned() });
        }
        let site = format!("{}/", content.prefix());
        let mut images: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for root in content.startable_repositories().into_values().flatten() {
            let name = root.target().name();
            // All names at the site begin with its prefix.
            let path = name.strip_prefix(&site).unwrap_or(&name).to_owned();
            let versions = images.entry(path).or_default();
            versions.extend(root.startable_digests().iter().map(ToString::to_string));
            if admit == AdmittedVersions::TagsAndDigests {
                versions.extend(root.target().tag().map(str::to_owned));
            }
        }
        Ok(Self { site, admit, images })
    }

    /// The number of repositories.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether no image may start.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::lock::Lock;
    use types::site::Site;
    use types::{Digest, Reference};

    use super::*;

    /// What the rules in CEL and Rego compute with the list.
    fn admits(allowed: &AllowedImages, image: &str) -> bool {
        let Some(rest) = image.strip_prefix(&allowed.site) else { return false };
        let (named, digest) = rest.split_once('@').map_or((rest, None), |(a, b)| (a, Some(b)));
        let (path, tag) = named.split_once(':').map_or((named, None), |(a, b)| (a, Some(b)));
        let version = digest.or(tag).unwrap_or("latest");
        allowed.images.get(path).is_some_and(|versions| versions.contains(version))
    }

    #[test]
    fn the_list_admits_what_the_site_holds_and_nothing_else() {
        let digest = |n: u8| Digest::Sha256([n; 32]);
        let manifest = |n: u8, platform: &str| {
            format!("{{digest: '{}', size: 1, mediaType: m{platform}}}", digest(n))
        };
        let image = |name: &str, n: u8| {
            format!(
                "- reference: {name}\n  digest: {}\n  mediaType: i\n  size: 1\n  platforms: []\n  \
                 manifests: [{}, {}]\n  seen: [{{by: gantry.yaml}}]\n",
                digest(n),
                manifest(n + 1, ", platform: linux/amd64"),
                // An attestation.
                manifest(n + 2, ""),
            )
        };
        let pinned = format!("quay.io/pinned/app:2@{}", digest(21));
        let text = format!(
            "version: 1\nname: l\nplatforms: []\nimages:\n{}{}{}",
            image("docker.io/library/nginx:latest", 1),
            image(&pinned, 21),
            image("ghcr.io/org/app:1", 11),
        );
        let lock = Lock::parse("gantry.lock", &text).unwrap();
        let site =
            Site::parse("site.yaml", "version: 1\nregistry: {url: 'site:5000/ai'}\n").unwrap();
        let content = SiteContent::new(&[lock], &[], &site.registry).unwrap();
        let allowed = AllowedImages::new(&content, AdmittedVersions::TagsAndDigests).unwrap();
        let by_digest = AllowedImages::new(&content, AdmittedVersions::Digests).unwrap();

        let mut checked = 0;
        for repository in ["library/nginx", "pinned/app", "org/app", "other/app"] {
            for tag in ["", ":latest", ":1", ":2", ":9"] {
                for pin in [0, 1, 2, 3, 11, 12, 13, 21, 22, 23, 99] {
                    let pin = if pin == 0 { String::new() } else { format!("@{}", digest(pin)) };
                    let text = format!("site:5000/ai/{repository}{tag}{pin}");
                    let reference: Reference = text.parse().unwrap();
                    let is_locked = content.is_locked(&reference);
                    assert_eq!(admits(&allowed, &text), is_locked, "{text}");
                    let is_pinned = reference.digest().is_some();
                    assert_eq!(admits(&by_digest, &text), is_locked && is_pinned, "{text}");
                    checked += usize::from(is_locked);
                }
            }
        }
        assert!(checked > 10, "{checked}");
    }
}
