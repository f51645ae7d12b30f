//! `gantry extract`: what was carried comes out as ordinary files, which the usual tools read.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::story::{INPUT, MODEL, alone, chart, fetched, files, pack, text, user};
use testkit::{Gantry, PodmanService, TestEnvironment, tools};

const NGINX: &str = "docker.io/library/nginx:1.22";

/// Extracts into `out`; `more` are names and options.
fn extract(gantry: &Gantry, from: &Path, out: &Path, more: &[&str]) -> testkit::CommandOutput {
    let (from, out) = (text(from), text(out));
    gantry.run(["extract", &from].iter().chain(more).chain(&["-o", &out]))
}

#[test]
fn an_image_is_an_archive_that_engines_and_skopeo_read_in_both_formats() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let folder = tempfile::tempdir().unwrap();
    let media = folder.path().join("media");
    pack(&gantry, &media, "16MiB");
    let out = folder.path().join("out");

    let done = extract(&gantry, &media, &out, &["nginx", "--output", "json"]);
    let done = done.assert_success().parse_json();
    assert_eq!(done["items"][0]["outcome"], "written");
    assert_eq!(done["items"][0]["platform"], "linux/amd64");
    let archive = out.join("nginx-1.22.tar");
    assert_eq!(done["items"][0]["file"], text(&archive));

    let origin = folder.path().join("origin.tar");
    world.images().save_archive(NGINX, &origin);
    let config = |source: &str| {
        let mut skopeo = tools::tool_command("skopeo");
        skopeo.args(["inspect", "--config", "--override-arch=amd64", source]);
        tools::run_command(&mut skopeo)
    };
    let expected = config(&format!("docker-archive:{}", origin.display()));
    for format in ["docker-archive", "oci-archive"] {
        let from = format!("{format}:{}", archive.display());
        assert_eq!(config(&from), expected, "{format}");
        // Copying reads every layer and compares its digests.
        let to = format!("dir:{}", folder.path().join(format).display());
        let mut copy = tools::tool_command("skopeo");
        copy.args(["copy", "--quiet", "--override-arch=amd64", &from, &to]);
        tools::run_command(&mut copy);
    }
    // In the OCI format the image has the digest that it was locked with.
    let digest = world.images().get(NGINX).digest.to_string();
    let raw = tools::run_command(tools::tool_command("tar").args([
        "-xOf",
        &text(&archive),
        "index.json",
    ]));
    assert!(raw.contains(&digest), "{raw}");
    let engine = PodmanService::start();
    let said = engine.load_archive(&archive);
    assert!(said.contains("docker.io/library/nginx:1.22"), "{said}");

    // It is the same again, and is not written again.
    let before = fs::read(&archive).unwrap();
    let again = extract(&gantry, &media, &out, &["nginx:1.22", "--output", "json"]);
    assert_eq!(again.assert_success().parse_json()["items"][0]["outcome"], "present");
    fs::remove_file(&archive).unwrap();
    extract(&gantry, gantry.store(), &out, &[NGINX]).assert_success();
    assert!(fs::read(&archive).unwrap() == before, "from the store it is the same archive");
}

