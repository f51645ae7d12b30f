//! Proves that manifests name no image outside the site.

use std::collections::BTreeSet;

use chart::OperatorRules;
use chart::post_render::post_render_with_rules;
use chart::relocate::RelocationTarget;
use types::Reference;
use types::site_content::SiteContent;

use crate::Result;

/// What it takes to prove that manifests pull images from the site only.
#[derive(Debug, Clone, Copy)]
pub struct ImageProof<'a> {
    /// The site's registry, to which images were moved.
    pub target: &'a RelocationTarget,
    /// The rules that find images in custom resources and in operators.
    pub rules: &'a OperatorRules,
    /// What the site holds of the lock.
    pub locked: &'a SiteContent,
    /// Public image names that may stay, because the user says that the nodes or a webhook redirect
    /// them.
    pub elsewhere: &'a BTreeSet<Reference>,
}

impl ImageProof<'_> {
    /// Finds every image of a stream of manifests that would be pulled from outside the site, with its
    /// place.
    pub(crate) fn find_outside_images(&self, stream: &str) -> Result<Vec<String>> {
        let post = post_render_with_rules(stream, self.target, self.rules, Some(self.locked))?;
        let proof = post.proof;
        let is_outside = |image: &Reference| !self.elsewhere.contains(image);
        // Foreign texts are found inside larger strings, so they can only be compared by substring.
        let is_named =
            |text: &str| self.elsewhere.iter().any(|image| text.contains(image.repository()));
        // The stream has already passed through the post-renderer, where one is used. An image that
        // another pass would still move was therefore missed, and counts as outside.
        let moved = proof.moved.iter().map(|one| (&one.from, &one.place));
        let stayed = proof.stayed.iter().map(|one| (&one.from, &one.place));
        let images = moved.chain(stayed).filter(|(image, _)| is_outside(image));
        let foreign = proof.foreign.iter().filter(|one| !is_named(&one.text));
        let images = images.map(|(image, place)| format!("{image} in {place}"));
        Ok(images.chain(foreign.map(|one| format!("{} in {}", one.text, one.place))).collect())
    }
}
