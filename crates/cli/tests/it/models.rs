//! Models in a folder: pushed in the layout that a runtime reads without a network, with the push killed,
//! and verified afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::story::{self, MODEL, alone, fetched, files, text};
use testkit::{Gantry, TestEnvironment, Tmpfs, loopback_only_command, tools};

const INPUT: &str = "\
version: 1
name: models
images: [ghcr.io/gantry-examples/tools:1.0]
models: [{hf: sentence-transformers/all-MiniLM-L6-v2}]
";

#[test]
fn a_cache_on_a_volume_is_read_offline_by_the_library_itself() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let media = tempfile::tempdir().unwrap();
    story::pack(&gantry, media.path(), "16MiB");
    let volume = tempfile::tempdir().unwrap();

    push(&gantry, media.path(), volume.path(), &[]).assert_success();

    let home = volume.path().join("models--sentence-transformers--all-MiniLM-L6-v2");
    let commit = fs::read_to_string(home.join("refs/main")).unwrap();
    assert_eq!(commit.len(), 40, "without a newline");
    assert_eq!(loaded(volume.path()), loaded_from_the_hub_s_own_files());
    let again = push(&gantry, media.path(), volume.path(), &["--output", "json"])
        .assert_success()
        .parse_json();
    assert_eq!(again["targets"][0]["models"][0]["outcome"], "present");
}

#[test]
fn plain_files_do_without_links_and_flat_ones_without_the_cache() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let store = gantry.store().to_owned();
    let [plain, sie, flat] = [(); 3].map(|()| tempfile::tempdir().unwrap());

    push(&gantry, &store, plain.path(), &["--files", "plain"]).assert_success();
    push(&gantry, &store, sie.path(), &["--layout", "sie"]).assert_success();
    push(&gantry, &store, flat.path(), &["--layout", "flat", "--model", MODEL]).assert_success();

    assert_eq!(loaded(plain.path()), loaded_from_the_hub_s_own_files());
    let home = plain.path().join("models--sentence-transformers--all-MiniLM-L6-v2");
    assert!(!home.join("blobs").exists());
    assert_eq!(models_of(plain.path()), models_of(sie.path()));
    let weights = fs::read(flat.path().join(MODEL).join("model.safetensors")).unwrap();
    assert_eq!(weights, fs::read(tools::model_folder().join("model.safetensors")).unwrap());
}

#[test]
fn a_killed_push_shows_nothing_half_and_goes_on_where_it_was() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let volume = tempfile::tempdir().unwrap();
    let arguments =
        ["models", "push", &text(gantry.store()), "--to", &text(volume.path())].map(str::to_owned);

    for _ in 0..10 {
        let mut running = gantry.start(&arguments);
        let parts = volume.path().join(".gantry/parts");
        // Killed as soon as more was written.
        let before = size_of(&parts);
        while size_of(&parts) == before && running.is_running() {}
        running.kill();
        let home = volume.path().join("models--sentence-transformers--all-MiniLM-L6-v2");
        assert!(!home.join("refs/main").exists() || home.join("snapshots").exists());
    }
    gantry.run(&arguments).assert_success();

    gantry.run(["models", "verify", &text(volume.path())]).assert_success();
    assert_eq!(loaded(volume.path()), loaded_from_the_hub_s_own_files());
    assert_eq!(size_of(&volume.path().join(".gantry/parts")), 0, "nothing is left behind");
}

#[test]
fn a_volume_is_proven_without_the_bundle_and_mended_with_it() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let volume = tempfile::tempdir().unwrap();
    push(&gantry, gantry.store(), volume.path(), &["--layout", "flat"]).assert_success();
    let verify = ["models", "verify", &text(volume.path())].map(str::to_owned);
    gantry.run(&verify).assert_success();
    let config = volume.path().join(MODEL).join("config.json");
    let weights = volume.path().join(MODEL).join("model.safetensors");

    fs::remove_file(&config).unwrap();
    let mut bytes = fs::read(&weights).unwrap();
    bytes[1000] ^= 1;
    fs::write(&weights, bytes).unwrap();

    let error = gantry.run(&verify).assert_exit_code(3).stderr;
    assert!(error.contains("config.json: it is missing"), "{error}");
    assert!(error.contains("model.safetensors: its digest is"), "{error}");
    assert!(error.contains("gantry models push"), "{error}");
    push(&gantry, gantry.store(), volume.path(), &["--layout", "flat"]).assert_success();
    gantry.run(&verify).assert_success();
}