#[test]
fn models_come_out_as_their_own_programs_keep_them() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let out = tempfile::tempdir().unwrap();
    extract(&gantry, gantry.store(), out.path(), &["hf:SENTENCE-transformers/all-minilm-l6-v2"])
        .assert_success();
    let model = out.path().join(MODEL);
    assert_eq!(
        fs::read(model.join("model.safetensors")).unwrap(),
        fs::read(tools::model_folder().join("model.safetensors")).unwrap()
    );
    let names: Vec<PathBuf> =
        fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(names, [out.path().join("sentence-transformers")], "nothing of Gantry's stays");

    // Files of the user in the folder stay, also with --force.
    fs::write(model.join("notes.txt"), "mine").unwrap();
    fs::write(model.join("config.json"), "changed").unwrap();
    let refused = extract(&gantry, gantry.store(), out.path(), &[MODEL]).assert_exit_code(2);
    assert!(
        refused.stderr.contains(MODEL) && refused.stderr.contains("--force"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read_to_string(model.join("config.json")).unwrap(), "changed");
    extract(&gantry, gantry.store(), out.path(), &[MODEL, "--force"]).assert_success();
    assert_ne!(fs::read_to_string(model.join("config.json")).unwrap(), "changed");
    assert_eq!(fs::read_to_string(model.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn charts_files_and_ollama_models_come_out_and_names_may_be_patterns() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file("docs/Run book.pdf", "read me");
    let (_, weights) = write_ollama_model(&gantry.folder().join("ollama"));
    gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: own\ncharts: []\nmodels: [{ollama: 'tiny:3b', folder: ollama}]\nfiles: ['docs/Run book.pdf']\n",
    );
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    let out = home.path().join("out");

    // A dry run writes nothing and says what would be.
    let dry = extract(&gantry, gantry.store(), &out, &["--dry-run", "--output", "json"]);
    let dry = dry.assert_success().parse_json();
    assert_eq!(dry["items"].as_array().unwrap().len(), 2);
    assert!(dry["items"].as_array().unwrap().iter().all(|item| item["outcome"] == "absent"));
    assert!(!out.exists());

    extract(&gantry, gantry.store(), &out, &["run*.pdf", "ollama:tiny:3b"]).assert_success();
    assert_eq!(fs::read_to_string(out.join("Run book.pdf")).unwrap(), "read me");
    let model = out.join("tiny-3b");
    assert!(model.join("manifests/registry.ollama.ai/library/tiny/3b").is_file());
    assert!(model.join("blobs").join(weights.replace(':', "-")).is_file());
    // As Ollama keeps it: it is a source again.
    gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: own\nmodels: [{ollama: 'tiny:3b', folder: out/tiny-3b}]\n",
    );
    fs::rename(&out, gantry.folder().join("out")).unwrap();
    gantry.run(["lock"]).assert_success();

    let wrong = extract(&gantry, gantry.store(), &home.path().join("o"), &["tinny"]);
    let wrong = wrong.assert_exit_code(2);
    assert!(wrong.stderr.contains("did you mean"), "{}", wrong.stderr);
    assert!(!home.path().join("o").exists());
}

#[test]
fn a_chart_is_an_archive_that_helm_installs_from() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, "");
    let shop = chart(gantry.folder());
    gantry.write_file("gantry.yaml", "version: 1\nname: own\ncharts: [{chart: ./shop}]\n");
    // Only the chart: its images are nowhere.
    let locked = gantry.run(["lock"]);
    if locked.code != Some(0) {
        let plain = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
        fs::remove_dir_all(shop.join("templates")).unwrap();
        fs::create_dir(shop.join("templates")).unwrap();
        fs::write(shop.join("templates/c.yaml"), plain).unwrap();
        gantry.run(["lock"]).assert_success();
    }
    gantry.run(["fetch"]).assert_success();
    let out = tempfile::tempdir().unwrap();
    extract(&gantry, gantry.store(), out.path(), &["shop"]).assert_success();
    let archive = fs::read_dir(out.path()).unwrap().next().unwrap().unwrap().path();
    assert!(text(&archive).contains("/shop-") && text(&archive).ends_with(".tgz"), "{archive:?}");
    tools::run_command(tools::tool_command("helm").args(["template", "x", &text(&archive)]));
}

#[test]
fn a_killed_extraction_shows_nothing_half_and_the_next_one_goes_on() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let out = tempfile::tempdir().unwrap();
    let arguments = ["extract", &text(gantry.store()), "-o", &text(out.path())].map(str::to_owned);
    for _ in 0..10 {
        let mut running = gantry.start(&arguments);
        let staged = out.path().join(".gantry-extract");
        let before = files(&staged);
        while files(&staged) == before && running.is_running() {}
        running.kill();
        // Whatever has its name is whole: the dry run finds nothing different.
        let dry = gantry.run(arguments.iter().map(String::as_str).chain([
            "--dry-run",
            "--output",
            "json",
        ]));
        let dry = dry.assert_success().parse_json();
        let is_whole = |item: &serde_json::Value| item["outcome"] != "different";
        assert!(dry["items"].as_array().unwrap().iter().all(is_whole), "{dry}");
    }
    gantry.run(&arguments).assert_success();
    assert!(!out.path().join(".gantry-extract").exists());
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 5);
}

