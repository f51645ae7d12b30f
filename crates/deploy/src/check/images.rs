//! Check `images`: every locked image is in the site's registry under its name, with its digest.
//! Some registries refuse a sparse index (one without all of its manifests), so that `load` had to
//! write a new one with another digest; such an index is accepted if it has only locked manifests.

use futures::StreamExt as _;
use remote::oci::Registry;
use types::lock::Image;
use types::{Digest, Reference};

use super::registry::no_site;
use super::{Finding, Name, SiteRegistry, Subject};

/// Concurrent requests: most of their time is waiting.
const AT_ONCE: usize = 8;

/// How a registry has a locked image.
pub(super) enum Standing {
    /// With its locked digest.
    Same,
    /// As a rewritten index that has only locked manifests.
    Rewritten,
    /// The name does not exist.
    Missing,
    /// The manifest of a locked platform is missing.
    Partial(Digest),
    /// The name refers to something else.
    Other(Digest),
}

/// Checks all locked images.
pub(super) async fn check(subject: &Subject) -> Vec<Finding> {
    let what = "locked images";
    let Some(registry) = &subject.registry else { return vec![no_site(Name::Images, what)] };
    let place = registry.prefix.to_string();
    let Some(lock) = &subject.lock else {
        return vec![Finding::skipped(Name::Images, place, what, "there is no gantry.lock")];
    };
    let reader = registry.reader();
    let asked = futures::stream::iter(&lock.images).map(|image| one(registry, &reader, image));
    let answers: Vec<Result<bool, Finding>> = asked.buffered(AT_ONCE).collect().await;
    let rewritten = answers.iter().filter(|answer| matches!(answer, Ok(true))).count();
    let there = answers.iter().filter(|answer| answer.is_ok()).count();
    let mut findings = Vec::new();
    if there > 0 {
        let all = lock.images.len();
        let again = match rewritten {
            0 => String::new(),
            some => {
                format!(
                    "; {some} of them with an index that was rewritten for the locked platforms"
                )
            }
        };
        let why = format!("{there} of {all} are in the registry with their digests{again}");
        findings.push(Finding::ok(Name::Images, place, what, why));
    }
    findings.extend(answers.into_iter().filter_map(Result::err));
    findings
}

/// Checks one image. Returns whether its index was rewritten, or the finding of what is wrong.
async fn one(registry: &SiteRegistry, reader: &Registry, image: &Image) -> Result<bool, Finding> {
    let name = registry.target(&image.reference);
    let load = "load it: gantry load BUNDLE_FILE… --site site.yaml";
    let place = registry.prefix.to_string();
    let failed = |what: String| Finding::failed(Name::Images, place.as_str(), what);
    let target = name.map_err(|error| {
        failed(image.reference.to_string())
            .because(error.to_string(), "correct naming: in site.yaml")
    })?;
    let failed = || failed(target.to_string());
    match standing(reader, image, &target).await {
        Ok(Standing::Same) => Ok(false),
        Ok(Standing::Rewritten) => Ok(true),
        Ok(Standing::Missing) => Err(failed().because("the registry does not have it", load)),
        Ok(Standing::Partial(digest)) => Err(failed().because(
            format!("the registry has its name, but not its manifest {digest}"),
            load,
        )),
        Ok(Standing::Other(digest)) => Err(failed()
            .because(
                format!("the registry has {digest} under this name, but the locked digest is {}", image.digest),
                "somebody pushed another image there: load the locked one again, and find out who has write access",
            )
            .with_wrong_digest()),
        Err(error) => {
            // The registry sent bytes that do not match the digest it named.
            let is_lie = error.is_integrity();
            let finding =
                failed().because(error.to_string(), "check the registry, then run the check again");
            Err(if is_lie { finding.with_wrong_digest() } else { finding })
        }
    }
}

/// Finds out how the registry has an image under the name `target`.
pub(super) async fn standing(
    reader: &Registry,
    image: &Image,
    target: &Reference,
) -> remote::Result<Standing> {
    let Some(digest) = (match reader.head(target).await? {
        Some(digest) => Some(digest),
        // The header Docker-Content-Digest is optional (distribution-spec, "Pulling manifests"):
        // without it the manifest is fetched and hashed.
        None => reader.find(target).await?.map(|fetched| fetched.descriptor.digest),
    }) else {
        return Ok(Standing::Missing);
    };
    // The rewritten index is recognised by its children and not by a receipt: the check also works
    // for images that another tool copied.
    let standing = if digest == image.digest {
        Standing::Same
    } else if is_rewritten(reader, image, target).await? {
        Standing::Rewritten
    } else {
        return Ok(Standing::Other(digest));
    };
    // An index may be there without its children: registries check that on push, but may later
    // delete manifests that have no tag.
    for manifest in image.manifests.iter().filter(|manifest| manifest.digest != digest) {
        let by_digest = target.with_digest(manifest.digest);
        if reader.head(&by_digest).await?.is_none() && reader.find(&by_digest).await?.is_none() {
            return Ok(Standing::Partial(manifest.digest));
        }
    }
    Ok(standing)
}

/// Whether a name refers to an index that has only locked manifests.
pub(super) async fn is_rewritten(
    reader: &Registry,
    image: &Image,
    target: &Reference,
) -> remote::Result<bool> {
    let Some(fetched) = reader.find(target).await? else { return Ok(false) };
    let is_locked =
        |digest: &Digest| image.manifests.iter().any(|manifest| manifest.digest == *digest);
    let manifests = &fetched.manifest.manifests;
    Ok(!manifests.is_empty() && manifests.iter().all(|child| is_locked(&child.digest)))
}
