//! `gantry relocate --offline`: runtimes are configured by values where values reach them, else by patches
//! that the post-renderer applies, and what neither can do is reported.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::story::{BINARY, alone, text};
use testkit::{Gantry, tools};

const SITE: &str = "version: 1\nregistry: {url: registry.internal:5000/ai, ca: ca.pem}\n";
const MODELS: &str = "models: [{to: pvc://ai/models}]\n";

/// A server whose environment comes from a value, but which has no value for volumes.
const CHART: [(&str, &str); 3] = [
    ("Chart.yaml", "apiVersion: v2\nname: llm\nversion: 1.0.0\n"),
    (
        "values.yaml",
        "image: {registry: docker.io, repository: vllm/vllm-openai, tag: v0.10.0}\nextraEnv: []\n",
    ),
    (
        "templates/llm.yaml",
        "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: llm} # the server
spec:
  selector: {matchLabels: {app: llm}}
  template:
    metadata: {labels: {app: llm}}
    spec:
      containers:
        - name: llm
          image: \"{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag }}\"
          args: [--model, Qwen/Qwen2.5-0.5B-Instruct]
          {{- with .Values.extraEnv }}
          env: {{ toJson . }}
          {{- end }}
",
    ),
];

fn user(home: &Path, site: &str) -> Gantry {
    let gantry = alone(home);
    let chart = gantry.folder().join("llm");
    fs::create_dir_all(chart.join("templates")).unwrap();
    for (name, text) in CHART {
        fs::write(chart.join(name), text).unwrap();
    }
    gantry.write_file("site.yaml", site);
    gantry
}

const RELOCATE: [&str; 7] =
    ["relocate", "llm", "--site", "site.yaml", "--namespace", "ai", "--offline"];

#[test]
fn a_runtime_is_wired_by_the_overlay_and_by_patches_that_the_post_renderer_applies() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &format!("{SITE}{MODELS}"));

    let error = gantry.run(RELOCATE).assert_exit_code(3).stderr;
    assert!(error.contains("--patches FILE"), "{error}");
    let more = ["--patches", "patches.yaml", "--report", "r.md", "--output", "json"];
    let moved = gantry.run(RELOCATE.iter().chain(&more)).assert_success().parse_json();

    assert_eq!(moved["verdict"], "proven");
    assert_eq!(moved["wiring"]["patches"][0]["kind"], "Deployment");
    let overlay = gantry.read_file("overlay.yaml");
    assert!(overlay.contains("# configures model runtimes for offline use:"), "{overlay}");
    assert!(overlay.contains("HF_HUB_OFFLINE") && !overlay.contains("/gantry/"), "{overlay}");
    let report = gantry.read_file("r.md");
    assert!(
        report.contains("## Offline configuration") && report.contains("| patch |"),
        "{report}"
    );

    let rendered = tools::run_command(
        tools::tool_command("helm")
            .args(["template", "llm", &text(&gantry.folder().join("llm"))])
            .args(["-f", "overlay.yaml"])
            .current_dir(gantry.folder()),
    );
    fs::write(gantry.folder().join("rendered.yaml"), &rendered).unwrap();
    let out = post_render(&gantry);
    assert!(out.contains("image: \"registry.internal:5000/ai/vllm/vllm-openai:v0.10.0\""), "{out}");
    assert!(out.contains("{\"name\":\"HF_HUB_CACHE\",\"value\":\"/gantry/models\"}"), "{out}");
    assert!(out.contains("{\"claimName\":\"models\",\"readOnly\":true}"), "{out}");
    assert!(
        out.contains("{\"name\":\"gantry-ca\",\"configMap\":{\"name\":\"gantry-ca\"}}"),
        "{out}"
    );
    assert!(out.contains("metadata: {name: llm} # the server"), "{out}");
}