#[test]
fn damaged_content_is_found_while_it_is_written_and_never_shown() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let image = world.images().get(NGINX);
    let raw = fs::read_to_string(gantry.store().join("blobs/sha256").join(image.digest.hex()));
    assert!(raw.is_ok());
    // The largest blob of all belongs to the model or an image: every one is damaged in one byte.
    let folder = gantry.store().join("blobs/sha256");
    let (path, size) = files(&folder).into_iter().max_by_key(|(_, size)| *size).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(size).unwrap() / 2] ^= 1;
    let _ = fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644));
    fs::write(&path, bytes).unwrap();
    let out = tempfile::tempdir().unwrap();
    let failed = extract(&gantry, gantry.store(), out.path(), &[]).assert_exit_code(3);
    assert!(failed.stderr.contains("digest mismatch"), "{}", failed.stderr);
    let dry = extract(&gantry, gantry.store(), out.path(), &["--dry-run", "--output", "json"]);
    let dry = dry.assert_success().parse_json();
    assert!(dry["items"].as_array().unwrap().iter().all(|item| item["outcome"] != "different"));
}

#[test]
fn nothing_is_written_through_a_planted_link() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    gantry.write_file("runbook.pdf", "read me");
    gantry.write_file("gantry.yaml", "version: 1\nname: own\nfiles: [runbook.pdf]\n");
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    let outside = home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "theirs").unwrap();
    for link in ["runbook.pdf", ".gantry-extract"] {
        let out = tempfile::tempdir().unwrap();
        let to = if link == "runbook.pdf" { outside.join("secret") } else { outside.clone() };
        std::os::unix::fs::symlink(to, out.path().join(link)).unwrap();
        let run = extract(&gantry, gantry.store(), out.path(), &["--force"]);
        assert_ne!(run.code, Some(0), "{link}");
        assert!(run.stderr.contains("symbolic link"), "{link}: {}", run.stderr);
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}

#[test]
fn files_are_served_under_their_names_and_by_digest_where_two_have_one_name() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    gantry.write_file("a/model (Q4).gguf", "weights");
    gantry.write_file("a/note.txt", "one");
    gantry.write_file("b/note.txt", "two");
    gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: own\nfiles: ['a/model (Q4).gguf', a/note.txt, b/note.txt]\n",
    );
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    let mut depot = gantry.start(["serve", &text(gantry.store()), "--listen", "127.0.0.1:0"]);
    let host = depot.wait_for_word_after(" on ");
    let curl = |path: &str, more: &[&str]| {
        let mut curl = tools::tool_command("curl");
        curl.args(["-sS", "-w", " %{http_code}"]).args(more).arg(format!("{host}{path}"));
        tools::run_command(&mut curl)
    };

    assert_eq!(curl("/files/model%20(Q4).gguf", &[]), "weights 200");
    assert_eq!(curl("/files/model%20(Q4).gguf", &["-H", "Range: bytes=2-3"]), "ig 206");
    assert!(curl("/files/note.txt", &[]).ends_with(" 409"));
    assert!(curl("/files/no.txt", &[]).ends_with(" 404"));
    let list = curl("/files/", &[]);
    let list: serde_json::Value = serde_json::from_str(list.trim_end_matches(" 200")).unwrap();
    let files = list["files"].as_array().unwrap();
    assert_eq!(files.len(), 3);
    let note = |content: &str| {
        let digest = store::hash::sha256(content.as_bytes()).to_string();
        let file = files.iter().find(|file| file["digest"] == digest).unwrap();
        curl(file["path"].as_str().unwrap(), &[])
    };
    assert_eq!((note("one"), note("two")), ("one 200".to_owned(), "two 200".to_owned()));
}

/// Writes a models folder of Ollama with `tiny:3b`; returns its manifest and the digest of its weights.
fn write_ollama_model(folder: &Path) -> (String, String) {
    let blob = |bytes: &[u8]| {
        let digest = store::hash::sha256(bytes).to_string();
        fs::create_dir_all(folder.join("blobs")).unwrap();
        fs::write(folder.join("blobs").join(digest.replace(':', "-")), bytes).unwrap();
        digest
    };
    let (config, weights) = (blob(b"{}"), blob(b"weights of a tiny model"));
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": weights, "size": 23}],
    });
    let manifest = manifest.to_string();
    let names = folder.join("manifests/registry.ollama.ai/library/tiny");
    fs::create_dir_all(&names).unwrap();
    fs::write(names.join("3b"), &manifest).unwrap();
    (manifest, weights)
}
