//! The story of the depot: started on the media, it hands everything out to the tools people have.
//! The doors themselves are tested in the depot's crate.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod story;

use std::fs;
use std::time::{Duration, Instant};

use story::{INPUT, MODEL, fetched, pack, text};
use testkit::{World, tools};

#[test]
fn volumes_are_served_in_place_to_skopeo_and_the_hub_s_client_and_sigterm_ends_it_well() {
    let world = World::fast();
    let gantry = fetched(&world, INPUT);
    let media = tempfile::tempdir().unwrap();
    pack(&gantry, media.path(), "16MiB");
    fs::remove_dir_all(gantry.store()).unwrap();
    let started = Instant::now();

    let mut depot = gantry.start(["serve", &text(media.path()), "--listen", "127.0.0.1:0"]);
    let url = depot.word_after(" on ");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());

    let host = url.trim_start_matches("http://");
    let target = format!("oci:{}:nginx", media.path().join("pulled").display());
    let source = format!("docker://{host}/docker.io/library/nginx:1.22");
    tools::run(tools::command("skopeo").args([
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        &source,
        &target,
    ]));
    let hub = |offline: &str| {
        let script = format!(
            "from huggingface_hub import snapshot_download as d; \
             from safetensors.numpy import load_file as l; import os; \
             p = d('{MODEL}'); print(len(l(os.path.join(p, 'model.safetensors'))))"
        );
        let mut python = std::process::Command::new(tools::main_python());
        python
            .args(["-c", &script])
            .env("HF_HOME", media.path().join("hf"))
            .env("HF_HUB_OFFLINE", offline);
        tools::run(python.env("HF_ENDPOINT", &url))
    };
    let tensors = hub("0");
    assert_eq!(depot.terminate(), Some(0));

    assert!(tensors.trim().parse::<u32>().unwrap() > 50, "{tensors}");
    assert_eq!(hub("1"), tensors, "from the cache, with nobody there");
}

#[test]
fn helm_pulls_a_chart_that_was_a_folder() {
    let world = World::fast();
    let gantry = world.gantry(story::BINARY);
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/umbrella");
    gantry.write("gantry.yaml", &format!("version: 1\nname: chart\ncharts:\n- chart: {chart}\n"));
    gantry.run(["lock"]).success();
    gantry.run(["fetch"]).success();

    let mut depot = gantry.start(["serve", "--listen", "127.0.0.1:0"]);
    let host = depot.word_after(" on ").trim_start_matches("http://").to_owned();
    let mut helm = tools::command("helm");
    helm.args(["pull", &format!("oci://{host}/umbrella"), "--version", "0.1.0", "--plain-http"]);
    tools::run(helm.current_dir(gantry.folder()).env("HOME", world.home()));

    assert!(gantry.folder().join("umbrella-0.1.0.tgz").exists());
}
