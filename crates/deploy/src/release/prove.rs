//! The last check before an install: the manifests that helm rendered against the real cluster (its
//! version and API resources can change what a template emits) name no image outside the site.

use chart::post_render::post_render_with_rules;
use remote::helm::record::ReleaseRevision;
use types::Reference;

use super::{Deployer, PlannedRelease};
use crate::Result;
use crate::prepare::ReleaseRefusal;

/// Proves that a revision makes the cluster pull only from the site's registry.
///
/// # Errors
/// [`ReleaseRefusal::OutsideImages`] with every image that would be pulled from elsewhere.
pub(super) fn prove_images_at_site(
    deployer: &Deployer<'_>,
    planned: &PlannedRelease,
    revision: &ReleaseRevision,
) -> Result<()> {
    let mut stream = revision.manifest.clone();
    // helm keeps hooks apart from the manifest, but their pods pull images as well.
    for hook in &revision.hooks {
        stream.push_str("\n---\n");
        stream.push_str(&hook.manifest);
    }
    let post =
        post_render_with_rules(&stream, deployer.target, deployer.rules, Some(deployer.locked))?;
    let proof = post.proof;
    let is_outside = |image: &Reference| !planned.elsewhere.contains(image);
    // Foreign texts are found inside larger strings, so they can only be compared by substring.
    let is_named =
        |text: &str| planned.elsewhere.iter().any(|image| text.contains(image.repository()));
    // The revision has already passed through helm's post-renderer, where one is used. An image
    // that another pass would still move was therefore missed, and counts as outside.
    let moved = proof.moved.iter().map(|one| (&one.from, &one.place));
    let stayed = proof.stayed.iter().map(|one| (&one.from, &one.place));
    let images = moved.chain(stayed).filter(|(image, _)| is_outside(image));
    let foreign = proof.foreign.iter().filter(|one| !is_named(&one.text));
    let places: Vec<String> = images
        .map(|(image, place)| format!("{image} in {place}"))
        .chain(foreign.map(|one| format!("{} in {}", one.text, one.place)))
        .collect();
    if places.is_empty() {
        return Ok(());
    }
    Err(ReleaseRefusal::OutsideImages { release: planned.name().to_owned(), places }.into())
}
