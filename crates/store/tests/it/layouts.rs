//! `index.json`: stable where Gantry wrote it, respected where others did.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::fs;
use std::num::NonZeroUsize;
#[cfg(target_os = "linux")]
use std::path::Path;
use std::time::Instant;

use crate::common::image;
use gantry_store::hash::sha256;
use gantry_store::progress::SilentProgress;
use gantry_store::{
    DamagePolicy, Error, Sink as _, Source as _, Store, find_closure, layout, read_blob,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use types::{Manifest, Root};

#[test]
fn the_order_of_publishing_does_not_change_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::open(folder.path().join("first")).unwrap();
    let second = Store::open(folder.path().join("second")).unwrap();
    let names = ["docker.io/library/b:1", "docker.io/library/a:2", "ghcr.io/c/c:3"];
    let roots = |store: &Store| -> Vec<Root> {
        names.iter().map(|name| image(store, name, &[name.as_bytes()])).collect()
    };

    first.publish_roots(&roots(&first)).unwrap();
    for root in roots(&second).into_iter().rev() {
        second.publish_roots(&[root]).unwrap();
    }

    let bytes = fs::read(index_of(&first)).unwrap();
    assert_eq!(bytes, fs::read(index_of(&second)).unwrap());
    assert_eq!(bytes, layout::index_bytes(&first.roots().unwrap()));
}

#[test]
fn a_name_that_is_published_again_moves() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let old = image(&store, "ghcr.io/a/b:1", &[b"old"]);
    let new = image(&store, "ghcr.io/a/b:1", &[b"new"]);
    store.publish_roots(std::slice::from_ref(&old)).unwrap();

    store.publish_roots(&[old, new.clone()]).unwrap();

    assert_eq!(store.roots().unwrap(), [new]);
}

#[test]
fn the_forms_that_other_tools_write_are_read_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("My Layout");
    let made = Store::open(&path).unwrap();
    let digest = |text: &str| {
        serde_json::to_value(image(&made, "x.y/z:1", &[text.as_bytes()]).descriptor).unwrap()
    };
    let entry = |annotations: Value, text: &str| {
        let mut entry = digest(text);
        entry["annotations"] = annotations;
        entry["urls"] = json!(["kept as it is"]);
        entry
    };
    let ref_name = "org.opencontainers.image.ref.name";
    let unnamed = entry(Value::Null, "nothing");
    let foreign = json!({
        "schemaVersion": 2,
        "annotations": {"whose": "somebody's"},
        "manifests": [
            // regclient, oras: a bare tag. hauler: no host, the full name for containerd.
            entry(json!({ref_name: "v1.2"}), "bare"),
            entry(json!({
                ref_name: "library/hauler:1",
                "io.containerd.image.name": "index.docker.io/library/hauler:1",
                "kind": "dev.hauler/image",
            }), "hauler"),
            entry(json!({ref_name: "ghcr.io/full/name:3"}), "crane, zarf, skopeo"),
            unnamed.clone(),
            {"mediaType": "x", "digest": "sha512:00", "size": 3},
        ],
    });
    fs::write(index_of(&made), foreign.to_string()).unwrap();
    fs::remove_dir_all(path.join("gantry")).unwrap();

    let store = Store::open_existing(&path).unwrap();
    let names: Vec<String> = store.roots().unwrap().iter().map(|r| r.name.to_string()).collect();
    let unnamed = format!("localhost/my-layout@{}", unnamed["digest"].as_str().unwrap());
    assert_eq!(
        names,
        [
            "docker.io/library/hauler:1",
            "ghcr.io/full/name:3",
            unnamed.as_str(),
            "localhost/my-layout:v1.2",
        ]
    );
    for root in store.roots().unwrap() {
        find_closure(&store, &root).unwrap();
    }
    assert!(!path.join("gantry").exists(), "reading writes nothing");

    let ours = image(&store, "ghcr.io/our/own:1", &[b"ours"]);
    store.publish_roots(&[ours]).unwrap();
    let after: Value = serde_json::from_slice(&fs::read(index_of(&store)).unwrap()).unwrap();
    assert_eq!(after["annotations"], foreign["annotations"]);
    let entries = after["manifests"].as_array().unwrap();
    for kept in foreign["manifests"].as_array().unwrap() {
        assert!(entries.contains(kept), "{kept} is lost");
    }
    assert_eq!(entries.len(), 6);

    store.unpublish_roots(&["localhost/my-layout:v1.2".parse().unwrap()]).unwrap();
    assert_eq!(store.roots().unwrap().len(), 4);
}

