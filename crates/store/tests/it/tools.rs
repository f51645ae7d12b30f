//! Other tools read the store as it is. `dev/setup` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::common::{bytes, image};
use gantry_store::hash::sha256;
use gantry_store::{Store, find_closure};
use serde_json::Value;

const NAME: &str = "docker.io/library/image:1";

#[test]
fn skopeo_inspects_and_copies_an_image_out_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let root = image(&store, NAME, &[&bytes(1, 100_000), b"another"]);
    let other = image(&store, "ghcr.io/some/other:2", &[b"more"]);
    store.publish_roots(&[root.clone(), other]).unwrap();
    let from = format!("oci:{}:{NAME}", store.path().display());
    let to = folder.path().join("copy");

    let inspected: Value = serde_json::from_str(&skopeo(&["inspect", "--raw", &from])).unwrap();
    assert_eq!(inspected["layers"].as_array().unwrap().len(), 2);
    skopeo(&["copy", "--preserve-digests", &from, &format!("dir:{}", to.display())]);

    for blob in find_closure(&store, &root).unwrap().blobs {
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
    from.publish_roots(std::slice::from_ref(&theirs)).unwrap();
    let source = format!("oci:{}:{NAME}", from.path().display());
    let path = folder.path().join("both");
    // The layout is skopeo's, then ours, then skopeo's again.
    for tag in ["ghcr.io/full/name:1", "v2"] {
        skopeo(&["copy", &source, &format!("oci:{}:{tag}", path.display())]);
        let store = Store::open(&path).unwrap();
        let ours = image(&store, &format!("ghcr.io/our/own:{}", tag.len()), &[b"ours"]);
        store.publish_roots(&[ours]).unwrap();
    }

    let store = Store::open_existing(&path).unwrap();
    let names: Vec<String> = store.roots().unwrap().iter().map(|r| r.name.to_string()).collect();

    assert_eq!(
        names,
        ["ghcr.io/full/name:1", "ghcr.io/our/own:19", "ghcr.io/our/own:2", "localhost/both:v2"]
    );
    for root in store.roots().unwrap() {
        find_closure(&store, &root).unwrap();
    }
}

#[test]
fn crane_pushes_the_whole_store_and_finds_it_valid_in_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let root = image(&store, NAME, &[&bytes(1, 100_000), b"another"]);
    let other = image(&store, "ghcr.io/some/other:2", &[b"more"]);
    store.publish_roots(&[root.clone(), other]).unwrap();
    let registry = Registry::start();
    let target = format!("{}/all:1", registry.host);

    crane(&["push", "--index", store.path().to_str().unwrap(), &target]);

    let pushed: Value = serde_json::from_str(&crane(&["manifest", &target])).unwrap();
    let index = std::fs::read(store.path().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(pushed["manifests"], index["manifests"]);
    for entry in index["manifests"].as_array().unwrap() {
        let pinned = format!("{}/all@{}", registry.host, entry["digest"].as_str().unwrap());
        crane(&["manifest", &pinned]);
    }
}

/// Crane's registry in memory; killed when dropped.
struct Registry {
    host: String,
    process: Child,
    /// Kept open: the registry ends when nobody can read what it logs.
    _log: BufReader<ChildStderr>,
}

impl Registry {
    fn start() -> Self {
        let mut process = Command::new(crane_path())
            .args(["registry", "serve", "--address", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect(MISSING);
        // 2026/01/01 00:00:00 serving on port 12345
        let mut line = String::new();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        log.read_line(&mut line).unwrap();
        let port = line.trim().rsplit(' ').next().unwrap();
        Self { host: format!("127.0.0.1:{port}"), process, _log: log }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const MISSING: &str = "a tool is missing: run dev/setup";

/// Where `dev/setup` puts what is no Debian package.
fn crane_path() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or("/root".into());
    let default = PathBuf::from(home).join(".cache/gantry-dev");
    let cache = std::env::var_os("GANTRY_CACHE").map_or(default, PathBuf::from);
    cache.join("bin/crane")
}

fn crane(arguments: &[&str]) -> String {
    run(Command::new(crane_path()).args(arguments))
}

fn skopeo(arguments: &[&str]) -> String {
    run(Command::new("skopeo").arg("--insecure-policy").args(arguments))
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect(MISSING);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
