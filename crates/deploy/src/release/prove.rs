//! The last check before an install: the manifests that helm rendered against the real cluster (its
//! version and API resources can change what a template emits), or that Gantry is about to apply, name no
//! image outside the site.

use remote::helm::record::ReleaseRevision;

use super::image_proof::ImageProof;
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
    let proof = ImageProof {
        target: deployer.target,
        rules: deployer.rules,
        locked: deployer.locked,
        elsewhere: &planned.elsewhere,
    };
    let places = proof.find_outside_images(&stream)?;
    if places.is_empty() {
        return Ok(());
    }
    Err(ReleaseRefusal::OutsideImages { release: planned.name().to_owned(), places }.into())
}
