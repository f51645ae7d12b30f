//! `gantry relocate`: a values file moves a chart's images to the site, and the proof confirms it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt as _;

use crate::story::{self, alone, chart, text};
use testkit::tools;

const SITE: &str = "version: 1\nregistry: {url: registry.internal:5000/ai, pullSecret: site}\n";

#[test]
fn an_overlay_moves_everything_and_helm_renders_nothing_else_with_it() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file("site.yaml", SITE);
    gantry.write_file("values.yaml", "gpu: {enabled: true}\n");

    let moved = gantry
        .run(["relocate", "shop", "-f", "values.yaml", "--site", "site.yaml", "--output", "json"])
        .assert_success()
        .parse_json();

    assert_eq!(moved["verdict"], "proven");
    let overlay = gantry.read_file("overlay.yaml");
    assert!(overlay.starts_with("# Points the images of the chart at registry.internal:5000/ai."));
    let rendered = tools::run_command(
        tools::tool_command("helm")
            .args(["template", "shop", &text(&gantry.folder().join("shop"))])
            .args(["-f", "values.yaml", "-f", "overlay.yaml"])
            .current_dir(gantry.folder()),
    );
    for image in ["shop/web:2.1", "shop/helper:1", "shop/gpu:3", "library/busybox:1.35"] {
        assert!(rendered.contains(&format!("registry.internal:5000/ai/{image}")), "{rendered}");
    }
    for outside in ["quay.io", "ghcr.io", "nvcr.io", " busybox"] {
        assert!(!rendered.contains(outside), "{outside}: {rendered}");
    }
    assert!(rendered.contains("imagePullSecrets"), "{rendered}");
    gantry.run(["relocate", "shop", "-f", "values.yaml", "--site", "site.yaml"]).assert_success();
    assert_eq!(gantry.read_file("overlay.yaml"), overlay, "the same from run to run");
}

#[test]
fn a_leftover_is_told_with_its_ways_out_and_files_for_the_nodes() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    let folder = chart(gantry.folder());
    let pod = "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{image: \"alpine:3.19\"}]}\n";
    std::fs::write(folder.join("templates/literal.yaml"), pod).unwrap();
    gantry.write_file("site.yaml", SITE);
    let run = ["relocate", "shop", "--site", "site.yaml", "--report", "r.md", "--mirrors", "nodes"];

    let error = gantry.run(run).assert_exit_code(3).stderr;

    assert!(error.contains("leftover") || error.contains("point outside"), "{error}");
    assert!(error.contains("gantry post-render"), "{error}");
    assert!(gantry.read_file("overlay.yaml").contains("registry.internal:5000/ai"));
    let report = gantry.read_file("r.md");
    assert!(report.contains("docker.io/library/alpine:3.19"), "{report}");
    assert!(report.contains("shop/templates/literal.yaml"), "{report}");
    let nodes = story::files(&gantry.folder().join("nodes"));
    let is_there = |end: &str| nodes.iter().any(|(path, _)| path.ends_with(end));
    assert!(is_there("docker.io/hosts.toml") && is_there("registries.yaml"), "{nodes:?}");
    gantry.run(run.iter().chain(&["--allow-leftovers"])).assert_success();
}

#[test]
fn offline_turns_off_what_is_safe_and_reports_the_rest() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file("site.yaml", SITE);

    let run = ["relocate", "shop", "--site", "site.yaml", "--offline", "--output", "json"];
    let moved = gantry.run(run).assert_success().parse_json();

    assert_eq!(moved["turnedOff"][0]["path"], "telemetry_disabled");
    assert!(gantry.read_file("overlay.yaml").contains("telemetry_disabled: true"));
    let left = moved["phoneHome"].to_string();
    assert!(left.contains("https://huggingface.co"), "{left}");
}

#[test]
fn a_set_expression_that_would_win_over_the_overlay_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file("site.yaml", SITE);

    let set = ["relocate", "shop", "--site", "site.yaml", "--set"];
    gantry.run(set.iter().chain(&["gpu.enabled=true"])).assert_success();
    gantry.run(["relocate", "shop", "--site", "site.yaml", "-o", "other.yaml"]).assert_success();
    let error =
        gantry.run(set.iter().chain(&["image.registry=docker.io"])).assert_exit_code(2).stderr;

    assert!(error.contains("image.registry is given with --set"), "{error}");
}

#[test]
fn an_image_that_is_not_in_the_lock_is_not_proven() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file("site.yaml", SITE);
    gantry.write_file("gantry.lock", "version: 1\nname: other\nplatforms: [linux/amd64]\n");

    let error = gantry.run(["relocate", "shop", "--site", "site.yaml"]).assert_exit_code(3).stderr;

    assert!(error.contains("quay.io/shop/web:2.1"), "{error}");
    assert!(error.contains("gantry lock"), "{error}");
}

#[test]
fn nobody_else_reads_the_values_that_helm_is_given() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file("site.yaml", SITE);
    let (helm, log) = (home.path().join("helm"), home.path().join("modes"));
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in */gantry-release-*)\nstat -c %a \"$(dirname $word)\" >> {}\n;; \
         esac; done\nexec {} \"$@\"\n",
        log.display(),
        tools::tool_path("helm").display()
    );
    std::fs::write(&helm, script).unwrap();
    std::fs::set_permissions(&helm, std::fs::Permissions::from_mode(0o755)).unwrap();
    let gantry = gantry.env("GANTRY_HELM", &helm);

    let run = ["relocate", "shop", "--site", "site.yaml", "--set", "password=secret"];
    gantry.run(run).assert_success();

    let modes = std::fs::read_to_string(log).unwrap();
    assert!(modes.lines().all(|mode| mode == "700"), "{modes}");
}

#[test]
fn a_stopped_relocate_leaves_nothing_of_helm_s_behind() {
    let home = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    // A helm that never comes to an end with its render, so that it is at work when it is stopped.
    let helm = home.path().join("helm");
    let real = tools::tool_path("helm");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = template ] && exec sleep 20\nexec {} \"$@\"\n",
        real.display()
    );
    std::fs::write(&helm, script).unwrap();
    std::fs::set_permissions(&helm, std::fs::Permissions::from_mode(0o755)).unwrap();
    let gantry = alone(home.path()).env("TMPDIR", scratch.path()).env("GANTRY_HELM", &helm);
    chart(gantry.folder());
    gantry.write_file("site.yaml", SITE);

    let running =
        gantry.start(["relocate", "shop", "--site", "site.yaml", "--set", "gpu.enabled=true"]);
    // The folder of the values, beside the one that asked for helm's version and is gone.
    let is_there = || {
        let files = story::files(scratch.path());
        files.iter().any(|(file, _)| file.to_string_lossy().contains("gantry-set-"))
    };
    testkit::wait_until("helm is at work", is_there);
    let code = running.terminate();

    assert_eq!(code, Some(4));
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
    assert!(!gantry.folder().join("overlay.yaml").exists());
}
