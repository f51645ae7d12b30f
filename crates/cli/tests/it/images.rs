//! `gantry images`: which images a chart uses, and why.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write as _;
use std::process::Stdio;

use crate::story::{alone, chart};

#[test]
fn a_chart_s_images_are_listed_with_the_place_and_the_value_behind_each() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());

    let all = gantry.run(["images", "shop", "--output", "json"]).assert_success().parse_json();

    let named = |name: &str| {
        let images = all["images"].as_array().unwrap();
        images.iter().find(|image| image["reference"] == name).cloned().unwrap_or_default()
    };
    let web = named("quay.io/shop/web:2.1");
    assert_eq!(web["confidence"], "certain");
    assert_eq!(web["mentions"][0]["location"]["template"], "shop/templates/web.yaml");
    assert!(web["mentions"][0]["values"].to_string().contains("image.registry"), "{web}");
    assert_eq!(named("ghcr.io/shop/helper:1")["confidence"], "likely", "an argument");
    assert_eq!(
        named("docker.io/library/busybox:1.35")["mentions"][0]["location"]["kind"],
        "Pod",
        "a test"
    );
    let gpu = named("nvcr.io/shop/gpu:3");
    assert_eq!(gpu["confidence"], "possible");
    assert!(gpu["mentions"][0]["note"].as_str().unwrap().contains("gpu.enabled"), "{gpu}");
}

#[test]
fn variants_turn_on_what_the_values_leave_off_and_a_list_is_for_scripts() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file("gpu.yaml", "gpu: {enabled: true}\n");

    let list = ["images", "shop", "--list", "--at-least", "certain"];
    let plain = gantry.run(list).assert_success().stdout;
    let variant = gantry.run(list.iter().chain(&["--variant", "gpu.yaml"])).assert_success().stdout;
    let set = gantry.run(list.iter().chain(&["--set", "gpu.enabled=true"])).assert_success().stdout;

    assert_eq!(plain, "docker.io/library/busybox:1.35\nquay.io/shop/web:2.1\n");
    assert!(variant.contains("nvcr.io/shop/gpu:3\n"), "{variant}");
    assert_eq!(variant, set);
}

#[test]
fn a_reference_is_explained_and_one_that_is_not_there_is_told() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());

    let explained =
        gantry.run(["images", "shop", "--explain", "shop/helper"]).assert_success().stdout;
    assert!(explained.contains("an argument of a container"), "{explained}");
    assert!(explained.contains("shop/templates/web.yaml"), "{explained}");
    let error = gantry.run(["images", "shop", "--explain", "postgres"]).assert_exit_code(2).stderr;
    assert!(error.contains("no image that matches postgres"), "{error}");
}

#[test]
fn plain_manifests_come_from_files_folders_and_standard_input() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    let pod = "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: \"alpine:3.19\"}]}\n";
    gantry.write_file("all/pod.yaml", pod);

    let expected = "docker.io/library/alpine:3.19\n";
    assert_eq!(gantry.run(["images", "all", "--list"]).assert_success().stdout, expected);
    assert_eq!(gantry.run(["images", "all/pod.yaml", "--list"]).assert_success().stdout, expected);
    let mut piped = gantry
        .command(["images", "-", "--list"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(pod.as_bytes()).unwrap();
    assert_eq!(piped.wait_with_output().unwrap().stdout, expected.as_bytes());

    gantry.write_file("all/kustomization.yaml", "resources: [pod.yaml]\n");
    // The folder is now a kustomization, and is built.
    let kustomized = pod.replace("kind: Pod", "apiVersion: v1\nkind: Pod");
    gantry.write_file("all/pod.yaml", &kustomized);
    assert_eq!(gantry.run(["images", "all", "--list"]).assert_success().stdout, expected);
    gantry.write_file("broken.yaml", "kind: Pod\nspec: {containers: [\n");
    let error = gantry.run(["images", "broken.yaml"]).assert_exit_code(2).stderr;
    assert!(error.contains("broken.yaml: the document at line"), "{error}");
}

#[test]
fn rules_in_gantry_yaml_name_what_an_operator_of_one_s_own_has_compiled_in() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: shop\ncharts: [{chart: ./shop}]\nrules:\n  operators:\n  - name: shop\n    \
         when: {kind: Deployment, group: apps}\n    images: [\"ghcr.io/shop/sidecar:7\"]\n    \
         why: the shop's webhook puts it beside every pod\n",
    );

    let list = gantry.run(["images", "--list", "--at-least", "likely"]).assert_success().stdout;

    assert!(list.contains("ghcr.io/shop/sidecar:7\n"), "{list}");
}
