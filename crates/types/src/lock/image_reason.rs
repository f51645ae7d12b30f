//! Why an image is in a lock, in short: for tables and JSON of the commands that list images.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::document::{Lock, LockedImage};
use crate::Reference;

/// Why an image is in a lock: a summary of its mentions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageReason {
    /// The releases whose charts name it, and `gantry.yaml`.
    pub named_by: Vec<String>,
    /// Where it is only possible that the image is pulled: why. Absent where one of them expects it.
    #[serde(rename = "onlyPossible", skip_serializing_if = "Option::is_none")]
    pub possible: Option<String>,
}

impl LockedImage {
    /// Why it is in the lock.
    pub fn reason(&self) -> ImageReason {
        let named_by: BTreeSet<&str> = self.seen.iter().map(|seen| seen.by.as_str()).collect();
        let is_possible = self.seen.iter().all(|seen| seen.possible.is_some());
        ImageReason {
            named_by: named_by.into_iter().map(str::to_owned).collect(),
            possible: self
                .seen
                .first()
                .filter(|_| is_possible)
                .and_then(|seen| seen.possible.clone()),
        }
    }
}

impl Lock {
    /// Why each image is in the lock, by its name.
    pub fn image_reasons(&self) -> BTreeMap<Reference, ImageReason> {
        self.images.iter().map(|image| (image.reference.clone(), image.reason())).collect()
    }
}

impl fmt::Display for ImageReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named_by.join(", "))?;
        if self.possible.is_some() { f.write_str(" (possible)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::ImageMention;
    use super::*;

    fn possible(release: &str) -> ImageMention {
        ImageMention {
            possible: Some("gpu.enabled is off".into()),
            ..ImageMention::of_release(release)
        }
    }

    fn reason_of(seen: Vec<ImageMention>) -> ImageReason {
        LockedImage {
            reference: "a.site/x:1".parse().unwrap(),
            digest: crate::Digest::Sha256([1; 32]),
            media_type: String::new(),
            size: 1,
            platforms: vec![],
            from: None,
            indexes: vec![],
            manifests: vec![],
            attached: vec![],
            attached_content: crate::input::AttachedContent::Carried,
            seen,
        }
        .reason()
    }

    #[test]
    fn an_image_is_only_possible_where_nothing_expects_it() {
        let only = reason_of(vec![possible("shop"), possible("bar"), possible("shop")]);
        assert_eq!(only.to_string(), "bar, shop (possible)");
        assert_eq!(only.possible.as_deref(), Some("gpu.enabled is off"));
        let expected = reason_of(vec![possible("shop"), ImageMention::of_input()]);
        assert_eq!((expected.to_string().as_str(), expected.possible), ("gantry.yaml, shop", None));
    }
}