proptest! {
    #[test]
    fn an_index_of_any_form_is_read_or_refused_and_what_is_read_is_kept(
        entry in json_value(),
        annotations in json_value(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let named = json!({"digest": digest, "size": 1, "annotations": annotations});
        let index = json!({"schemaVersion": 2, "manifests": [entry, named], "more": 1});
        fs::write(index_of(&store), index.to_string()).unwrap();
        store.roots().unwrap();
        let ours = image(&store, "ghcr.io/a/b:1", &[b"layer"]);

        store.publish_roots(&[ours]).unwrap();

        let after: Value = serde_json::from_slice(&fs::read(index_of(&store)).unwrap()).unwrap();
        let entries = after["manifests"].as_array().unwrap();
        prop_assert!(entries.contains(&entry) && entries.contains(&named));
        prop_assert_eq!(&after["more"], 1);
    }
}

/// Any JSON, with keys and texts that mean something in an index.
fn json_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        ".*".boxed(),
        Just("org.opencontainers.image.ref.name".to_owned()).boxed(),
        Just("io.containerd.image.name".to_owned()).boxed(),
        Just("annotations".to_owned()).boxed(),
        Just("digest".to_owned()).boxed(),
        Just("a/b@sha256:00".to_owned()).boxed(),
        Just("v1".to_owned()).boxed(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

#[test]
fn a_name_that_is_not_there_cannot_be_taken_away_and_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let root = image(&store, "ghcr.io/a/b:1", &[b"layer"]);
    store.publish_roots(std::slice::from_ref(&root)).unwrap();

    let names = [root.name.clone(), "ghcr.io/not/there:1".parse().unwrap()];
    let error = store.unpublish_roots(&names).unwrap_err();

    assert!(error.to_string().contains("has nothing named ghcr.io/not/there:1"), "{error}");
    assert_eq!(store.roots().unwrap(), [root]);
}

#[test]
fn what_is_no_layout_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let reason = |result: Result<Store, Error>| match result {
        Err(error @ Error::NotAStore { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };

    assert!(reason(Store::open_existing(path.join("absent"))).contains("no file oci-layout"));
    assert!(reason(Store::open_existing(path)).contains("no file oci-layout"));
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(reason(Store::open(path)).contains("version is 2.0.0"));
    fs::write(path.join("oci-layout"), "[]").unwrap();
    assert!(reason(Store::open(path)).contains("has no version"));
}

#[test]
fn a_broken_index_is_told_with_its_place_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let root = image(&store, "ghcr.io/a/b:1", &[b"layer"]);
    for wrong in [
        "{\n \"schemaVersion\": 2,",
        "[]",
        "{\"schemaVersion\":1}",
        "{\"schemaVersion\":2,\"manifests\":{}}",
    ] {
        fs::write(index_of(&store), wrong).unwrap();

        let error = store.roots().unwrap_err().to_string();
        assert!(error.contains("index.json") && error.contains("not a valid OCI index"), "{error}");
        assert!(store.publish_roots(std::slice::from_ref(&root)).is_err());
        assert_eq!(fs::read_to_string(index_of(&store)).unwrap(), wrong);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_on_read_only_media_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let root = image(&store, "ghcr.io/a/b:1", &[b"layer"]);
    store.publish_roots(std::slice::from_ref(&root)).unwrap();
    let _mount = ReadOnly::mount(folder.path());

    let store = Store::open_existing(folder.path()).unwrap();
    let _session = store.open_session().unwrap();

    assert_eq!(store.roots().unwrap(), std::slice::from_ref(&root));
    assert!(store.blob_size(&root.descriptor.digest).unwrap().is_some());
    let threads = std::num::NonZeroUsize::MIN;
    let progress = gantry_store::progress::SilentProgress;
    assert!(
        store.verify(gantry_store::DamagePolicy::Keep, threads, &progress).unwrap().is_intact()
    );
    let error = store.put_bytes(b"new").unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
}

/// A folder mounted on itself, read-only; unmounted when dropped.
#[cfg(target_os = "linux")]
struct ReadOnly<'a>(&'a Path);

#[cfg(target_os = "linux")]
impl<'a> ReadOnly<'a> {
    fn mount(path: &'a Path) -> Self {
        let bound = run("mount", &["--bind"], &[path, path]);
        assert!(bound, "a folder must be mounted: run the tests as root");
        let mount = Self(path);
        assert!(run("mount", &["-o", "remount,bind,ro"], &[path]));
        mount
    }
}

#[cfg(target_os = "linux")]
impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        run("umount", &["--lazy"], &[self.0]);
    }
}

