//! Models that are part of an image are imported from its file system, and Ollama models from
//! Ollama's folder and registry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::world::web::Web;
use crate::world::{self, Layout, Member};
use gantry_remote::hub::ModelFileFilter;
use gantry_remote::model::{self, LockedSnapshot};
use gantry_remote::{Error, local, ollama};
use net::{Client, Mirrors};
use store::progress::SilentProgress;
use store::{Source as _, Store};
use types::lock;
use types::{Digest, Platform, RootKind};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OLD: &str = "89abcdef0123456789abcdef0123456789abcdef";

fn git_id(bytes: &[u8]) -> String {
    let mut id = store::hash::GitBlobHasher::new(bytes.len() as u64);
    id.update(bytes);
    id.finish().unwrap().to_string()
}

/// An image of these layers, imported into a store.
fn image(folder: &Path, layers: &[&[Member<'_>]]) -> (Store, lock::LockedManifest) {
    let mut layout = Layout::new(folder.join("layout"));
    let manifest = layout.image("amd64", layers);
    layout.name("example.com/model-server:1", manifest);
    let store = Store::open(folder.join("store")).unwrap();
    let reference = "example.com/model-server:1".parse().unwrap();
    let opened = local::LocalImages::open_layout(&layout.path).unwrap();
    let image = opened
        .import_image(&reference, &[Platform::linux_amd64()], &store, &SilentProgress)
        .unwrap();
    (store, image.manifests[0].clone())
}

fn models(
    store: &Store,
    image: &lock::LockedManifest,
    path: &str,
    id: Option<&str>,
) -> gantry_remote::Result<Vec<LockedSnapshot>> {
    let id = id.map(|id| id.parse().unwrap());
    local::import_models_from_image(
        "model-server:1",
        image,
        path,
        id.as_ref(),
        store,
        store,
        &SilentProgress,
    )
}

#[test]
fn a_cache_in_an_image_is_found_through_layers_whiteouts_and_links() {
    let folder = tempfile::tempdir().unwrap();
    let config = br#"{"model_type": "bert"}"#.to_vec();
    let weights = world::noise(7, 200_000);
    let (config_id, weights_id) = (git_id(&config), store::hash::sha256(&weights).hex());
    let base = "data/hf/models--org--Embed";
    let paths: Vec<String> = [
        format!("{base}/blobs/{config_id}"),
        format!("{base}/blobs/{weights_id}"),
        format!("{base}/snapshots/{COMMIT}/config.json"),
        format!("{base}/snapshots/{COMMIT}/onnx/model.onnx"),
        format!("{base}/refs/main"),
        format!("{base}/snapshots/{COMMIT}/old.bin"),
        format!("{base}/snapshots/{COMMIT}/.wh.old.bin"),
        format!("{base}/snapshots/{COMMIT}/copy.json"),
        "data/hf/models--org--Gone/snapshots/x/a".to_owned(),
        "data/hf/.wh.models--org--Gone".to_owned(),
        "app/.cache/huggingface".to_owned(),
    ]
    .into();
    let target = format!("../../blobs/{config_id}");
    let deep_target = format!("../../../blobs/{weights_id}");
    let (store, image) = image(
        folder.path(),
        &[
            &[
                Member::File(&paths[0], config.clone()),
                Member::File(&paths[1], weights.clone()),
                Member::File(&paths[5], vec![1; 10]),
                Member::File(&paths[8], vec![1; 10]),
            ],
            &[
                Member::Symlink(&paths[2], &target),
                Member::Symlink(&paths[3], &deep_target),
                Member::File(&paths[4], COMMIT.as_bytes().to_vec()),
                Member::File(&paths[6], vec![]),
                Member::File(&paths[9], vec![]),
            ],
            &[Member::Hardlink(&paths[7], &paths[0]), Member::Symlink(&paths[10], "/data/hf")],
        ],
    );

    let found = models(&store, &image, "/app/.cache/huggingface", None).unwrap();

    assert_eq!(found.len(), 1);
    let snapshot = &found[0];
    assert_eq!((snapshot.id.as_str(), snapshot.commit.as_str()), ("org/Embed", COMMIT));
    assert_eq!(snapshot.revision, "main");
    let files: BTreeMap<&str, &lock::LockedModelFile> =
        snapshot.files.iter().map(|file| (file.path.as_str(), file)).collect();
    assert_eq!(
        files.keys().copied().collect::<Vec<_>>(),
        ["config.json", "copy.json", "onnx/model.onnx"]
    );
    assert_eq!(files["config.json"].git.as_str(), config_id);
    assert_eq!(files["copy.json"].digest, files["config.json"].digest);
    let lfs = files["onnx/model.onnx"];
    assert!(lfs.lfs && !files["config.json"].lfs);
    assert_eq!(lfs.git, model::lfs_pointer_id(&lfs.digest, lfs.size).unwrap());
    let mut bytes = store.open_blob(&lfs.digest, 0..lfs.size).unwrap();
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut bytes, &mut read).unwrap();
    assert_eq!(read, weights);
    store::find_closure(&store, &snapshot.build_artifact().unwrap().root).unwrap();
    assert_eq!(models(&store, &image, "data/hf/models--org--Embed", None).unwrap(), found);
}

#[test]
fn a_plain_folder_in_an_image_needs_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let (store, image) = image(
        folder.path(),
        &[&[
            Member::File("models/own/config.json", b"{}".to_vec()),
            Member::File("models/own/model.safetensors", world::noise(3, 5000)),
        ]],
    );

    let nameless = models(&store, &image, "/models/own", None).unwrap_err().to_string();
    let named = models(&store, &image, "/models/own", Some("org/own")).unwrap();
    let absent = models(&store, &image, "/models/absent", None).unwrap_err();

    assert!(nameless.contains("give `name: org/name`"), "{nameless}");
    assert_eq!(named[0].files.len(), 2);
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    fs::write(disk.join("config.json"), b"{}").unwrap();
    fs::write(disk.join("model.safetensors"), world::noise(3, 5000)).unwrap();
    let from_disk = local::import_model_from_folder(
        &disk,
        &"org/own".parse().unwrap(),
        "main",
        &ModelFileFilter::accept_all(),
        &store,
        &SilentProgress,
    )
    .unwrap();
    assert_eq!(named[0], from_disk, "the same files have the same commit, in an image too");
    assert!(matches!(absent, Error::NotFound { .. }), "{absent}");
}

