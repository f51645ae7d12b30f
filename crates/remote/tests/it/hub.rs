//! Models from the Hub, on a small real Hub: a lock has what `hf download` downloads, and error
//! messages say what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::world;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use gantry_remote::fetch::{self, FetchJob};
use gantry_remote::hub::{HubClient, ModelFileFilter};
use gantry_remote::model::LockedSnapshot;
use gantry_remote::{Error, local};
use net::Client;
use store::progress::{Progress, SilentProgress};
use store::{Source as _, Store};
use testkit::MINILM;
use testkit::faults::{FaultRepeats, WireFault};
use types::{Manifest, ModelId, annotation, media_type};

fn silent() -> Arc<dyn Progress> {
    Arc::new(SilentProgress)
}

fn id(text: &str) -> ModelId {
    text.parse().unwrap()
}

fn hub(server: &testkit::TestHub, token: Option<&str>) -> HubClient {
    let client = Client::builder().build().unwrap();
    HubClient::at_address(&client, &server.url(), token).unwrap()
}

fn has_extension(path: &str, extensions: &[&str]) -> bool {
    Path::new(path).extension().is_some_and(|own| extensions.iter().any(|one| own == *one))
}

async fn snapshot(
    hub: &HubClient,
    name: &str,
    revision: &str,
    store: &Store,
) -> gantry_remote::Result<LockedSnapshot> {
    hub.take_snapshot(
        &id(name),
        revision,
        &ModelFileFilter::accept_all(),
        &HashMap::new(),
        store,
        &silent(),
    )
    .await
}

async fn fetch_all(
    hub: &HubClient,
    snapshot: &LockedSnapshot,
    store: &Store,
) -> fetch::FetchReport {
    let jobs = snapshot
        .files
        .iter()
        .map(|file| FetchJob {
            blob: types::lock::Blob { digest: file.digest, size: file.size },
            name: file.path.clone(),
            request: hub.file_request(&snapshot.id, &snapshot.commit, &file.path).unwrap(),
            alternatives: vec![],
        })
        .collect();
    let client = Client::builder().build().unwrap();
    fetch::fetch_blobs(&client, store, jobs, silent()).await.unwrap()
}

#[tokio::test]
async fn the_real_minilm_comes_whole_and_its_manifest_tells_all_that_the_hub_tells() {
    let server = testkit::TestHub::builder().minilm().lfs_redirects().start();
    let hub = hub(&server, None);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();

    let found = snapshot(&hub, MINILM, "main", &store).await.unwrap();
    let report = fetch_all(&hub, &found, &store).await;

    assert!(report.failed.is_empty(), "{:?}", report.failed);
    let documents = found.build_artifact().unwrap();
    store.publish_roots(std::slice::from_ref(&documents.root)).unwrap();
    store::find_closure(&store, &documents.root).unwrap();
    let manifest = Manifest::parse("manifest", &documents.manifest).unwrap();
    assert_eq!(manifest.artifact_type.as_deref(), Some(media_type::MODEL_MANIFEST));
    assert_eq!(manifest.annotations[annotation::MODEL_ID], MINILM);
    let model = testkit::tools::model_folder();
    for layer in &manifest.layers {
        let path = &layer.annotations[annotation::MODEL_FILEPATH];
        let bytes = fs::read(model.join(path)).unwrap();
        assert_eq!(store::hash::sha256(&bytes), layer.digest, "{path}");
        let is_lfs = layer.annotations.contains_key(annotation::LFS);
        assert_eq!(is_lfs, has_extension(path, &["safetensors", "bin", "onnx"]), "{path}");
        if !is_lfs {
            let git = world::run("git", &["hash-object", &world::text(&model.join(path))]);
            assert_eq!(layer.annotations[annotation::GIT_ID], git.trim(), "{path}");
        }
    }
    let again = snapshot(&hub, MINILM, "main", &store).await.unwrap();
    assert_eq!(again.build_artifact().unwrap().manifest, documents.manifest);
}

#[tokio::test]
async fn files_that_an_earlier_lock_knows_are_not_asked_for_again() {
    let server = testkit::TestHub::start();
    let hub = hub(&server, None);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let first = snapshot(&hub, MINILM, "main", &store).await.unwrap();
    let asked = server.read_log().lines().filter(|line| line.contains("/resolve/")).count();
    let known = first
        .files
        .iter()
        .map(|file| (file.git.clone(), types::lock::Blob { digest: file.digest, size: file.size }))
        .collect();

    let again = hub
        .take_snapshot(
            &id(MINILM),
            "main",
            &ModelFileFilter::accept_all(),
            &known,
            &store,
            &silent(),
        )
        .await
        .unwrap();

    assert_eq!(again, first);
    assert_eq!(server.read_log().lines().filter(|line| line.contains("/resolve/")).count(), asked);
}

