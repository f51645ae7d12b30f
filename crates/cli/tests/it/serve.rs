//! `gantry serve`: serves bundle files to the tools that people use. The endpoints themselves are tested in
//! the crate `depot`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::story::{self, INPUT, MODEL, fetched, pack, text};
use testkit::{TestEnvironment, tools, wait_until};

#[test]
fn volumes_are_served_in_place_to_skopeo_crane_and_the_hub_s_clients_and_sigterm_ends_it_well() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let media = tempfile::tempdir().unwrap();
    pack(&gantry, media.path(), "16MiB");
    fs::remove_dir_all(gantry.store()).unwrap();

    let mut depot = gantry.start(["serve", &text(media.path()), "--listen", "127.0.0.1:0"]);
    let url = depot.wait_for_word_after(" on ");
    let read = depot.count_read_bytes();
    assert!(read < 16 << 20, "it is ready before it has read the content: {read} bytes");

    let host = url.trim_start_matches("http://");
    let target = format!("oci:{}:nginx", media.path().join("pulled").display());
    let source = format!("docker://{host}/docker.io/library/nginx:1.22");
    tools::run_command(tools::tool_command("skopeo").args([
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        &source,
        &target,
    ]));
    let nginx = world.images().get("docker.io/library/nginx:1.22");
    // By host and path, by path only, and as a node requests it from a mirror.
    for path in ["docker.io/library/nginx:1.22", "library/nginx:1.22"] {
        let digest = tools::run_command(
            tools::tool_command("crane").args(["digest", &format!("{host}/{path}")]),
        );
        assert_eq!(digest.trim(), nginx.digest.to_string(), "{path}");
    }
    let mirrored = format!("{url}/v2/library/nginx/manifests/1.22?ns=docker.io");
    let manifest = tools::run_command(tools::tool_command("curl").args(["-sSf", &mirrored]));
    assert!(manifest.contains("manifests"), "{manifest}");
    for version in tools::HUB_VERSIONS {
        let home = media.path().join(format!("hf-{version}"));
        python(&tools::hub_python(version), &home, DOWNLOAD, Some(&url));
    }
    let home = media.path().join("hf");
    python(&tools::main_python(), &home, LOAD, Some(&url));
    assert_eq!(depot.terminate(), Some(0));

    // Again from the local caches, without the server.
    for version in tools::HUB_VERSIONS {
        let home = media.path().join(format!("hf-{version}"));
        python(&tools::hub_python(version), &home, DOWNLOAD, None);
    }
    python(&tools::main_python(), &home, LOAD, None);
}

/// All of the model, compared with the original.
const DOWNLOAD: &str = "
import filecmp, sys
from pathlib import Path
from huggingface_hub import snapshot_download
source, got = Path(sys.argv[2]), Path(snapshot_download(sys.argv[1]))
names = [str(p.relative_to(source)) for p in source.rglob('*') if p.is_file()]
same, other, errors = filecmp.cmpfiles(source, got, names, shallow=False)
assert sorted(same) == sorted(names), (other, errors)
";

/// Loads tokenizer, configuration and weights, as an inference server does.
const LOAD: &str = "
import sys
from huggingface_hub import hf_hub_download
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoTokenizer
tokenizer, config = (auto.from_pretrained(sys.argv[1]) for auto in (AutoTokenizer, AutoConfig))
ids = tokenizer('Across the gap.')['input_ids']
assert tokenizer.decode(ids, skip_special_tokens=True) == 'across the gap.'
weights = load_file(hf_hub_download(sys.argv[1], 'model.safetensors'))
words = weights['embeddings.word_embeddings.weight']
assert words.shape == (config.vocab_size, config.hidden_size)
";

/// Runs a script on the model, against a depot or from the cache alone.
fn python(interpreter: &Path, home: &Path, script: &str, depot: Option<&str>) {
    let mut python = Command::new(interpreter);
    python.args(["-c", script, MODEL]).arg(tools::model_folder()).env("HF_HOME", home);
    python.env("HF_HUB_DISABLE_TELEMETRY", "1").env_remove("HF_TOKEN");
    match depot {
        Some(url) => python.env("HF_ENDPOINT", url).env_remove("HF_HUB_OFFLINE"),
        None => python.env_remove("HF_ENDPOINT").env("HF_HUB_OFFLINE", "1"),
    };
    tools::run_command(&mut python);
}

#[test]
fn a_pull_under_way_is_finished_when_the_depot_is_told_to_stop() {
    let world = TestEnvironment::fast();
    let models = format!("models: [{{hf: {MODEL}, include: [model.safetensors]}}]");
    let gantry = fetched(&world, &format!("version: 1\nname: weights\n{models}\n"));
    let mut depot = gantry.start(["serve", "--listen", "127.0.0.1:0"]);
    let url = depot.wait_for_word_after(" on ");
    let file = gantry.folder().join("weights");
    // The download is still running then: 91 MB are more than the buffers of the sockets hold.
    let mut pull = tools::tool_command("curl")
        .args(["-sSf", "--limit-rate", "40M", "-o"])
        .arg(&file)
        .arg(format!("{url}/{MODEL}/resolve/main/model.safetensors"))
        .spawn()
        .unwrap();
    wait_until("the pull is under way", || file.metadata().is_ok_and(|file| file.len() > 0));

    assert_eq!(depot.terminate(), Some(0));

    assert!(pull.wait().unwrap().success());
    let weights = tools::model_folder().join("model.safetensors");
    tools::run_command(tools::tool_command("cmp").args([file, weights]));
}

#[test]
fn what_cannot_be_served_is_told_before_anything_listens() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let media = tempfile::tempdir().unwrap();
    let volumes = pack(&gantry, media.path(), "32MiB");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let first = text(&volumes[0]);
    let folder = tempfile::tempdir().unwrap();

    for (arguments, part) in [
        (vec![first.as_str()], ".0002.gantry"),
        (vec![&text(folder.path())], "no bundle files (*.gantry)"),
        (vec!["/nowhere"], "no such file"),
        (vec!["--listen", "nonsense"], "ADDRESS:PORT"),
        (vec!["--listen", &taken], "in use"),
        (vec!["--tls-cert", "/nowhere", "--tls-key", "/nowhere"], "/nowhere"),
    ] {
        let failed = gantry.run([&["serve"], arguments.as_slice()].concat());
        let failed = failed.assert_exit_code(2);
        assert!(failed.stderr.contains(part), "{arguments:?}: {}", failed.stderr);
    }
}

#[test]
fn helm_pulls_a_chart_that_was_a_folder() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/umbrella");
    gantry.write_file(
        "gantry.yaml",
        &format!("version: 1\nname: chart\ncharts:\n- chart: {chart}\n"),
    );
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();

    let mut depot = gantry.start(["serve", "--listen", "127.0.0.1:0"]);
    let host = depot.wait_for_word_after(" on ").trim_start_matches("http://").to_owned();
    let mut helm = tools::tool_command("helm");
    helm.args(["pull", &format!("oci://{host}/umbrella"), "--version", "0.1.0", "--plain-http"]);
    tools::run_command(helm.current_dir(gantry.folder()).env("HOME", world.home()));

    assert!(gantry.folder().join("umbrella-0.1.0.tgz").exists());
}