#[test]
fn what_somebody_else_put_there_is_kept_or_told_and_never_deleted() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let volume = tempfile::tempdir().unwrap();
    let own = volume.path().join(MODEL);
    fs::create_dir_all(&own).unwrap();
    fs::copy(tools::model_folder().join("config.json"), own.join("config.json")).unwrap();
    let flat = ["--layout", "flat"];
    push(&gantry, gantry.store(), volume.path(), &flat).assert_success();

    let other = tempfile::tempdir().unwrap();
    let stranger = other.path().join(MODEL).join("notes.txt");
    fs::create_dir_all(stranger.parent().unwrap()).unwrap();
    fs::write(&stranger, "mine").unwrap();
    let error = push(&gantry, gantry.store(), other.path(), &flat).assert_exit_code(2).stderr;

    assert!(error.contains("notes.txt is in the way"), "{error}");
    assert_eq!(fs::read_to_string(&stranger).unwrap(), "mine");
}

#[test]
fn a_full_volume_is_told_before_the_first_byte_and_wrong_words_before_any_work() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let volume = Tmpfs::new(20 << 20);

    let error = push(&gantry, gantry.store(), volume.path(), &[]).assert_exit_code(1).stderr;
    assert!(error.contains("free some space and run the same command again"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (
            ["--model", "no/such"],
            "the source has no model \"no/such\"; it has sentence-transformers",
        ),
        (["--layout", "ollama"], "choose hf-cache, flat or sie"),
    ] {
        let error =
            push(&gantry, gantry.store(), folder.path(), &arguments).assert_exit_code(2).stderr;
        assert!(error.contains(expected), "{error}");
    }
    assert!(files(folder.path()).is_empty());
    let error = gantry.run(["models", "verify", &text(folder.path())]).assert_exit_code(2).stderr;
    assert!(error.contains("no models that Gantry wrote"), "{error}");
    let link = folder.path().join("link");
    symlink("nowhere", &link).unwrap();
    gantry.run(["models", "verify", &text(&link)]).assert_exit_code(2);
}

#[test]
fn another_revision_comes_beside_the_old_one_or_takes_its_place_and_both_are_proven() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: own\nmodels: [{hf: own/model, folder: ./model}]\n",
    );
    let [cache, flat] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut commits = Vec::new();
    for (number, files) in
        [["config.json", "old.txt"], ["config.json", "new.txt"]].iter().enumerate()
    {
        let _ = fs::remove_dir_all(gantry.folder().join("model"));
        for file in files {
            gantry.write_file(&format!("model/{file}"), &format!("{number}"));
        }
        gantry.write_file("model/same.txt", "same");
        gantry.run(["lock", "--upgrade"]).assert_success();
        gantry.run(["fetch"]).assert_success();
        push(&gantry, gantry.store(), cache.path(), &[]).assert_success();
        commits.push(
            push(&gantry, gantry.store(), flat.path(), &["--layout", "flat"])
                .assert_success()
                .stdout,
        );
        gantry.run(["models", "verify", &text(cache.path())]).assert_success();
        gantry.run(["models", "verify", &text(flat.path())]).assert_success();
        fs::remove_dir_all(gantry.store()).unwrap();
    }

    assert_ne!(commits[0], commits[1]);
    let snapshots = cache.path().join("models--own--model/snapshots");
    assert_eq!(snapshots.read_dir().unwrap().count(), 2, "the old revision is still there");
    let own = flat.path().join("own/model");
    let names: Vec<_> = files(&own)
        .into_iter()
        .map(|(path, _)| path.strip_prefix(&own).unwrap().to_owned())
        .collect();
    assert_eq!(
        names.iter().map(|name| text(name)).collect::<Vec<_>>(),
        ["config.json", "new.txt", "same.txt"]
    );
    assert_eq!(fs::read_to_string(own.join("config.json")).unwrap(), "1");
}

#[test]
fn a_file_is_pushed_under_its_own_name_and_what_does_not_fit_is_told() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    gantry.write_file("model/config.json", "{}");
    gantry.write_file("weights/Qwen (Q4).gguf", "weights");
    gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: own\nmodels: [{hf: own/Model, folder: ./model}]\nfiles: ['weights/Qwen (Q4).gguf']\n",
    );
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    let store = gantry.store();

    // All of it is flat; the name is any that gantry.yaml knows, in any case of letters.
    let flat = tempfile::tempdir().unwrap();
    let only = ["--layout", "flat", "--model", "weights/qwen (q4).GGUF"];
    push(&gantry, store, flat.path(), &only).assert_success();
    assert_eq!(fs::read_to_string(flat.path().join("Qwen (Q4).gguf")).unwrap(), "weights");
    assert!(!flat.path().join("own").exists());
    push(&gantry, store, flat.path(), &["--layout", "flat"]).assert_success();
    assert_eq!(fs::read_to_string(flat.path().join("own/Model/config.json")).unwrap(), "{}");
    gantry.run(["models", "verify", &text(flat.path())]).assert_success();

    // A Hugging Face cache holds no single file: told, and written is what fits.
    let cache = tempfile::tempdir().unwrap();
    let run = push(&gantry, store, cache.path(), &[]).assert_success();
    assert!(run.stderr.contains("files.gantry/qwen-q4-gguf:"), "{}", run.stderr);
    assert!(run.stderr.contains("choose the layout flat"), "{}", run.stderr);
    assert!(cache.path().join("models--own--Model/refs/main").exists());
    push(&gantry, store, cache.path(), &["--model", "HF:OWN/model"]).assert_success();

    // Somebody else's file of this name stays.
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("Qwen (Q4).gguf"), "mine").unwrap();
    let run = push(&gantry, store, foreign.path(), &only);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert_eq!(fs::read_to_string(foreign.path().join("Qwen (Q4).gguf")).unwrap(), "mine");
}

