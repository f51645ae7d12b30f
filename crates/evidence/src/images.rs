//! Gathers evidence about images: the licences and the origin that they declare, and what is
//! attached to them (SBOMs, signatures, attestations).

use std::collections::BTreeSet;

use serde_json::Value;
use types::json::{MAX_JSON_NODES, parse_json};
use types::lock::{self, LockedAttachment};
use types::{Digest, Manifest};

use crate::Result;
use crate::gatherer::Gatherer;
use crate::index::{ImageEvidence, Severity};
use crate::part::EvidencePartKind;

/// The annotation with the licences of an image, as an SPDX expression (image-spec,
/// annotations.md).
const LICENCES: &str = "org.opencontainers.image.licenses";
/// The annotations with the origin of an image (image-spec, annotations.md).
const ORIGIN: [&str; 6] = [
    "org.opencontainers.image.source",
    "org.opencontainers.image.url",
    "org.opencontainers.image.version",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.vendor",
    "org.opencontainers.image.base.name",
];

/// Gathers what is known about an image of a lock.
pub(crate) fn gather_image(
    gathering: &mut Gatherer<'_>,
    locked: &lock::LockedImage,
) -> Result<ImageEvidence> {
    let name = locked.reference.to_string();
    let mut image = ImageEvidence {
        reference: name.clone(),
        digest: locked.digest,
        licences: vec![],
        origin: vec![],
        sboms: vec![],
        signatures: vec![],
        seen: locked.seen.iter().map(describe_source).collect(),
    };
    let (mut licences, mut origin) = (BTreeSet::new(), BTreeSet::new());
    let manifests = locked.manifests.iter();
    // The annotations may be in the index, in a manifest of any platform, or as labels in its
    // config. Sets, since platforms usually repeat each other.
    let documents = manifests.flat_map(|m| [Some(m.digest), m.config.map(|config| config.digest)]);
    let documents: BTreeSet<Digest> = documents.flatten().chain([locked.digest]).collect();
    for digest in documents {
        let Some(bytes) = gathering.read_blob(&digest, &name)? else { continue };
        let Ok(document) =
            parse_json::<Value>(&name, "a manifest or config", &bytes, MAX_JSON_NODES)
        else {
            continue;
        };
        for pointer in ["/annotations", "/config/Labels"] {
            let Some(said) = document.pointer(pointer).and_then(Value::as_object) else { continue };
            let text = |key: &str| said.get(key).and_then(Value::as_str).map(truncate_text);
            licences.extend(text(LICENCES));
            let origins = ORIGIN.iter().filter_map(|key| {
                let word = key.trim_start_matches("org.opencontainers.image.");
                text(key).map(|value| format!("{word}: {value}"))
            });
            origin.extend(origins);
        }
    }
    image.licences = licences.into_iter().collect();
    image.origin = origin.into_iter().collect();
    for attached in &locked.attached {
        gather_attachment(gathering, &name, attached, &mut image)?;
    }
    if gathering.source.is_some() {
        for (is_missing, what, next) in [
            (image.licences.is_empty(), "it declares no licence", "ask its author"),
            (
                image.sboms.is_empty(),
                "no SBOM is attached to it",
                "create one with syft or trivy, and add it under files: in gantry.yaml",
            ),
            (
                image.signatures.is_empty(),
                "no signature is attached to it",
                "only the digest in the lock vouches for it",
            ),
        ] {
            if is_missing {
                gathering.add_finding(Severity::Low, &name, what, next);
            }
        }
    }
    Ok(image)
}

/// Adds an artifact that is attached to an image. For a signature its manifest is added as well,
/// since cosign keeps the signature itself there, as an annotation.
fn gather_attachment(
    gathering: &mut Gatherer<'_>,
    image: &str,
    attached: &LockedAttachment,
    into: &mut ImageEvidence,
) -> Result<()> {
    let of = attached.reference.to_string();
    let Some(bytes) = gathering.read_blob(&attached.manifest.digest, &of)? else { return Ok(()) };
    let manifest = Manifest::parse(&of, &bytes)?;
    // cosign names SBOMs by a tag; ORAS and BuildKit name them by artifact or media type.
    let media_types = manifest.layers.iter().map(|layer| layer.media_type.as_str());
    let tag = attached.reference.tag().unwrap_or_default();
    let is_sbom = tag.ends_with(".sbom")
        || attached
            .artifact_type
            .iter()
            .map(String::as_str)
            .chain(media_types)
            .any(is_sbom_media_type);
    let (kind, folder) = match is_sbom {
        true => (EvidencePartKind::Sbom, "sboms"),
        false => (EvidencePartKind::Signature, "signatures"),
    };
    let name = format!("{}-{}", last_path_segment(image), attached.manifest.digest.short_hex());
    let paths = if is_sbom { &mut into.sboms } else { &mut into.signatures };
    if !is_sbom {
        paths.push(gathering.parts.add(folder, &format!("{name}.json"), kind, image, bytes)?);
    }
    for layer in &manifest.layers {
        let Some(bytes) = gathering.read_blob(&layer.digest, &of)? else { continue };
        let file = format!("{name}-{}.json", layer.digest.short_hex());
        paths.push(gathering.parts.add(folder, &file, kind, image, bytes)?);
    }
    Ok(())
}

/// Adds the SBOMs among the plain files of a lock, which are recognised by their names.
pub(crate) fn gather_sbom_files(
    gathering: &mut Gatherer<'_>,
    files: &[lock::LockedFile],
) -> Result<()> {
    for file in files {
        let title = file.title.to_ascii_lowercase();
        let is_sbom = [".spdx", ".cdx.", ".spdx.json", "sbom", "bom.json", "bom.xml"]
            .iter()
            .any(|word| title.contains(word));
        if !is_sbom {
            continue;
        }
        let of = file.reference.to_string();
        if let Some(bytes) = gathering.read_blob(&file.content.digest, &of)? {
            gathering.parts.add("sboms", &file.title, EvidencePartKind::Sbom, &file.file, bytes)?;
        }
    }
    Ok(())
}

fn is_sbom_media_type(media_type: &str) -> bool {
    ["spdx", "cyclonedx", "syft", "sbom"].iter().any(|word| media_type.contains(word))
}

/// The last segment of a reference: `nginx:1.25` of `docker.io/library/nginx:1.25`.
fn last_path_segment(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

/// Describes where an image was found: chart, template, object, field.
fn describe_source(seen: &lock::ImageMention) -> String {
    let more = [&seen.template, &seen.object, &seen.field].into_iter().flatten();
    let place =
        std::iter::once(&seen.by).chain(more).map(String::as_str).collect::<Vec<_>>().join(" ");
    match &seen.possible {
        Some(why) => format!("{place} (only possible: {why})"),
        None => place,
    }
}

/// Cuts a text that a stranger wrote to a length that a page can show.
pub(crate) fn truncate_text(text: &str) -> String {
    const LONGEST: usize = 300;
    text.chars().take(LONGEST).collect()
}