#[tokio::test]
async fn what_a_failed_lock_has_looked_up_is_not_asked_for_again() {
    let server = testkit::TestHub::start();
    let faults = testkit::FaultProxy::in_front_of(&server.url());
    let client = Client::builder().retry(net::RetryPolicy { attempts: 1, ..Default::default() });
    let client = client.build().unwrap();
    let hub = HubClient::at_address(&client, &faults.url(), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    // The last of the small files, so that others are there before.
    let refused = "/resolve/main/vocab.txt".replace("main", &commit_of_minilm());
    let failure = WireFault::Status { code: 500, retry_after: None };
    faults.inject(&refused, failure, FaultRepeats::Always);
    let asked = || -> Vec<String> {
        let all = faults.requests().into_iter().map(|one| one.path);
        all.filter(|path| path.contains("/resolve/")).collect()
    };

    snapshot(&hub, MINILM, "main", &store).await.unwrap_err();
    let before = asked();
    faults.remove_faults();
    faults.forget_requests();
    let found = snapshot(&hub, MINILM, "main", &store).await.unwrap();

    let again: Vec<String> = asked().into_iter().filter(|path| before.contains(path)).collect();
    assert!(before.len() > 1, "{before:?}");
    assert_eq!(again.len(), 1, "only what failed: {again:?} of {before:?}");
    assert!(again[0].ends_with("/vocab.txt"), "{again:?}");
    // A file that the store has lost is downloaded again.
    let config = found.files.iter().find(|file| file.path == "config.json").unwrap();
    fs::remove_file(store.blob_path(&config.digest)).unwrap();
    faults.forget_requests();
    assert_eq!(snapshot(&hub, MINILM, "main", &store).await.unwrap(), found);
    let again = asked();
    assert!(again.len() == 1 && again[0].ends_with("/config.json"), "{again:?}");
}

fn commit_of_minilm() -> String {
    testkit::TestHub::commit_of(MINILM, &testkit::tools::model_folder())
}

#[tokio::test]
async fn a_cache_that_huggingface_hub_made_gives_what_the_hub_gives() {
    let server = testkit::TestHub::start();
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let python = testkit::tools::hub_python("2.4.0");
    let status = std::process::Command::new(python)
        .args(["-c", &format!("import huggingface_hub as h; h.snapshot_download({MINILM:?})")])
        .env("HF_HOME", &home)
        .env("HF_ENDPOINT", server.url())
        .status()
        .unwrap();
    assert!(status.success());
    let store = Store::open(folder.path().join("store")).unwrap();
    let from_hub = snapshot(&hub(&server, None), MINILM, "main", &store).await.unwrap();
    // As `cp -rL` and copies to S3 leave it: files in place of links, no blobs.
    let flat = folder.path().join("flat");
    world::run("cp", &["-rL", &world::text(&home.join("hub")), &world::text(&flat)]);
    world::run("sh", &["-c", &format!("rm -r {}/models--*/blobs", flat.display())]);

    for place in [home.clone(), home.join("hub"), flat] {
        let fresh = Store::open(
            folder.path().join(format!("store-{}", place.file_name().unwrap().to_string_lossy())),
        )
        .unwrap();
        let cached = local::import_model_from_cache(
            &place,
            &id(MINILM),
            "main",
            &ModelFileFilter::accept_all(),
            &fresh,
            &SilentProgress,
        )
        .unwrap();
        assert_eq!(
            cached.build_artifact().unwrap().manifest,
            from_hub.build_artifact().unwrap().manifest,
            "{}",
            place.display()
        );
        store::find_closure(&fresh, &cached.build_artifact().unwrap().root).unwrap();
    }
    let by_commit = local::import_model_from_cache(
        &home,
        &id(MINILM),
        from_hub.commit.as_str(),
        &ModelFileFilter::accept_all(),
        &store,
        &SilentProgress,
    )
    .unwrap();
    assert_eq!(by_commit.commit, from_hub.commit);
    for (model, revision, said) in [("org/absent", "main", MINILM), (MINILM, "absent", "main")] {
        let error = local::import_model_from_cache(
            &home,
            &id(model),
            revision,
            &ModelFileFilter::accept_all(),
            &store,
            &SilentProgress,
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains(said) && error.contains("absent"), "{error}");
    }
    damage(&home);
    let fresh = Store::open(folder.path().join("damaged")).unwrap();
    let error = local::import_model_from_cache(
        &home,
        &id(MINILM),
        "main",
        &ModelFileFilter::accept_all(),
        &fresh,
        &SilentProgress,
    )
    .unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

/// Flips a bit of the largest blob of a cache.
fn damage(home: &Path) {
    let blobs =
        home.join("hub").join(format!("models--{}", MINILM.replace('/', "--"))).join("blobs");
    let largest = fs::read_dir(blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    bytes[1000] ^= 1;
    fs::write(&largest, bytes).unwrap();
}

#[tokio::test]
async fn a_mirror_that_gives_no_ids_in_its_info_is_asked_for_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let write = |path: String, text: String| {
        let path = folder.path().join("site").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let info = serde_json::json!({"sha": commit, "siblings": [{"rfilename": "config.json"}]});
    write("api/models/org/plain/revision/main".into(), info.to_string());
    // printf '{}' | git hash-object --stdin
    let git = "9e26dfeeb6e641a33dae4961196235bdb965b21b";
    let tree = serde_json::json!([
        {"type": "directory", "path": "a", "oid": git, "size": 0},
        {"type": "file", "path": "a/config.json", "oid": git, "size": 2},
        {"type": "file", "path": "model.bin", "oid": git, "size": 7,
         "lfs": {"oid": "00".repeat(32), "size": 7, "pointerSize": 130}},
    ]);
    write(format!("api/models/org/plain/tree/{commit}"), tree.to_string());
    write(format!("org/plain/resolve/{commit}/a/config.json"), "{}".into());
    let web = world::web::Web::serve(&folder.path().join("site"));
    let client = Client::builder().build().unwrap();
    let hub = HubClient::at_address(&client, &web.url(""), None).unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();

    let found = snapshot(&hub, "org/plain", "main", &store).await.unwrap();

    let paths: Vec<_> = found.files.iter().map(|file| (file.path.as_str(), file.lfs)).collect();
    assert_eq!(paths, [("a/config.json", false), ("model.bin", true)]);
    write(format!("org/plain/resolve/{commit}/a/config.json"), "[]".into());
    let fresh = Store::open(folder.path().join("fresh")).unwrap();
    let error = snapshot(&hub, "org/plain", "main", &fresh).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn only_what_the_globs_take_is_carried() {
    let server = testkit::TestHub::start();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let filter =
        ModelFileFilter::new(&["*.json".into(), "*.safetensors".into()], &["1_Pooling/*".into()])
            .unwrap();

    let found = hub(&server, None)
        .take_snapshot(&id(MINILM), "v1", &filter, &HashMap::new(), &store, &silent())
        .await
        .unwrap();

    assert!(found.files.iter().any(|file| file.path == "config.json"));
    assert!(
        found
            .files
            .iter()
            .all(|file| !file.path.starts_with("1_Pooling/") && !has_extension(&file.path, &["md"]))
    );
    assert_eq!(found.revision, "v1");
    let nothing = ModelFileFilter::new(&["*.nothing".into()], &[]).unwrap();
    let error = hub(&server, None)
        .take_snapshot(&id(MINILM), "main", &nothing, &HashMap::new(), &store, &silent())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("include and exclude"), "{error}");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("config.json"), "{}").unwrap();
    let token = format!("hf_{}", "a".repeat(34));
    let server = testkit::TestHub::builder()
        .add_repository("org/open", files.path())
        .add_repository("org/gated", files.path())
        .gated()
        .add_repository("org/private", files.path())
        .private()
        .add_repository("org/disabled", files.path())
        .disabled()
        .token(&token)
        .start();
    let store = Store::open(files.path().join("store")).unwrap();
    let anonymous = hub(&server, None);
    let known = hub(&server, Some(&token));
    let wrong = hub(&server, Some(&format!("hf_{}", "b".repeat(34))));

    for (hub, model, revision, expected) in [
        (&anonymous, "org/absent", "main", "set HF_TOKEN"),
        (&anonymous, "org/private", "main", "set HF_TOKEN"),
        (&anonymous, "org/open", "mian", "similar names: main"),
        (&anonymous, "org/gated", "main", "accept its terms"),
        (&known, "org/disabled", "main", "disabled"),
        (&wrong, "org/open", "main", "hf auth login"),
    ] {
        let error = snapshot(hub, model, revision, &store).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{model}: {error}");
        assert!(error.is_input(), "{model}: {error:?}");
    }
    for model in ["org/gated", "org/private"] {
        assert_eq!(snapshot(&known, model, "main", &store).await.unwrap().files.len(), 1);
    }
}

#[tokio::test]
async fn a_plain_folder_has_the_same_commit_wherever_it_is() {
    let model = testkit::tools::model_folder();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    world::run("cp", &["-r", &world::text(&model), &world::text(&copy)]);
    fs::create_dir_all(copy.join(".cache/huggingface/download")).unwrap();
    fs::write(copy.join(".cache/huggingface/download/x.lock"), "").unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let take = |path: &Path| {
        local::import_model_from_folder(
            path,
            &id("org/own"),
            "main",
            &ModelFileFilter::accept_all(),
            &store,
            &SilentProgress,
        )
        .unwrap()
    };

    let first = take(&model);

    assert_eq!(take(&copy), first);
    store::find_closure(&store, &first.build_artifact().unwrap().root).unwrap();
    fs::write(copy.join("config.json"), "{}").unwrap();
    assert_ne!(take(&copy).commit, first.commit);
    assert!(store.blob_size(&first.files[0].digest).unwrap().is_some());
}
