//! A sample lock and site for the unit tests of this module.
#![allow(clippy::unwrap_used)]

use types::lock::{ImageMention, Lock, LockedImage, LockedManifest, VERSION};
use types::receipt::{Receipt, ReceiptRoot};
use types::site::Site;
use types::{Digest, Platform, Reference, RootKind, media_type};

use super::{ImagePinning, WebhookImages};

pub(crate) const SITE: &str = "version: 1\nregistry: {url: 'site:5000/ai', pullSecret: site}\n";

pub(crate) fn sample_digest(n: u8) -> Digest {
    Digest::Sha256([n; 32])
}

pub(crate) fn sample_lock() -> Lock {
    sample_lock_with_digests(1)
}

/// The sample with other content: its digests count from `first`.
pub(crate) fn sample_lock_with_digests(first: u8) -> Lock {
    let image = |reference: &str, index: u8| LockedImage {
        reference: reference.parse().unwrap(),
        digest: sample_digest(index),
        media_type: media_type::OCI_INDEX.into(),
        size: 1,
        platforms: vec![Platform::linux_amd64()],
        from: None,
        indexes: vec![],
        manifests: vec![LockedManifest {
            digest: sample_digest(index + 1),
            size: 1,
            media_type: media_type::OCI_MANIFEST.into(),
            platform: Some(Platform::linux_amd64()),
            config: None,
            layers: vec![],
            layer_urls: std::collections::BTreeMap::new(),
        }],
        attached: vec![],
        attached_content: types::input::AttachedContent::Carried,
        seen: vec![ImageMention::of_input()],
    };
    Lock {
        version: VERSION,
        name: "sample".into(),
        platforms: vec![Platform::linux_amd64()],
        requests: vec![],
        charts: vec![],
        manifests: vec![],
        images: vec![image("nginx:1.25", first), image("ghcr.io/shop/web:2.1", first + 2)],
        models: vec![],
        files: vec![],
    }
}

pub(crate) fn sample_images(pin: ImagePinning) -> WebhookImages {
    sample_with_rewritten(pin, None)
}

/// The sample, with the first image's index rewritten at the site if a digest is given.
pub(crate) fn sample_with_rewritten(pin: ImagePinning, rewritten: Option<Digest>) -> WebhookImages {
    let site = Site::parse("site.yaml", SITE).unwrap();
    let receipt = sample_receipt(1, rewritten);
    WebhookImages::new(&[sample_lock()], &[receipt], &site, pin).unwrap()
}

/// A receipt of the first image with this digest.
pub(crate) fn sample_receipt(digest: u8, rewritten: Option<Digest>) -> Receipt {
    let name: Reference = "nginx:1.25".parse().unwrap();
    let held = ReceiptRoot {
        target: "site:5000/ai/library/nginx:1.25".into(),
        name,
        kind: RootKind::Image,
        digest: sample_digest(digest),
        rewritten,
    };
    Receipt::new("site:5000/ai".into(), vec![held], vec![])
}
