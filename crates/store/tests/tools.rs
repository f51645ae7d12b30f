//! Other tools read the store as it is. `dev/setup` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Command;

use common::{bytes, image};
use gantry_store::hash::sha256;
use gantry_store::{Store, closure};
use serde_json::Value;

const NAME: &str = "docker.io/library/image:1";

#[test]
fn skopeo_inspects_and_copies_an_image_out_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let root = image(&store, NAME, &[&bytes(1, 100_000), b"another"]);
    let other = image(&store, "ghcr.io/some/other:2", &[b"more"]);
    store.publish(&[root.clone(), other]).unwrap();
    let from = format!("oci:{}:{NAME}", store.path().display());
    let to = folder.path().join("copy");

    let inspected: Value = serde_json::from_str(&skopeo(&["inspect", "--raw", &from])).unwrap();
    assert_eq!(inspected["layers"].as_array().unwrap().len(), 2);
    skopeo(&["copy", "--preserve-digests", &from, &format!("dir:{}", to.display())]);

    for blob in closure(&store, &root).unwrap().blobs {
        let copied = std::fs::read(to.join(blob.digest.hex())).unwrap();
        assert_eq!(sha256(&copied), blob.digest);
    }
    assert_eq!(sha256(&std::fs::read(to.join("manifest.json")).unwrap()), root.descriptor.digest);
}

#[test]
fn a_store_and_skopeo_write_into_one_layout() {
    let folder = tempfile::tempdir().unwrap();
    let from = Store::open(folder.path().join("from")).unwrap();
    let theirs = image(&from, NAME, &[b"theirs"]);
    from.publish(std::slice::from_ref(&theirs)).unwrap();
    let source = format!("oci:{}:{NAME}", from.path().display());
    let path = folder.path().join("both");
    // The layout is skopeo's, then ours, then skopeo's again.
    for tag in ["ghcr.io/full/name:1", "v2"] {
        skopeo(&["copy", &source, &format!("oci:{}:{tag}", path.display())]);
        let store = Store::open(&path).unwrap();
        let ours = image(&store, &format!("ghcr.io/our/own:{}", tag.len()), &[b"ours"]);
        store.publish(&[ours]).unwrap();
    }

    let store = Store::existing(&path).unwrap();
    let names: Vec<String> = store.roots().unwrap().iter().map(|r| r.name.to_string()).collect();

    assert_eq!(
        names,
        ["ghcr.io/full/name:1", "ghcr.io/our/own:19", "ghcr.io/our/own:2", "localhost/both:v2"]
    );
    for root in store.roots().unwrap() {
        closure(&store, &root).unwrap();
    }
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .expect("skopeo is missing: run dev/setup");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