#[test]
fn flux_makes_of_a_helm_release_what_the_post_renderer_makes_of_patches() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &format!("{SITE}{MODELS}"));
    let flux = ["--patches", "patches.yaml", "--for", "flux", "-o", "release.yaml"];
    gantry.run(RELOCATE.iter().chain(&["--for", "flux", "-o", "release.yaml"])).assert_success();
    // The same again overwrites its own file.
    gantry.run(RELOCATE.iter().chain(&flux)).assert_success();

    let text_of = gantry.read_file("release.yaml");
    assert!(
        text_of.starts_with("# Points the images of the chart at registry.internal"),
        "{text_of}"
    );
    let release = types::yaml::read_manifest(&text_of).unwrap();
    assert_eq!(release["kind"], "HelmRelease");
    assert_eq!(release["metadata"]["namespace"], "ai");
    gantry.write_file("values.json", &release["spec"]["values"].to_string());
    let rendered = tools::run_command(
        tools::tool_command("helm")
            .args(["template", "llm", &text(&gantry.folder().join("llm")), "-f", "values.json"])
            .current_dir(gantry.folder()),
    );
    gantry.write_file("rendered.yaml", &rendered);
    // helm-controller hands the manifests to kustomize with these patches.
    let patches = &release["spec"]["postRenderers"][0]["kustomize"]["patches"];
    assert_eq!(patches.as_array().unwrap().len(), 1, "{text_of}");
    let kustomization = serde_json::json!({"resources": ["rendered.yaml"], "patches": patches});
    gantry.write_file("kustomization.yaml", &kustomization.to_string());
    let built = tools::run_command(
        tools::tool_command("kustomize").args(["build", "."]).current_dir(gantry.folder()),
    );
    let read = |text: &str| {
        let mut value = types::yaml::read_manifest(text.trim_start_matches("---\n")).unwrap();
        sort_lists(&mut value);
        value
    };
    assert_eq!(read(&built), read(&post_render(&gantry)));
}

/// Sorts all lists: kustomize adds to their other end.
fn sort_lists(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => {
            items.iter_mut().for_each(sort_lists);
            items.sort_by_key(ToString::to_string);
        }
        serde_json::Value::Object(fields) => {
            fields.values_mut().for_each(sort_lists);
            fields.sort_keys();
        }
        _ => {}
    }
}

#[test]
fn argo_cd_gets_values_and_never_a_part_of_what_is_needed() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), "version: 1\nregistry: {url: registry.internal:5000/ai}\n");
    let argo = ["--for", "argocd", "-o", "application.yaml"];
    gantry.run(RELOCATE.iter().chain(&argo).chain(&["--allow-leftovers"])).assert_success();
    let application = types::yaml::read_manifest(&gantry.read_file("application.yaml")).unwrap();
    assert_eq!(application["spec"]["destination"]["namespace"], "ai");
    let image = &application["spec"]["source"]["helm"]["valuesObject"]["image"];
    assert_eq!(image["registry"], "registry.internal:5000/ai", "{application:#}");

    gantry.write_file("site.yaml", &format!("{SITE}{MODELS}"));
    let refused = gantry.run(RELOCATE.iter().chain(&argo)).assert_exit_code(3).stderr;
    assert!(
        refused.contains("Argo CD applies no patches") && refused.contains("gantry render"),
        "{refused}"
    );
}

fn post_render(gantry: &Gantry) -> String {
    let input = fs::File::open(gantry.folder().join("rendered.yaml")).unwrap();
    let output = std::process::Command::new(BINARY)
        .args(["post-render", "--site", "site.yaml", "--patches", "patches.yaml"])
        .current_dir(gantry.folder())
        .stdin(Stdio::from(input))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_not_wired_is_told_with_its_next_step_and_a_wrong_rule_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), SITE);

    let error = gantry.run(RELOCATE).assert_exit_code(3).stderr;
    assert!(error.contains("Deployment llm, container llm"), "{error}");
    assert!(error.contains("add to site.yaml: models: [{to: pvc://"), "{error}");
    gantry.run(RELOCATE.iter().chain(&["--allow-leftovers"])).assert_success();

    gantry.write_file("gantry.yaml", "version: 1\nname: x\nwiring:\n  runtimes:\n  - {nme: y}\n");
    let error = gantry.run(RELOCATE).assert_exit_code(2).stderr;
    assert!(error.contains("gantry.yaml:5:") && error.contains("unknown key \"nme\""), "{error}");
}
