//! A sample lock and site for the unit tests of this module.
#![allow(clippy::unwrap_used)]

use types::lock::{Image, Lock, Manifest, Seen, VERSION};
use types::receipt::{Held, Receipt};
use types::site::Site;
use types::{Digest, Kind, Platform, Reference, media_type};

use super::{Locked, Pin};

pub(crate) const SITE: &str = "version: 1\nregistry: {url: 'site:5000/ai', pullSecret: site}\n";

pub(crate) fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

pub(crate) fn lock() -> Lock {
    let image = |reference: &str, index: u8| Image {
        reference: reference.parse().unwrap(),
        digest: digest(index),
        media_type: media_type::OCI_INDEX.into(),
        size: 1,
        platforms: vec![Platform::linux_amd64()],
        from: None,
        manifests: vec![Manifest {
            digest: digest(index + 1),
            size: 1,
            media_type: media_type::OCI_MANIFEST.into(),
            platform: Some(Platform::linux_amd64()),
            config: None,
            layers: vec![],
        }],
        attached: vec![],
        seen: vec![Seen {
            by: "gantry.yaml".into(),
            template: None,
            object: None,
            field: None,
            values: vec![],
        }],
    };
    Lock {
        version: VERSION,
        name: "sample".into(),
        platforms: vec![Platform::linux_amd64()],
        charts: vec![],
        images: vec![image("nginx:1.25", 1), image("ghcr.io/shop/web:2.1", 3)],
        models: vec![],
        files: vec![],
    }
}

pub(crate) fn locked(pin: Pin) -> Locked {
    locked_with(pin, None)
}

/// The sample, with the first image's index rewritten at the site if a digest is given.
pub(crate) fn locked_with(pin: Pin, rewritten: Option<Digest>) -> Locked {
    let name: Reference = "nginx:1.25".parse().unwrap();
    let held = Held {
        target: "site:5000/ai/library/nginx:1.25".into(),
        name,
        kind: Kind::Image,
        digest: digest(1),
        rewritten,
    };
    let receipt = Receipt::new("site:5000/ai".into(), vec![held], vec![]);
    let site = Site::parse("site.yaml", SITE).unwrap();
    Locked::new(&[lock()], &[receipt], &site, pin).unwrap()
}
