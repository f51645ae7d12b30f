//! Properties of what a site holds, for any locks, receipts and naming: nothing that is locked is
//! lost, nothing else is ever locked, and the order of the locks does not matter.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use gantry_types::lock::{Blob, Lock, LockedAttachment, LockedImage, LockedManifest, VERSION};
use gantry_types::naming::NamingRule;
use gantry_types::receipt::{Receipt, ReceiptRoot};
use gantry_types::site::RegistryTarget;
use gantry_types::site_content::{DigestRole, SiteContent};
use gantry_types::{Digest, Platform, Reference, RootKind, media_type};
use proptest::collection::vec;
use proptest::prelude::*;

/// The first byte of digests tells what they are of; no locked digest begins with this one.
const FOREIGN: u8 = 0xff;
/// The first byte of the digests of rewritten indexes.
const REWRITTEN: u8 = 5;

const REPOSITORIES: [&str; 5] = [
    "docker.io/library/nginx",
    "ghcr.io/org/app",
    "quay.io/org/tool",
    "registry.k8s.io/pause",
    "localhost:5000/built/here",
];

/// What a random image is made from.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "what may be true of an image, drawn at random")]
struct ImageSeed {
    repository: usize,
    tag: Option<u8>,
    is_pinned: bool,
    content: u8,
    is_index: bool,
    has_attestation: bool,
    has_signature: bool,
}

fn digest(part: u8, content: u8) -> Digest {
    let mut bytes = [content; 32];
    bytes[0] = part;
    Digest::Sha256(bytes)
}

fn image_seed() -> impl Strategy<Value = ImageSeed> {
    let numbers = (0..REPOSITORIES.len(), proptest::option::of(0..3_u8), 0..6_u8);
    (numbers, any::<[bool; 4]>()).prop_map(|((repository, tag, content), flags)| ImageSeed {
        repository,
        // Without a tag a reference has its digest.
        is_pinned: flags[0] || tag.is_none(),
        tag,
        content,
        is_index: flags[1],
        has_attestation: flags[2],
        has_signature: flags[3],
    })
}

fn manifest(digest: Digest, platform: Option<Platform>) -> LockedManifest {
    LockedManifest {
        digest,
        size: 1,
        media_type: media_type::OCI_MANIFEST.into(),
        platform,
        config: Some(Blob { digest: Digest::Sha256([0xcc; 32]), size: 1 }),
        layers: vec![],
        layer_urls: std::collections::BTreeMap::new(),
    }
}

fn locked_image(seed: &ImageSeed) -> LockedImage {
    let source = digest(1, seed.content);
    let tag = seed.tag.map(|tag| format!("v{tag}"));
    let name: Reference = REPOSITORIES[seed.repository].parse().unwrap();
    let pin = seed.is_pinned.then_some(source);
    let reference =
        Reference::new(name.registry(), name.repository(), tag.as_deref(), pin).unwrap();
    let own = if seed.is_index { digest(2, seed.content) } else { source };
    let mut manifests = vec![manifest(own, Some(Platform::linux_amd64()))];
    if seed.is_index && seed.has_attestation {
        manifests.push(manifest(digest(3, seed.content), None));
    }
    let attached = LockedAttachment {
        reference: reference.with_digest(digest(4, seed.content)),
        artifact_type: None,
        manifest: manifest(digest(4, seed.content), None),
    };
    LockedImage {
        reference,
        digest: source,
        media_type: media_type::OCI_INDEX.into(),
        size: 1,
        platforms: vec![],
        from: None,
        indexes: vec![],
        manifests,
        attached: if seed.has_signature { vec![attached] } else { vec![] },
        attached_content: gantry_types::input::AttachedContent::Carried,
        seen: vec![],
    }
}

fn lock_of(name: &str, seeds: &[ImageSeed]) -> Lock {
    Lock {
        version: VERSION,
        name: name.to_owned(),
        platforms: vec![],
        requests: vec![],
        charts: vec![],
        manifests: vec![],
        images: seeds.iter().map(locked_image).collect(),
        models: vec![],
        files: vec![],
    }
}

fn registry(naming: NamingRule) -> RegistryTarget {
    RegistryTarget {
        url: "site.internal:5000/ai".to_owned(),
        naming,
        ca: None,
        plain_http: false,
        insecure_skip_tls_verify: false,
        client_certificate: None,
        pull_secret: None,
    }
}

/// A receipt that has the indexes of all images in rewritten form.
fn receipt_of(locks: &[Lock], registry: &RegistryTarget) -> Receipt {
    let images = locks.iter().flat_map(|lock| &lock.images);
    let roots = images.map(|image| ReceiptRoot {
        name: image.reference.clone(),
        kind: RootKind::Image,
        digest: image.digest,
        target: registry.site_reference(&image.reference).unwrap().to_string(),
        rewritten: Some(digest(REWRITTEN, image.digest.as_bytes()[1])),
    });
    Receipt::new(registry.url.clone(), roots.collect(), vec![])
}

/// Two locks, and the site's registry.
fn locks() -> impl Strategy<Value = (Vec<Lock>, RegistryTarget)> {
    let naming =
        prop_oneof![Just(NamingRule::Path), Just(NamingRule::HostPath), Just(NamingRule::Name)];
    (vec(image_seed(), 1..6), vec(image_seed(), 0..6), naming).prop_map(|(one, two, naming)| {
        (vec![lock_of("one", &one), lock_of("two", &two)], registry(naming))
    })
}

