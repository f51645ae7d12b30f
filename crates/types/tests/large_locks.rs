//! The largest lock that Gantry promises to handle is read as it was written, and so is any other.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use gantry_types as types;
use proptest::prelude::*;
use types::input::AttachedContent;
use types::lock::{
    Blob, ImageMention, Lock, LockedHubModel, LockedImage, LockedManifest, LockedModel,
    LockedModelFile, LockedRequest, VERSION,
};
use types::{Digest, Platform, media_type};

/// The size of a lock.
#[derive(Debug, Clone, Copy)]
struct LockSize {
    images: u32,
    platforms: u32,
    layers: u32,
    model_files: u32,
}

fn digest(kind: u8, number: u32) -> Digest {
    let mut bytes = [kind; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Digest::Sha256(bytes)
}

fn make_lock(size: LockSize) -> Lock {
    let blob = |kind: u8, number: u32| Blob { digest: digest(kind, number), size: 1 << 20 };
    let platforms = [Platform::linux_amd64(), "linux/arm64".parse().unwrap()];
    let image = |at: u32| {
        let manifests = (0..size.platforms).map(|platform| {
            let number = at * size.platforms + platform;
            LockedManifest {
                digest: digest(1, number),
                size: 1000,
                media_type: media_type::OCI_MANIFEST.into(),
                platform: Some(platforms[platform as usize % 2].clone()),
                config: Some(blob(2, number)),
                layers: (0..size.layers)
                    .map(|layer| blob(3, number * size.layers + layer))
                    .collect(),
                layer_urls: BTreeMap::new(),
            }
        });
        LockedImage {
            reference: format!("registry.example/team-{}/app-{at}:1.{at}", at % 97)
                .parse()
                .unwrap(),
            digest: digest(0, at),
            media_type: media_type::OCI_INDEX.into(),
            size: 1000,
            platforms: platforms.to_vec(),
            from: None,
            indexes: vec![],
            manifests: manifests.collect(),
            attached: vec![],
            attached_content: AttachedContent::Carried,
            seen: vec![ImageMention::of_input()],
        }
    };
    let model = LockedHubModel {
        hf: "org/data".parse().unwrap(),
        revision: "main".into(),
        commit: "ab".repeat(20).parse().unwrap(),
        include: vec![],
        exclude: vec![],
        from: None,
        reference: format!("huggingface.co/org/data:{}", "ab".repeat(20)).parse().unwrap(),
        manifest: blob(5, 0),
        config: blob(5, 1),
        files: (0..size.model_files)
            .map(|at| LockedModelFile {
                path: format!("shards/part-{at:05}.parquet"),
                size: 1 << 20,
                digest: digest(6, at),
                git: format!("{at:040x}").parse().unwrap(),
                lfs: true,
            })
            .collect(),
    };
    let requests = (0..size.images).map(|at| LockedRequest {
        entry: format!("image registry.example/team-{}/app-{at}:1.{at}", at % 97),
        digest: format!("{at:016x}"),
        files: None,
    });
    let mut lock = Lock {
        version: VERSION,
        name: "large".into(),
        platforms: platforms.to_vec(),
        requests: requests.collect(),
        charts: vec![],
        manifests: vec![],
        images: (0..size.images).map(image).collect(),
        models: if size.model_files > 0 { vec![LockedModel::Hub(model)] } else { vec![] },
        files: vec![],
    };
    lock.sort();
    lock
}

fn assert_read_back(size: LockSize) {
    let lock = make_lock(size);
    let text = lock.to_yaml().unwrap();
    let again = Lock::parse("gantry.lock", &text).unwrap();
    assert!(again == lock, "{size:?}");
}

/// Ten thousand images on two platforms with 100,000 layers, one image of 50,000 layers, and a model
/// of 30,000 files.
#[test]
fn the_largest_lock_is_read_as_it_was_written() {
    assert_read_back(LockSize { images: 10_000, platforms: 2, layers: 5, model_files: 0 });
    assert_read_back(LockSize { images: 1, platforms: 1, layers: 50_000, model_files: 0 });
    assert_read_back(LockSize { images: 0, platforms: 0, layers: 0, model_files: 30_000 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_lock_is_read_as_it_was_written(
        images in 0u32..40,
        platforms in 1u32..3,
        layers in 0u32..30,
        model_files in 0u32..60,
    ) {
        assert_read_back(LockSize { images, platforms, layers, model_files });
    }
}

#[test]
fn a_document_beyond_the_limit_is_refused_before_it_is_read() {
    let text = " ".repeat(types::yaml::MAX_OWN_DOCUMENT + 1);
    let error = Lock::parse("gantry.lock", &text).unwrap_err().to_string();
    assert!(error.contains("gantry.lock") && error.contains("split gantry.yaml"), "{error}");
}

#[test]
fn an_own_document_has_no_anchors_that_could_multiply_it() {
    let text = "version: 1\nname: &n a\nplatforms: []\nfiles: []\nimages: [*n, *n]\n";
    assert!(Lock::parse("gantry.lock", text).is_err());
}
