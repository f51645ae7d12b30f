//! Check `images`: every locked image is in the site's registry under its name, with its digest.
//! Some registries refuse a sparse index (one without all of its manifests), so that `load` had to
//! write a new one with another digest; such an index is accepted if it has exactly the locked
//! manifests.

use futures::StreamExt as _;
use remote::oci::RegistryClient;
use types::Digest;
use types::rewritten_index::IndexCoverage;
use types::site_content::SiteRoot;

use super::registry::skip_without_site;
use super::{CheckFinding, CheckName, CheckSubject};

/// Concurrent requests: most of their time is waiting.
const AT_ONCE: usize = 8;

/// How a registry has a locked image.
pub(super) enum RegistryImageStatus {
    /// With its locked digest.
    Same,
    /// As a rewritten index that has exactly the locked manifests.
    Rewritten,
    /// The name does not exist.
    Missing,
    /// A locked manifest is missing, in the registry or in a rewritten index.
    Partial(Digest),
    /// The name refers to something else.
    Other(Digest),
}

/// Checks all locked images.
pub(super) async fn check_images(subject: &CheckSubject) -> Vec<CheckFinding> {
    let what = "locked images";
    let Some(registry) = &subject.registry else {
        return vec![skip_without_site(CheckName::Images, what)];
    };
    let place = registry.prefix.to_string();
    let Some(lock) = &subject.lock else {
        return vec![CheckFinding::skipped(
            CheckName::Images,
            place,
            what,
            "there is no gantry.lock",
        )];
    };
    let content = match registry.content(lock) {
        Ok(content) => content,
        Err(error) => {
            return vec![
                CheckFinding::failed(CheckName::Images, place, what)
                    .with_reason(error.to_string(), "correct registry: in site.yaml"),
            ];
        }
    };
    let reader = registry.reader();
    let images: Vec<&SiteRoot> = content.images().collect();
    let asked = futures::stream::iter(&images).map(|image| check_image(&place, &reader, image));
    let answers: Vec<Result<bool, CheckFinding>> = asked.buffered(AT_ONCE).collect().await;
    let rewritten = answers.iter().filter(|answer| matches!(answer, Ok(true))).count();
    let there = answers.iter().filter(|answer| answer.is_ok()).count();
    let mut findings = Vec::new();
    if there > 0 {
        let all = images.len();
        let again = match rewritten {
            0 => String::new(),
            some => {
                format!(
                    "; {some} of them with an index that was rewritten for the locked platforms"
                )
            }
        };
        let why = format!("{there} of {all} are in the registry with their digests{again}");
        findings.push(CheckFinding::ok(CheckName::Images, place, what, why));
    }
    findings.extend(answers.into_iter().filter_map(Result::err));
    findings
}

/// Checks one image. Returns whether its index was rewritten, or the finding of what is wrong.
async fn check_image(
    place: &str,
    reader: &RegistryClient,
    image: &SiteRoot,
) -> Result<bool, CheckFinding> {
    let load = "load it: gantry load BUNDLE_FILE… --site site.yaml";
    let failed = || CheckFinding::failed(CheckName::Images, place, image.target().to_string());
    match find_image_status(reader, image).await {
        Ok(RegistryImageStatus::Same) => Ok(false),
        Ok(RegistryImageStatus::Rewritten) => Ok(true),
        Ok(RegistryImageStatus::Missing) => Err(failed().with_reason("the registry does not have it", load)),
        Ok(RegistryImageStatus::Partial(digest)) => Err(failed().with_reason(
            format!("the registry has its name, but not its manifest {digest}"),
            load,
        )),
        Ok(RegistryImageStatus::Other(digest)) => Err(failed()
            .with_reason(
                format!("the registry has {digest} under this name, but the locked digest is {}", image.digest()),
                "somebody pushed another image there: load the locked one again, and find out who has write access",
            )
            .with_wrong_digest()),
        Err(error) => {
            // The registry sent bytes that do not match the digest it named.
            let is_lie = error.is_integrity();
            let finding =
                failed().with_reason(error.to_string(), "check the registry, then run the check again");
            Err(if is_lie { finding.with_wrong_digest() } else { finding })
        }
    }
}

/// Finds out how the registry has an image under its name at the site.
pub(super) async fn find_image_status(
    reader: &RegistryClient,
    image: &SiteRoot,
) -> remote::Result<RegistryImageStatus> {
    let target = image.target();
    let Some(digest) = (match reader.find_digest(target).await? {
        Some(digest) => Some(digest),
        // The header Docker-Content-Digest is optional (distribution-spec, "Pulling manifests"):
        // without it the manifest is fetched and hashed.
        None => reader.find_manifest(target).await?.map(|fetched| fetched.descriptor.digest),
    }) else {
        return Ok(RegistryImageStatus::Missing);
    };
    // The rewritten index is recognised by its children and not by a receipt: the check also works
    // for images that another tool copied.
    let standing = if digest == image.digest() {
        RegistryImageStatus::Same
    } else {
        let fetched = reader.find_manifest(target).await?;
        match fetched.map(|fetched| image.compare_index(&fetched.manifest)) {
            Some(IndexCoverage::Complete) => RegistryImageStatus::Rewritten,
            // Nodes of the platform that is not in the index cannot pull it by its tag.
            Some(IndexCoverage::Lacks(manifest)) => {
                return Ok(RegistryImageStatus::Partial(manifest));
            }
            Some(IndexCoverage::Foreign) | None => return Ok(RegistryImageStatus::Other(digest)),
        }
    };
    // An index may be there without its children: registries check that on push, but may later
    // delete manifests that have no tag.
    for manifest in image.manifests().into_iter().filter(|manifest| *manifest != digest) {
        let by_digest = target.with_digest(manifest);
        if reader.find_digest(&by_digest).await?.is_none()
            && reader.find_manifest(&by_digest).await?.is_none()
        {
            return Ok(RegistryImageStatus::Partial(manifest));
        }
    }
    Ok(standing)
}
