//! The last look before the cluster: what helm would install, as the cluster at hand makes it, names
//! no image outside of the site.

use chart::post_render::post_render_with;
use remote::helm::record::Revision;

use super::error::{Error, Result};
use super::{Deployer, Leftovers, Planned};

/// [`Error::Outside`] when the revision would make the cluster pull from outside.
pub(super) fn prove(deployer: &Deployer<'_>, planned: &Planned, revision: &Revision) -> Result<()> {
    if planned.leftovers == Leftovers::Elsewhere {
        return Ok(());
    }
    let mut stream = revision.manifest.clone();
    for hook in &revision.hooks {
        stream.push_str("\n---\n");
        stream.push_str(&hook.manifest);
    }
    let post = post_render_with(&stream, deployer.target, deployer.rules, Some(deployer.locked))?;
    let proof = post.proof;
    let mut places: Vec<String> = Vec::new();
    places.extend(proof.moved.iter().map(|one| format!("{} in {}", one.from, one.place)));
    places.extend(proof.stayed.iter().map(|one| format!("{} in {}", one.from, one.place)));
    places.extend(proof.foreign.iter().map(|one| format!("{} in {}", one.text, one.place)));
    if places.is_empty() {
        return Ok(());
    }
    Err(Error::Outside { release: planned.name().to_owned(), places })
}
