//! Sources on the local machine: own images, caches, folders, and a file server. Each is locked, carried,
//! and served by the depot.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::story::{self, MODEL, pack, text, user};
use testkit::{Gantry, PodmanService, TestEnvironment, tools};

const TOOLS: &str = "ghcr.io/gantry-examples/tools:1.0";
const REDIS: &str = "docker.io/library/redis:7.0";

#[test]
fn own_images_of_an_archive_a_layout_and_an_engine_are_served_with_what_they_hold() {
    let world = TestEnvironment::fast();
    let images = world.images();
    let engine = PodmanService::start();
    engine.load_image(images, "docker.io/library/busybox:1.35");
    let gantry = world.gantry(story::BINARY);
    images.save_archive(TOOLS, &gantry.folder().join("own.tar"));
    let layout = gantry.folder().join("redis");
    images.copy_layout(REDIS, &layout);
    let (layout, socket) = (text(&layout), text(&engine.socket()));
    gantry.write_file(
        "gantry.yaml",
        &format!(
            "\
version: 1
name: own
images:
  - {{image: \"{TOOLS}\", archive: own.tar}}
  - {{image: \"{REDIS}\", layout: {layout}}}
  - {{image: \"docker.io/library/busybox:1.35\", docker: \"unix://{socket}\"}}
"
        ),
    );

    let media = carried(&gantry);

    let mut depot = gantry.start(["serve", &text(media.path()), "--listen", "127.0.0.1:0"]);
    let host = depot.wait_for_word_after(" on ").trim_start_matches("http://").to_owned();
    // A layout has the image's digest. A docker archive has none, but the config's digest identifies the
    // image.
    let digest = crane(&["digest", &format!("{host}/{REDIS}")]);
    assert_eq!(digest.trim(), images.get(REDIS).digest.to_string());
    for name in [TOOLS, "docker.io/library/busybox:1.35"] {
        let served = format!("{host}/{name}");
        let path = &name[name.find('/').unwrap() + 1..];
        let origin = format!("{}/{path}", world.upstream().host());
        let amd64 = "--platform=linux/amd64";
        let (one, two) = (media.path().join("served.tar"), media.path().join("origin.tar"));
        assert_eq!(
            crane(&["config", amd64, &served]),
            crane(&["config", amd64, &origin]),
            "{name}"
        );
        crane(&["export", amd64, &served, &text(&one)]);
        crane(&["export", amd64, &origin, &text(&two)]);
        assert_eq!(sha256(&one), sha256(&two), "{name}");
    }
}

#[test]
fn models_of_a_cache_and_a_folder_are_served_by_the_hub_door() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    hub_download(&world.hub().url(), MODEL, &gantry.folder().join("hf"));
    let own = gantry.folder().join("own-model");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("config.json"), "{}").unwrap();
    fs::write(own.join("model.safetensors"), vec![7; 12 << 20]).unwrap();
    gantry.write_file(
        "gantry.yaml",
        &format!(
            "\
version: 1
name: models
models:
  - {{hf: {MODEL}, cache: hf}}
  - {{hf: own/model, folder: own-model}}
"
        ),
    );

    let media = carried(&gantry);

    let mut depot = gantry.start(["serve", &text(media.path()), "--listen", "127.0.0.1:0"]);
    let url = depot.wait_for_word_after(" on ");
    let from_cache = hub_download(&url, MODEL, &media.path().join("hf"));
    assert_same(&from_cache, &tools::model_folder());
    let from_folder = hub_download(&url, "own/model", &media.path().join("hf"));
    assert_same(&from_folder, &own);
}

#[test]
fn a_model_baked_into_an_image_is_served_without_the_image() {
    let world = TestEnvironment::fast();
    let image = "ghcr.io/gantry-examples/embedder-baked:1.0";
    let models = format!("models: [{{image: \"{image}\", path: /app/.cache/huggingface}}]");
    let gantry = user(&world, &format!("version: 1\nname: baked\n{models}\n"));

    let media = carried(&gantry);

    let mut depot = gantry.start(["serve", &text(media.path()), "--listen", "127.0.0.1:0"]);
    let served = hub_download(&depot.wait_for_word_after(" on "), MODEL, &media.path().join("hf"));
    // The image has the tokenizer and the configurations, not the weights.
    for file in ["config.json", "tokenizer.json", "1_Pooling/config.json"] {
        let original = fs::read(tools::model_folder().join(file)).unwrap();
        assert!(fs::read(served.join(file)).unwrap() == original, "{file}");
    }
    let roots = gantry.run(["inspect", &text(media.path()), "--output", "json"]).assert_success();
    assert!(!roots.stdout.contains(image), "{}", roots.stdout);
}

#[test]
fn an_ollama_folder_a_url_and_files_arrive_as_they_were() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    let weights = ollama_folder(&gantry.folder().join("ollama"));
    fs::create_dir(gantry.folder().join("web")).unwrap();
    fs::write(gantry.folder().join("web/model.gguf"), vec![3; 5 << 20]).unwrap();
    gantry.write_file("docs/runbook.pdf", "read me");
    let web = story::Web::serve(&gantry.folder().join("web"));
    let sum = sha256(&gantry.folder().join("web/model.gguf"));
    let input = |sum: &str| {
        format!(
            "\
version: 1
name: odds
models:
  - {{ollama: \"tiny:3b\", folder: ollama}}
  - {{url: \"{}/model.gguf\", sha256: {sum}}}
files: [docs/runbook.pdf]
",
            web.url()
        )
    };
    gantry.write_file("gantry.yaml", &input(&"0".repeat(64)));
    // A given SHA-256 is not verified by `lock`, so nothing has to be downloaded for it.
    gantry.run(["lock"]).assert_success();
    let lie = gantry.run(["fetch"]).assert_exit_code(3);
    assert!(lie.stderr.contains("model.gguf"), "{}", lie.stderr);
    gantry.write_file("gantry.yaml", &input(&sum));

    let media = carried(&gantry);

    let target = media.path().join("store");
    gantry.run(["load", &text(media.path()), "--to", &text(&target)]).assert_success();
    for digest in [weights, sum, sha256(&gantry.folder().join("docs/runbook.pdf"))] {
        assert_eq!(sha256(&target.join("blobs/sha256").join(&digest)), digest);
    }
    let rows = gantry
        .with_store(&target)
        .run(["store", "ls", "--output", "json"])
        .assert_success()
        .parse_json()
        .to_string();
    for name in ["tiny:3b", "model.gguf", "runbook.pdf"] {
        assert!(rows.contains(name), "{name}: {rows}");
    }
}

#[test]
fn what_changed_on_the_machine_since_the_lock_is_noticed_by_the_fetch() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, "version: 1\nname: files\nfiles: [runbook.pdf]\n");
    gantry.write_file("runbook.pdf", "one");
    gantry.run(["lock"]).assert_success();
    fs::remove_dir_all(gantry.store()).unwrap();
    gantry.write_file("runbook.pdf", "two");

    let changed = gantry.run(["fetch"]).assert_exit_code(3);

    assert!(changed.stderr.contains("gantry lock --upgrade"), "{}", changed.stderr);
    gantry.run(["lock", "--check"]).assert_exit_code(1);
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
}

/// Locks, fetches into an emptied store, packs, and deletes the store; returns the folder of bundle
/// files.
fn carried(gantry: &Gantry) -> tempfile::TempDir {
    gantry.run(["lock"]).assert_success();
    let locked = gantry.read_file("gantry.lock");
    fs::remove_dir_all(gantry.store()).unwrap();
    gantry.run(["fetch"]).assert_success();
    gantry.run(["lock"]).assert_success();
    assert_eq!(gantry.read_file("gantry.lock"), locked, "the same each time");
    let media = tempfile::tempdir().unwrap();
    pack(gantry, media.path(), "8MiB");
    gantry.run(["verify", &text(media.path())]).assert_success();
    fs::remove_dir_all(gantry.store()).unwrap();
    media
}

fn crane(arguments: &[&str]) -> String {
    tools::run_command(tools::tool_command("crane").args(arguments))
}

/// Downloads a snapshot with huggingface_hub and returns its folder.
fn hub_download(endpoint: &str, id: &str, home: &Path) -> PathBuf {
    let script = format!("from huggingface_hub import snapshot_download as d; print(d('{id}'))");
    let mut python = Command::new(tools::main_python());
    python.args(["-c", &script]).env("HF_HOME", home).env("HF_ENDPOINT", endpoint);
    PathBuf::from(tools::run_command(python.env("HF_HUB_DISABLE_TELEMETRY", "1")).trim())
}

fn assert_same(one: &Path, two: &Path) {
    tools::run_command(tools::tool_command("diff").args(["-r"]).args([one, two]));
}

fn sha256(file: &Path) -> String {
    tools::run_command(tools::tool_command("sha256sum").arg(file))[..64].to_owned()
}

/// Writes a models folder in Ollama's layout (manifests/HOST/NAMESPACE/MODEL/TAG, blobs/sha256-HEX), and
/// returns the digest of the weights.
fn ollama_folder(folder: &Path) -> String {
    let blobs = folder.join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let put = |kind: &str, bytes: &[u8]| {
        let file = blobs.join("new");
        fs::write(&file, bytes).unwrap();
        let digest = sha256(&file);
        fs::rename(file, blobs.join(format!("sha256-{digest}"))).unwrap();
        let size = bytes.len();
        (format!(r#"{{"mediaType":"{kind}","digest":"sha256:{digest}","size":{size}}}"#), digest)
    };
    let (config, _) =
        put("application/vnd.docker.container.image.v1+json", br#"{"model_format":"gguf"}"#);
    let (layer, weights) = put("application/vnd.ollama.image.model", &vec![9; 3 << 20]);
    let names = folder.join("manifests/registry.ollama.ai/library/tiny");
    fs::create_dir_all(&names).unwrap();
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    fs::write(
        names.join("3b"),
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{layer}]}}"#
        ),
    )
    .unwrap();
    weights
}