#[cfg(target_os = "linux")]
fn run(program: &str, flags: &[&str], paths: &[&Path]) -> bool {
    std::process::Command::new(program).args(flags).args(paths).status().unwrap().success()
}

fn index_of(store: &Store) -> std::path::PathBuf {
    store.path().join("index.json")
}

/// Someone who can write to a store's folder must not be able to have other files read or written.
#[test]
fn a_link_that_somebody_planted_is_neither_read_nor_written_through() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let root = image(&store, "ghcr.io/a/b:1", &[b"layer!"]);
    store.publish_roots(std::slice::from_ref(&root)).unwrap();
    let layer = sha256(b"layer!");
    fs::remove_file(store.blob_path(&layer)).unwrap();
    symlink(&secret, store.blob_path(&layer)).unwrap();
    let partial = sha256(b"secret, longer");
    symlink(&secret, store.path().join("gantry/partial").join(partial.hex())).unwrap();

    let read = store.open_blob(&layer, 0..6).err().unwrap().to_string();
    let sized = store.blob_size(&layer).unwrap_err().to_string();
    let written = store.open_writer(&partial, 14).unwrap_err().to_string();

    for error in [read, sized, written] {
        assert!(error.contains("is a symbolic link"), "{error}");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    let found = store.verify(DamagePolicy::Keep, NonZeroUsize::MIN, &SilentProgress).unwrap();
    assert!(!found.is_intact());
    // The folder of the blobs as a whole.
    let moved = folder.path().join("elsewhere");
    fs::rename(store.path().join("blobs"), &moved).unwrap();
    symlink(&moved, store.path().join("blobs")).unwrap();
    let error = store.put_bytes(b"new").unwrap_err().to_string();
    assert!(error.contains("is a symbolic link"), "{error}");
}

/// 64 MiB of empty objects took 6.8 GB before their number was bounded.
#[test]
fn an_index_of_empty_objects_is_refused_before_it_takes_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{}{{}}]}}"#, "{},".repeat(2_000_000));
    fs::write(index_of(&store), text).unwrap();

    let error = Store::open_existing(folder.path()).unwrap().roots().unwrap_err().to_string();

    assert!(error.contains("more than 2000000 keys and values"), "{error}");
}

#[test]
fn names_that_are_published_one_by_one_are_written_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let roots: Vec<Root> =
        (0..200).map(|n| image(&store, &format!("ghcr.io/a/b:{n}"), &[b"layer"])).collect();
    let before = Instant::now();
    let mut versions = HashSet::new();

    for root in &roots {
        let bytes = read_blob(&store, &root.descriptor.digest, Manifest::MAX_SIZE).unwrap();
        futures::executor::block_on(store.publish_root(root, bytes)).unwrap();
        versions.insert(fs::metadata(index_of(&store)).unwrap().modified().unwrap());
    }
    futures::executor::block_on(store.flush_names()).unwrap();

    let seconds = before.elapsed().as_secs() as usize;
    assert!(versions.len() <= 2 + seconds, "the index was written {} times", versions.len());
    // By another process that opens it now, and by this one, which had read it before.
    for reader in [&store, &Store::open_existing(folder.path()).unwrap()] {
        assert_eq!(reader.roots().unwrap().len(), 200);
        assert!(reader.names_root(&roots[7].name, roots[7].descriptor.digest).unwrap());
        assert!(!reader.names_root(&roots[7].name, sha256(b"another")).unwrap());
    }
}

#[test]
fn a_change_by_another_is_seen_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let other = Store::open_existing(folder.path()).unwrap();
    // Names and contents of one length, so that only the times and the inode of the index tell.
    for n in 100..200 {
        let root = image(&other, &format!("ghcr.io/a/b:{}", n % 2), &[format!("{n}").as_bytes()]);
        other.publish_roots(std::slice::from_ref(&root)).unwrap();
        assert!(store.names_root(&root.name, root.descriptor.digest).unwrap(), "change {n}");
    }
}
