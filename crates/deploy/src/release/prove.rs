//! The last look before the cluster: what helm would install, as the cluster at hand makes it, names
//! no image outside of the site.

use chart::post_render::post_render_with;
use remote::helm::record::Revision;
use types::Reference;

use super::error::{Error, Result};
use super::{Deployer, Planned};

/// [`Error::Outside`] when the revision would make the cluster pull from outside.
pub(super) fn prove(deployer: &Deployer<'_>, planned: &Planned, revision: &Revision) -> Result<()> {
    let mut stream = revision.manifest.clone();
    for hook in &revision.hooks {
        stream.push_str("\n---\n");
        stream.push_str(&hook.manifest);
    }
    let post = post_render_with(&stream, deployer.target, deployer.rules, Some(deployer.locked))?;
    let proof = post.proof;
    let is_outside = |image: &Reference| !planned.elsewhere.contains(image);
    let is_named =
        |text: &str| planned.elsewhere.iter().any(|image| text.contains(image.repository()));
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
    Err(Error::Outside { release: planned.name().to_owned(), places })
}
