//! What a proof of a relocation shows: the images that were moved, those that stayed, and everything
//! else that changed.

use serde::Serialize;
use types::Reference;
use types::site_content::SiteContent;

use super::compiled_in::CompiledInImage;
use super::unlocked_images::UnlockedImage;
use crate::find::{
    BrokenImageField, Confidence, FoundImage, ImageScan, LocationKind, ManifestLocation,
};
use crate::site_digests::UnconfirmedDigest;
use crate::target::RelocationTarget;

/// What a render with the overlay shows; serialized into the reports of `gantry relocate`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelocationProof {
    /// The images that have their name at the site now.
    pub moved: Vec<MovedImage>,
    /// The images that still have their original name.
    pub stayed: Vec<UnmovedImage>,
    /// Everything else that changed, each unexpected.
    pub changes: Vec<UnexpectedChange>,
    /// Texts that still point outside and are none of the `stayed` images.
    pub foreign: Vec<ForeignReference>,
    /// Image fields whose text is not an image reference, in both renders: the chart or its values
    /// are wrong, and nothing can be proven of them.
    pub broken: Vec<BrokenImageField>,
    /// Registries outside that stand alone in a configuration: which images a program puts behind
    /// them is not known.
    pub registries: Vec<ForeignReference>,
    /// The images that operators will pull from outside and that no manifest names.
    pub compiled_in: Vec<CompiledInImage>,
    /// The images that operators may pull, depending on what is done in the cluster. They do not
    /// count for the verdict.
    pub possible: Vec<CompiledInImage>,
    /// The images that the lock does not have, so the site will not have them either.
    pub not_locked: Vec<UnlockedImage>,
    /// The digests that the site may not have.
    pub unconfirmed: Vec<UnconfirmedDigest>,
}

/// An image that has its name at the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedImage {
    /// Its original name.
    pub from: Reference,
    /// Its name at the site.
    pub to: Reference,
    /// Where the manifests name it.
    pub place: ManifestLocation,
}

/// An image that still has its original name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmovedImage {
    /// Its original name.
    pub from: Reference,
    /// The name that it should have at the site.
    pub to: Reference,
    /// Where the manifests name it.
    pub place: ManifestLocation,
}

/// A leaf that changed and should not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct UnexpectedChange {
    /// Where it is.
    #[serde(rename = "location")]
    pub place: ManifestLocation,
    /// Its text without the overlay; absent if the leaf is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its text with the overlay; absent if the leaf is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A text that points outside the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ForeignReference {
    /// Where it is.
    #[serde(rename = "location")]
    pub place: ManifestLocation,
    /// The text that points outside.
    pub text: String,
}

/// What a proof says, in one word. The order is from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProofVerdict {
    /// Every image is moved and nothing else changed.
    Proven,
    /// Every image is moved, and it is not known whether the site has all digests that are named.
    Unconfirmed,
    /// Some images could not be moved; everything else is proven.
    Leftovers,
    /// Something else changed, a text points outside, or an image is not in the lock.
    Refuted,
}

impl ProofVerdict {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unconfirmed => "unconfirmed",
            Self::Leftovers => "leftovers",
            Self::Refuted => "refuted",
        }
    }
}

impl RelocationProof {
    /// The proof in one word.
    pub fn verdict(&self) -> ProofVerdict {
        let is_refuted =
            !self.changes.is_empty() || !self.foreign.is_empty() || !self.not_locked.is_empty();
        let is_all = self.stayed.is_empty()
            && self.compiled_in.is_empty()
            && self.broken.is_empty()
            && self.registries.is_empty();
        match (is_refuted, is_all) {
            (true, _) => ProofVerdict::Refuted,
            (false, true) if !self.unconfirmed.is_empty() => ProofVerdict::Unconfirmed,
            (false, true) => ProofVerdict::Proven,
            (false, false) => ProofVerdict::Leftovers,
        }
    }

    /// Adds the images of a scan that operators pull from outside the site. Those that are only
    /// possible do not count for the verdict.
    pub(crate) fn add_compiled_in_images(
        &mut self,
        scan: &ImageScan,
        target: &RelocationTarget,
        locked: Option<&SiteContent>,
    ) {
        let is_outside = |found: &&FoundImage| {
            found.pattern == LocationKind::Rule && !target.is_site_image(&found.reference)
        };
        for found in scan.images.iter().filter(is_outside) {
            // A name that is not valid at the site was an error before the first proof.
            let Ok(to) = target.prefix.site_reference(target.naming, &found.reference) else {
                continue;
            };
            let all = match found.confidence {
                Confidence::Possible => &mut self.possible,
                Confidence::Likely | Confidence::Certain => &mut self.compiled_in,
            };
            all.push(CompiledInImage {
                image: found.reference.clone(),
                to,
                place: found.place.clone(),
                values: found.values.clone(),
                why: found.note.clone().unwrap_or_default(),
                is_locked: locked.map(|content| content.is_locked(&found.reference)),
            });
        }
    }
}