#[test]
fn every_snapshot_of_a_cache_without_refs_is_taken_by_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let paths =
        [COMMIT, OLD].map(|commit| format!("hf/hub/models--gpt2/snapshots/{commit}/config.json"));
    let (store, image) = image(
        folder.path(),
        &[&[Member::File(&paths[0], b"{}".to_vec()), Member::File(&paths[1], b"{ }".to_vec())]],
    );

    let found = models(&store, &image, "/hf", None).unwrap();

    let revisions: Vec<_> = found.iter().map(|snapshot| snapshot.revision.as_str()).collect();
    assert_eq!(revisions, [COMMIT, OLD]);
    assert_eq!(found[0].id.as_str(), "gpt2");
}

/// A models folder with one model, in the layout that Ollama writes; returns the manifest's bytes
/// and the digest of the weights.
fn ollama_folder(folder: &Path) -> (Vec<u8>, Digest) {
    let blobs = folder.join("models/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = store::hash::sha256(bytes);
        fs::write(blobs.join(format!("sha256-{}", digest.hex())), bytes).unwrap();
        serde_json::json!({"digest": digest.to_string(), "size": bytes.len()})
    };
    let typed = |mut blob: serde_json::Value, kind: &str| {
        blob["mediaType"] = kind.into();
        blob
    };
    let weights = world::noise(11, 100_000);
    // Whitespace and key order differ from what Gantry would write: the bytes must not change.
    let manifest = serde_json::to_vec_pretty(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": typed(put(br#"{"model_format":"gguf"}"#), "application/vnd.docker.container.image.v1+json"),
        "layers": [
            typed(put(&weights), "application/vnd.ollama.image.model"),
            typed(put(b"{{ .Prompt }}"), "application/vnd.ollama.image.template"),
        ],
    }))
    .unwrap();
    let place = folder.join("models/manifests/registry.ollama.ai/library/tiny");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("3b"), &manifest).unwrap();
    (manifest, store::hash::sha256(&weights))
}

#[test]
fn an_ollama_model_comes_out_of_its_folder_with_its_manifest_verbatim() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, weights) = ollama_folder(folder.path());
    let store = Store::open(folder.path().join("store")).unwrap();
    let take = |place: &Path, name: &str| {
        local::import_model_from_ollama_folder(
            place,
            &name.parse().unwrap(),
            &store,
            &SilentProgress,
        )
    };

    let model = take(&folder.path().join("models"), "tiny:3b").unwrap();

    assert_eq!(model.root.kind, RootKind::Ollama);
    assert_eq!(model.root.name.to_string(), "registry.ollama.ai/library/tiny:3b");
    assert_eq!(store::read_blob(&store, &model.root.descriptor.digest, 1 << 20).unwrap(), manifest);
    assert_eq!(take(folder.path(), "tiny:3b").unwrap(), model, "the parent will do");
    store::find_closure(&store, &model.root).unwrap();
    let error = take(folder.path(), "huge").unwrap_err().to_string();
    assert!(error.contains("huge:latest") && error.contains("tiny:3b"), "{error}");

    let blob = folder.path().join(format!("models/blobs/sha256-{}", weights.hex()));
    let mut bytes = fs::read(&blob).unwrap();
    bytes[5] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let fresh = Store::open(folder.path().join("fresh")).unwrap();
    let name = "tiny:3b".parse().unwrap();
    let error =
        local::import_model_from_ollama_folder(folder.path(), &name, &fresh, &SilentProgress)
            .unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    fs::remove_file(&blob).unwrap();
    assert!(
        local::import_model_from_ollama_folder(folder.path(), &name, &fresh, &SilentProgress)
            .is_err()
    );
}

#[tokio::test]
async fn an_ollama_model_is_looked_up_through_the_mirror() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, _) = ollama_folder(folder.path());
    let site = folder.path().join("site/v2/library/tiny");
    fs::create_dir_all(site.join("manifests")).unwrap();
    fs::write(site.join("manifests/3b"), &manifest).unwrap();
    let web = Web::serve(&folder.path().join("site"));
    let client = Client::builder().build().unwrap();
    let mirrors = Mirrors::new(&BTreeMap::from([("ollama".to_owned(), web.url(""))]), &[]).unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let look_up = |name: &str| {
        ollama::OllamaRegistry::new(&client, &mirrors, &name.parse().unwrap()).unwrap()
    };

    let model = look_up("tiny:3b").look_up_model(&store).await.unwrap();

    assert_eq!(store::read_blob(&store, &model.root.descriptor.digest, 1 << 20).unwrap(), manifest);
    assert_eq!(model.manifest.layers.len(), 2);
    let local = local::import_model_from_ollama_folder(
        folder.path(),
        &"tiny:3b".parse().unwrap(),
        &store,
        &SilentProgress,
    )
    .unwrap();
    assert_eq!(local, model);
    let error = look_up("absent").look_up_model(&store).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}
