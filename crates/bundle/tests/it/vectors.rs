//! The example bytes under docs/formats/vectors: what is written today is what was written then.
//! `GANTRY_BLESS=1 cargo test -p gantry-bundle --test it vectors` writes them anew, for a format that
//! was changed before its release.
#![allow(clippy::unwrap_used)]

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};

use gantry_bundle::{Bundle, BundleContents, BundleFileSize, BundleName, Recheck};
use store::progress::SilentProgress;
use store::{Source as _, Store};
use testkit::store_suite::add_named;
use types::{ByteSize, DigestAlgorithm, Root, RootKind, media_type};

/// The example whose content is named by this algorithm.
fn vectors(algorithm: DigestAlgorithm) -> PathBuf {
    let name = match algorithm {
        DigestAlgorithm::Sha256 => "bundle",
        DigestAlgorithm::Sha512 => "bundle-sha512",
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/vectors").join(name)
}

/// One image of one platform, whose layer goes on from the first bundle file to the second. Its config
/// is named by its sha256 in either example.
fn pack_example(algorithm: DigestAlgorithm, out: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let _session = store.open_session().unwrap();
    let put = |kind: &str, bytes: &[u8]| add_named(&store, kind, algorithm, bytes);
    let config = br#"{"architecture":"amd64","os":"linux"}"#;
    let config = add_named(&store, media_type::OCI_CONFIG, DigestAlgorithm::Sha256, config);
    let layer: Vec<u8> = b"gantry\n".iter().copied().cycle().take(70_000).collect();
    let layer = put(media_type::OCI_LAYER_TAR, &layer);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        media_type::OCI_MANIFEST,
        serde_json::to_string(&config).unwrap(),
        serde_json::to_string(&layer).unwrap(),
    );
    let manifest = put(media_type::OCI_MANIFEST, manifest.as_bytes());
    let root = Root::new("docker.io/library/example:1".parse().unwrap(), RootKind::Image, manifest);
    store.publish_roots(std::slice::from_ref(&root)).unwrap();
    let contents = BundleContents { roots: vec![root], lock: common::LOCK.to_vec() };
    let naming = BundleName::new("example", "1").unwrap();
    let size = BundleFileSize::Below(ByteSize(64 << 10));
    let plan = gantry_bundle::plan_files(&store, contents, naming, size).unwrap();
    gantry_bundle::pack_to_folder(&store, &plan, out, Recheck::Index, &SilentProgress).unwrap();
}

#[test]
fn the_examples_are_packed_to_the_bytes_of_the_vectors() {
    for algorithm in DigestAlgorithm::ALL {
        if std::env::var_os("GANTRY_BLESS").is_some() {
            pack_example(algorithm, &vectors(algorithm));
        }
        let out = tempfile::tempdir().unwrap();

        pack_example(algorithm, out.path());

        for name in ["example-1.0001.gantry", "example-1.0002.gantry", "example-1.gantry.json"] {
            let then = fs::read(vectors(algorithm).join(name));
            let now = fs::read(out.path().join(name));
            assert!(now.unwrap() == then.unwrap(), "{name} of {algorithm} is not what it was");
        }
    }
}

#[test]
fn the_vectors_are_read() {
    for algorithm in DigestAlgorithm::ALL {
        let paths = common::volumes(&vectors(algorithm));

        let bundle = Bundle::open(&paths).unwrap();

        let root = &bundle.roots().unwrap()[0];
        assert_eq!(root.name.to_string(), "docker.io/library/example:1");
        assert_eq!(root.descriptor.digest.algorithm(), algorithm);
        for path in &paths {
            assert!(gantry_bundle::verify_file(path, &SilentProgress).unwrap().is_whole());
        }
    }
}
