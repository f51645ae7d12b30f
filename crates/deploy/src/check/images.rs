//! Whether every locked image stands in the registry under its name, with its digest. An index that
//! was written again (a registry that takes no sparse one) is proven by its manifests.

use futures::StreamExt as _;
use remote::oci::Registry;
use types::lock::Image;
use types::{Digest, Reference};

use super::registry::no_site;
use super::{Finding, Name, SiteRegistry, Subject};

/// Questions at once: mostly waiting.
const AT_ONCE: usize = 8;

/// How a locked image stands in the registry.
pub(super) enum Standing {
    /// With its own digest.
    Same,
    /// As an index that was written again, with only locked manifests.
    Rewritten,
    /// The name is not there.
    Missing,
    /// A manifest of a carried platform is not there.
    Partial(Digest),
    /// Something else has the name.
    Other(Digest),
}

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
                format!("; {some} as an index that was written again with the carried platforms")
            }
        };
        let why = format!("{there} of {all} are there with their digests{again}");
        findings.push(Finding::ok(Name::Images, place, what, why));
    }
    findings.extend(answers.into_iter().filter_map(Result::err));
    findings
}

/// Whether an image is there, and whether its index was written again; else what is wrong.
async fn one(registry: &SiteRegistry, reader: &Registry, image: &Image) -> Result<bool, Finding> {
    let name = registry.target(&image.reference);
    let load = "load it: gantry load VOLUME… --site site.yaml";
    let place = registry.prefix.to_string();
    let failed = |what: String| Finding::failed(Name::Images, place.as_str(), what);
    let target = name.map_err(|error| {
        failed(image.reference.to_string())
            .because(error.to_string(), "correct naming in site.yaml")
    })?;
    let failed = || failed(target.to_string());
    match standing(reader, image, &target).await {
        Ok(Standing::Same) => Ok(false),
        Ok(Standing::Rewritten) => Ok(true),
        Ok(Standing::Missing) => Err(failed().because("the registry does not have it", load)),
        Ok(Standing::Partial(digest)) => Err(failed().because(
            format!("the registry has its name, and not its manifest {digest}"),
            load,
        )),
        Ok(Standing::Other(digest)) => Err(failed()
            .because(
                format!("the registry has {digest} under this name, locked is {}", image.digest),
                "somebody pushed another image there: load the locked one again, and find out who may write",
            )
            .with_wrong_digest()),
        Err(error) => {
            let is_lie = error.is_integrity();
            let finding =
                failed().because(error.to_string(), "check the registry, and run this again");
            Err(if is_lie { finding.with_wrong_digest() } else { finding })
        }
    }
}

/// How an image stands under a name of the registry.
pub(super) async fn standing(
    reader: &Registry,
    image: &Image,
    target: &Reference,
) -> remote::Result<Standing> {
    let Some(digest) = (match reader.head(target).await? {
        Some(digest) => Some(digest),
        // Not every registry tells a digest to a HEAD.
        None => reader.find(target).await?.map(|fetched| fetched.descriptor.digest),
    }) else {
        return Ok(Standing::Missing);
    };
    let standing = if digest == image.digest {
        Standing::Same
    } else if is_rewritten(reader, image, target).await? {
        Standing::Rewritten
    } else {
        return Ok(Standing::Other(digest));
    };
    for manifest in image.manifests.iter().filter(|manifest| manifest.digest != digest) {
        let by_digest = target.with_digest(manifest.digest);
        if reader.head(&by_digest).await?.is_none() && reader.find(&by_digest).await?.is_none() {
            return Ok(Standing::Partial(manifest.digest));
        }
    }
    Ok(standing)
}

/// Whether a name stands for an index of nothing but the locked manifests.
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