#[test]
fn only_so_many_revisions_are_kept_and_nothing_that_somebody_else_leads_to_goes() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: own\nmodels: [{hf: own/model, folder: ./model}]\n",
    );
    let [links, plain] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let own = links.path().join("models--own--model");
    for number in 0..4 {
        gantry.write_file("model/config.json", &format!("{number}"));
        gantry.write_file("model/same.txt", "same");
        gantry.run(["lock", "--upgrade"]).assert_success();
        gantry.run(["fetch"]).assert_success();
        push(&gantry, gantry.store(), plain.path(), &["--files", "plain", "--keep", "1"])
            .assert_success();
        let keep = ["--keep", "2", "--output", "json"];
        let pushed =
            push(&gantry, gantry.store(), links.path(), &keep).assert_success().parse_json();
        let collected = pushed["targets"][0]["deletedRevisions"].as_array().map_or(0, Vec::len);
        assert_eq!(collected, usize::from(number > 1), "round {number}: {pushed}");
        if number == 0 {
            // A snapshot that somebody else made links to a file of the first revision.
            let blob = fs::read_link(snapshot(&own).join("config.json")).unwrap();
            fs::create_dir_all(own.join("snapshots/theirs")).unwrap();
            symlink(blob, own.join("snapshots/theirs/config.json")).unwrap();
        }
        fs::remove_dir_all(gantry.store()).unwrap();
    }

    assert_eq!(own.join("snapshots").read_dir().unwrap().count(), 3, "two of ours and theirs");
    assert_eq!(fs::read_to_string(own.join("snapshots/theirs/config.json")).unwrap(), "0");
    assert_eq!(
        own.join("blobs").read_dir().unwrap().count(),
        4,
        "three configs and what is shared"
    );
    let plain_own = plain.path().join("models--own--model/snapshots");
    assert_eq!(plain_own.read_dir().unwrap().count(), 1);
    assert_eq!(plain.path().join(".gantry/models").read_dir().unwrap().count(), 1);
    for volume in [&links, &plain] {
        gantry.run(["models", "verify", &text(volume.path())]).assert_success();
    }
}

/// The only snapshot of a cache's model.
fn snapshot(own: &Path) -> std::path::PathBuf {
    own.join("snapshots").read_dir().unwrap().next().unwrap().unwrap().path()
}

fn push(
    gantry: &Gantry,
    source: &Path,
    to: &Path,
    more: &[&str],
) -> testkit::gantry::CommandOutput {
    let (source, to) = (text(source), text(to));
    let base = ["models", "push", &source, "--to", &to];
    gantry.run(base.iter().copied().chain(more.iter().copied()))
}

/// The files of the cache without Gantry's own.
fn models_of(folder: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let all = files(folder).into_iter();
    let own =
        all.filter_map(|(path, size)| Some((path.strip_prefix(folder).ok()?.to_owned(), size)));
    own.filter(|(path, _)| !path.starts_with(".gantry")).collect()
}

/// The size of a folder while another process writes to it: files that vanish meanwhile count nothing.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// What a script reads from tokenizer, configuration and weights that huggingface_hub finds in the
/// cache, without a network.
fn loaded(cache: &Path) -> String {
    read(&format!(
        "from huggingface_hub import snapshot_download\nfolder = snapshot_download({MODEL:?}, \
         cache_dir={:?}, local_files_only=True)\n",
        text(cache)
    ))
}

fn loaded_from_the_hub_s_own_files() -> String {
    read(&format!("folder = {:?}\n", text(&tools::model_folder())))
}

fn read(folder: &str) -> String {
    let script = format!(
        "import hashlib, pathlib\n{folder}\nfor path in sorted(pathlib.Path(folder).rglob('*')):\n  \
         if path.is_file():\n    print(path.relative_to(folder), \
         hashlib.sha256(path.read_bytes()).hexdigest())\n"
    );
    let mut python = loopback_only_command(tools::hub_python("2.4.0"));
    python.args(["-c", &script]);
    tools::run_command(python.env("HF_HUB_OFFLINE", "1"))
}
