//! The example bytes under docs/formats/vectors: what is written today is what was written then.
//! `GANTRY_BLESS=1 cargo test -p gantry-bundle --test vectors` writes them anew, for a format that
//! was changed before its release.
#![allow(clippy::unwrap_used)]

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};

use gantry_bundle::{Bundle, BundleContents, BundleFileSize, BundleName, Recheck};
use store::progress::SilentProgress;
use store::{Source as _, Store};
use types::{ByteSize, Descriptor, Root, RootKind, media_type};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/vectors/bundle")
}

/// One image of one platform, whose layer goes on from the first bundle file to the second.
fn pack_example(out: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let _session = store.open_session().unwrap();
    let put = |kind: &str, bytes: &[u8]| {
        Descriptor::new(kind, store.put_bytes(bytes).unwrap(), bytes.len() as u64)
    };
    let config = put(media_type::OCI_CONFIG, br#"{"architecture":"amd64","os":"linux"}"#);
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
fn the_example_is_packed_to_the_bytes_of_the_vectors() {
    if std::env::var_os("GANTRY_BLESS").is_some() {
        pack_example(&vectors());
    }
    let out = tempfile::tempdir().unwrap();

    pack_example(out.path());

    for name in ["example-1.0001.gantry", "example-1.0002.gantry", "example-1.gantry.json"] {
        let (now, then) = (fs::read(out.path().join(name)), fs::read(vectors().join(name)));
        assert!(now.unwrap() == then.unwrap(), "{name} is not what it was");
    }
}

#[test]
fn the_vectors_are_read() {
    let paths = common::volumes(&vectors());

    let bundle = Bundle::open(&paths).unwrap();

    assert_eq!(bundle.roots().unwrap()[0].name.to_string(), "docker.io/library/example:1");
    for path in &paths {
        assert!(gantry_bundle::verify_file(path, &SilentProgress).unwrap().is_whole());
    }
}