fn images(locks: &[Lock]) -> impl Iterator<Item = &LockedImage> {
    locks.iter().flat_map(|lock| &lock.images)
}

proptest! {
    #[test]
    fn every_locked_image_is_found_by_each_of_its_names((locks, registry) in locks()) {
        let content = SiteContent::new(&locks, &[], &registry).unwrap();
        for image in images(&locks) {
            let target = registry.site_reference(&image.reference).unwrap();
            for name in [&image.reference, &target] {
                let found = content.find(name);
                prop_assert!(found.iter().any(|root| root.digest() == image.digest), "{name}");
                prop_assert!(found.iter().all(|root| root.is_startable()));
                for own in [image.digest, image.manifests[0].digest] {
                    let by_digest = name.with_digest(own);
                    prop_assert!(content.is_locked(&by_digest), "{by_digest}");
                }
            }
            let has_source = content.find_digest(&image.digest).iter().any(|(root, role)| {
                *role == DigestRole::Source && root.source() == &image.reference
            });
            prop_assert!(has_source, "{}", image.reference);
        }
    }

    #[test]
    fn nothing_that_is_not_locked_is_ever_locked(
        (locks, registry) in locks(),
        has_receipt in any::<bool>(),
        asked in image_seed(),
        is_foreign in any::<bool>(),
        is_at_site in any::<bool>(),
    ) {
        let receipts = if has_receipt { vec![receipt_of(&locks, &registry)] } else { vec![] };
        let content = SiteContent::new(&locks, &receipts, &registry).unwrap();
        let mut name = locked_image(&asked).reference;
        if is_foreign {
            name = name.with_digest(digest(FOREIGN, asked.content));
        }
        let is_meant = |image: &LockedImage| match name.digest() {
            Some(digest) => {
                image.digest == *digest
                    || image.manifests.iter().any(|one| one.digest == *digest)
            }
            None => image.reference.tag() == name.tag(),
        };
        let is_locked = images(&locks)
            .any(|image| image.reference.name() == name.name() && is_meant(image));
        let shown = if is_at_site { registry.site_reference(&name).unwrap() } else { name.clone() };
        prop_assert_eq!(content.is_locked(&shown), is_locked, "{}", shown);
        // A name beside the site's prefix is none of the site.
        let beside = shown.to_string().replace("internal:5000/ai/", "internal:5000/aix/");
        prop_assert!(!is_at_site || !content.is_locked(&beside.parse().unwrap()));
    }

    #[test]
    fn what_is_attached_is_found_by_its_digest_and_starts_nowhere((locks, registry) in locks()) {
        let content = SiteContent::new(&locks, &[], &registry).unwrap();
        for image in images(&locks) {
            for attached in &image.attached {
                let found = content.find_digest(&attached.manifest.digest);
                prop_assert!(!found.is_empty() && found.iter().all(|(root, _)| root.is_attached()));
                prop_assert!(!content.is_locked(&attached.reference));
            }
            for attestation in image.manifests.iter().skip(1) {
                let found = content.find_digest(&attestation.digest);
                prop_assert!(found.iter().any(|(_, role)| *role == DigestRole::Attestation));
                let name = image.reference.with_digest(attestation.digest);
                prop_assert!(!content.is_locked(&name));
                prop_assert!(!content.is_locked(&registry.site_reference(&name).unwrap()));
            }
        }
    }

    #[test]
    fn a_rewritten_index_is_found_by_both_digests((locks, registry) in locks()) {
        let receipt = receipt_of(&locks, &registry);
        let content = SiteContent::new(&locks, std::slice::from_ref(&receipt), &registry).unwrap();
        for held in &receipt.roots {
            let rewritten = held.rewritten.unwrap();
            for digest in [held.digest, rewritten] {
                let name = held.name.with_digest(digest);
                let found = content.find(&registry.site_reference(&name).unwrap());
                prop_assert!(found.iter().any(|root| root.digest() == held.digest));
                prop_assert!(found.iter().all(|root| root.site_digest() == rewritten));
            }
        }
    }

    #[test]
    fn the_order_of_locks_does_not_matter((locks, registry) in locks()) {
        let receipt = [receipt_of(&locks, &registry)];
        let mut turned = locks.clone();
        turned.reverse();
        for lock in &mut turned {
            lock.images.reverse();
        }
        for receipts in [&[][..], &receipt] {
            let one = SiteContent::new(&locks, receipts, &registry).unwrap();
            let other = SiteContent::new(&turned, receipts, &registry).unwrap();
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn all_that_starts_is_listed_once((locks, registry) in locks()) {
        let content = SiteContent::new(&locks, &[], &registry).unwrap();
        let listed = content.startable_repositories();
        let names: BTreeSet<String> =
            images(&locks).map(|image| image.reference.name()).collect();
        let listed_names: BTreeSet<String> = listed.keys().map(|name| (*name).to_owned()).collect();
        prop_assert_eq!(listed_names, names);
        prop_assert_eq!(listed.values().map(Vec::len).sum::<usize>(), content.images().count());
    }
}
