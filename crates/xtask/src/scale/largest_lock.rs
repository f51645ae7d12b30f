//! The largest lock that Gantry promises to handle: 10,000 images on two platforms, with 100,000 layers
//! of their own. `plan` reads it whole; what it may take is in the report.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use types::input::AttachedContent;
use types::lock::{Blob, ImageMention, LockedImage, LockedManifest, LockedRequest, VERSION};
use types::{Digest, Platform, media_type};

use super::images::image_name;

/// What is promised of `plan`.
pub(super) const MOST_SECONDS: f64 = 10.0;
pub(super) const MOST_BYTES: f64 = 300e6;

const IMAGES: usize = 10_000;
const LAYERS: usize = 5;

/// Writes `gantry.lock` into an empty folder.
pub(super) fn write_lock(folder: &Path) -> Result<(), Box<dyn Error>> {
    let platforms = [Platform::linux_amd64(), "linux/arm64".parse()?];
    let mut images = Vec::with_capacity(IMAGES);
    for number in 0..IMAGES {
        let manifests = platforms.iter().enumerate().map(|(at, platform)| {
            let manifest = number * platforms.len() + at;
            LockedManifest {
                digest: invent_digest("manifest", manifest),
                size: 1_200,
                media_type: media_type::OCI_MANIFEST.into(),
                platform: Some(platform.clone()),
                config: Some(invent_blob("config", manifest)),
                layers: (0..LAYERS)
                    .map(|layer| invent_blob("layer", manifest * LAYERS + layer))
                    .collect(),
                layer_urls: BTreeMap::new(),
            }
        });
        images.push(LockedImage {
            reference: image_name(number).parse()?,
            digest: invent_digest("index", number),
            media_type: media_type::OCI_INDEX.into(),
            size: 900,
            platforms: platforms.to_vec(),
            from: None,
            indexes: vec![],
            manifests: manifests.collect(),
            attached: vec![],
            attached_content: AttachedContent::Carried,
            seen: vec![ImageMention {
                by: "gantry.yaml".into(),
                template: None,
                object: None,
                field: None,
                values: vec![],
                possible: None,
            }],
        });
    }
    let requests = (0..IMAGES).map(|number| LockedRequest {
        entry: format!("image {}", image_name(number)),
        digest: format!("{number:016x}"),
        files: None,
    });
    let mut lock = types::lock::Lock {
        version: VERSION,
        name: "largest".into(),
        requests: requests.collect(),
        platforms: platforms.to_vec(),
        charts: vec![],
        manifests: vec![],
        images,
        models: vec![],
        files: vec![],
    };
    lock.sort();
    fs::write(folder.join("config.yaml"), "{}")?;
    Ok(fs::write(folder.join("gantry.lock"), lock.to_yaml()?)?)
}

fn invent_digest(kind: &str, number: usize) -> Digest {
    store::hash::sha256(format!("{kind} {number}").as_bytes())
}

fn invent_blob(kind: &str, number: usize) -> Blob {
    Blob { digest: invent_digest(kind, number), size: 1 << 20 }
}
