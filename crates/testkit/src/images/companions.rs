//! What speaks of an image: a cosign signature and an SBOM, by both ways that are in use. The
//! signature hangs on cosign's tag (`sha256-<hex>.sig`) and, with the SBOM, on the image as OCI 1.1
//! referrers; for registries without that API the referrers' index has the fallback tag
//! (distribution-spec 1.1, "Referrers Tag Schema").

use aws_lc_rs::signature::Ed25519KeyPair;
use serde_json::{Value, json};
use types::{Descriptor, media_type};

use super::blobs::TestBlobs;
use super::debian::DebianPackage;
use super::image_set::TestManifest;
use crate::credentials::encode_base64;

/// The key of all signatures of the proving ground: fixed, so that images are the same everywhere;
/// it protects nothing.
const SEED: [u8; 32] = *b"gantry testkit, not a secret key";
/// cosign, pkg/cosign/bundle and specs/SIGNATURE_SPEC.md.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation with the signature in base64 (specs/SIGNATURE_SPEC.md).
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// cosign's artifact type for a signature as a referrer.
const SIGNATURE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// SPDX's JSON, as the artifact type and the media type of an SBOM.
pub(crate) const SPDX: &str = "application/spdx+json";

/// Writes the companions of `image` and gives their documents and blobs.
pub(crate) fn write_companions(
    blobs: &TestBlobs,
    repository: &str,
    image: &Descriptor,
    packages: &[DebianPackage],
) -> (Vec<TestManifest>, Vec<Descriptor>) {
    let empty = blobs.put_bytes(media_type::OCI_EMPTY, b"{}");
    let (payload, signature) = write_signature(blobs, repository, image);
    let config = blobs.put_json(
        media_type::OCI_CONFIG,
        &json!({"architecture": "", "created": "0001-01-01T00:00:00Z", "os": "", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [payload.digest]}}),
    );
    let layer = json!({"mediaType": SIMPLE_SIGNING, "digest": payload.digest, "size": payload.size,
        "annotations": {SIGNATURE: signature}});
    let by_tag = put_manifest(
        blobs,
        &json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": plain_descriptor(&config), "layers": [layer]}),
    );

    let sbom = blobs.put_json(SPDX, &spdx_document(repository, image, packages));
    let signature_referrer = write_referrer(blobs, image, SIGNATURE_ARTIFACT, &empty, &layer);
    let sbom_referrer = write_referrer(blobs, image, SPDX, &empty, &plain_descriptor(&sbom));
    let listed = |descriptor: &Descriptor, artifact: &str| {
        let mut value = plain_descriptor(descriptor);
        value["artifactType"] = json!(artifact);
        value
    };
    let fallback = blobs.put_json(
        media_type::OCI_INDEX,
        &json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [
            listed(&signature_referrer, SIGNATURE_ARTIFACT), listed(&sbom_referrer, SPDX)]}),
    );

    let hex = image.digest.hex();
    let documents = vec![
        TestManifest::from_descriptor(&by_tag, Some(format!("sha256-{hex}.sig"))),
        TestManifest::from_descriptor(&signature_referrer, None),
        TestManifest::from_descriptor(&sbom_referrer, None),
        TestManifest::from_descriptor(&fallback, Some(format!("sha256-{hex}"))),
    ];
    (documents, vec![empty, payload, config, sbom])
}

/// The signed text and the signature (Ed25519, which cosign takes and which needs no chance).
fn write_signature(
    blobs: &TestBlobs,
    repository: &str,
    image: &Descriptor,
) -> (Descriptor, String) {
    let payload = json!({"critical": {"identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": image.digest},
        "type": "cosign container image signature"}, "optional": null});
    let key = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("any 32 bytes are a seed");
    let text = payload.to_string();
    (
        blobs.put_bytes(SIMPLE_SIGNING, text.as_bytes()),
        encode_base64(key.sign(text.as_bytes()).as_ref()),
    )
}

fn write_referrer(
    blobs: &TestBlobs,
    image: &Descriptor,
    artifact: &str,
    config: &Descriptor,
    layer: &Value,
) -> Descriptor {
    put_manifest(
        blobs,
        &json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "artifactType": artifact, "config": plain_descriptor(config), "layers": [layer],
        "subject": plain_descriptor(image)}),
    )
}

fn put_manifest(blobs: &TestBlobs, document: &Value) -> Descriptor {
    blobs.put_json(media_type::OCI_MANIFEST, document)
}

/// The three fields that every descriptor has.
pub(crate) fn plain_descriptor(descriptor: &Descriptor) -> Value {
    json!({"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size})
}

/// An SPDX 2.3 document that lists the packages.
fn spdx_document(repository: &str, image: &Descriptor, packages: &[DebianPackage]) -> Value {
    let listed: Vec<Value> = packages
        .iter()
        .map(|package| {
            json!({"SPDXID": format!("SPDXRef-{}", package.name.replace(['+', '_'], "-")),
                "name": package.name, "versionInfo": package.version, "downloadLocation": "NOASSERTION",
                "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                    "referenceLocator": format!("pkg:deb/debian/{}@{}", package.name, package.version)}]})
        })
        .collect();
    json!({"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": repository, "documentNamespace": format!("https://testkit.invalid/{}", image.digest),
        "creationInfo": {"created": "2024-01-01T00:00:00Z", "creators": ["Tool: gantry-testkit"]},
        "packages": listed})
}
