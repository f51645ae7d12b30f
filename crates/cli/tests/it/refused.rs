//! Invalid charts, values and sites: each error has helm's message if there is one, the location and the
//! next step, and an existing overlay is not changed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::story::{alone, chart, files, text};
use testkit::{Gantry, Tmpfs};

const SITE: &str = "version: 1\nregistry: {url: registry.internal:5000/ai}\n";
const OLDER: &str = "# Points the images of the chart at an older site.\nimage: {tag: mine}\n";
const RELOCATE: [&str; 4] = ["relocate", "shop", "--site", "site.yaml"];
/// Configures model runtimes for offline use as well.
const OFFLINE: [&str; 9] = [
    "relocate",
    "shop",
    "--site",
    "site.yaml",
    "--namespace",
    "ai",
    "--offline",
    "--patches",
    "patches.yaml",
];

#[test]
fn a_chart_that_does_not_render_is_told_in_helm_s_words_with_the_template_s_place() {
    for (name, content, parts, next) in [
        (
            "templates/region.yaml",
            "a: 1\nb: {{ fail \"choose a region\" }}",
            ["shop/templates/region.yaml:2", "choose a region"],
            "give the values that it requires",
        ),
        (
            "templates/site.yaml",
            "{{ required \"site.name is required\" .Values.site }}",
            ["shop/templates/site.yaml:1", "site.name is required"],
            "give the values that it requires",
        ),
        (
            "templates/broken.yaml",
            "\n{{ if }}",
            ["shop/templates/broken.yaml:2", "missing value for if"],
            "give the values that it requires",
        ),
        (
            "templates/no.yaml",
            "a: b: c",
            ["shop/templates/no.yaml", "YAML parse error"],
            "the values that it prints",
        ),
        (
            "templates/loop.yaml",
            "{{ define \"loop\" }}{{ include \"loop\" . }}{{ end }}\na: {{ include \"loop\" . }}",
            ["shop/templates/loop.yaml:2", "nested reference name"],
            "it includes itself without an end",
        ),
        (
            "templates/helper.yaml",
            "{{ include \"nobody.wrote.this\" . }}",
            ["shop/templates/helper.yaml:1", "nobody.wrote.this"],
            "give the values that it requires",
        ),
        (
            "values.schema.json",
            r#"{"properties": {"helper": {"type": "integer"}}}"#,
            ["'/helper'", "want integer"],
            "values that the chart's schema allows",
        ),
        (
            "Chart.yaml",
            "apiVersion: v2\nname: shop\nversion: 1.2.0\nkubeVersion: \">=1.99.0\"\n",
            [">=1.99.0", "v1.33.0"],
            "kubeVersion: in gantry.yaml",
        ),
    ] {
        let home = tempfile::tempdir().unwrap();
        let gantry = ready(home.path());
        gantry.write_file(&format!("shop/{name}"), content);

        let chart = text(&gantry.folder().join("shop"));
        refused(&gantry, &RELOCATE, &[parts[0], parts[1], &chart, next]);
        refused(&gantry, &OFFLINE, &[parts[0], parts[1], &chart, next]);
        refused(&gantry, &["images", "shop"], &[parts[0], parts[1], next]);
        gantry.write_file("gantry.yaml", "version: 1\nname: x\ncharts: [{chart: ./shop}]\n");
        refused(&gantry, &["lock"], &parts);
    }
}

#[test]
fn a_chart_with_a_part_missing_or_broken_is_told_with_what_mends_it() {
    let metadata = "apiVersion: v2\nname: shop\nversion: 1.2.0\n";
    let with_redis = format!(
        "{metadata}dependencies: [{{name: redis, version: 1.0.0, repository: \"https://x.example\"}}]\n"
    );
    for (name, content, parts) in [
        ("Chart.yaml", with_redis.as_str(), ["redis", "helm dependency build"]),
        ("Chart.yaml", "name: [\n", ["Chart.yaml", "line 1"]),
        ("Chart.yaml", "apiVersion: v2\nname: shop\n", ["shop", "version"]),
        ("values.yaml", "image: [\n", ["values.yaml", "line 1"]),
    ] {
        let home = tempfile::tempdir().unwrap();
        let gantry = ready(home.path());
        gantry.write_file(&format!("shop/{name}"), content);

        refused(&gantry, &RELOCATE, &parts);
        refused(&gantry, &OFFLINE, &parts);
        refused(&gantry, &["images", "shop"], &parts);
    }
}

#[test]
fn what_is_no_chart_is_told_to_be_none() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path());
    gantry.write_file("notes.txt", "docker.io/library/redis:7\n");
    gantry.write_file("cut.tgz", "hello");
    fs::create_dir(gantry.folder().join("empty")).unwrap();
    let archive = fs::read(testkit::tools::chart_archive("qdrant")).unwrap();
    fs::write(gantry.folder().join("half.tgz"), &archive[..archive.len() / 2]).unwrap();

    let torn = chart(&gantry.folder().join("torn"));
    fs::remove_file(torn.join("Chart.yaml")).unwrap();

    for (what, part) in [
        ("nothing", "there is no such chart"),
        ("torn/shop", "no Chart.yaml"),
        ("notes.txt", "notes.txt"),
        ("cut.tgz", "not a gzip archive"),
        ("half.tgz", "half.tgz"),
        ("empty", "no Chart.yaml"),
    ] {
        refused(&gantry, &["images", what], &[part]);
        refused(&gantry, &["relocate", what, "--site", "site.yaml"], &[part]);
    }
    // A values file contains no manifests, and neither does a pipe whose other end has failed.
    for what in ["shop/values.yaml", "-"] {
        refused(&gantry, &["images", what], &["no Kubernetes manifest"]);
    }
}

#[test]
fn init_takes_only_what_is_a_chart_and_values_that_are_there() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path());
    fs::create_dir(gantry.folder().join("empty")).unwrap();
    gantry.write_file("cut.tgz", "hello");
    gantry.write_file("unnamed/Chart.yaml", "apiVersion: v2\nname: shop\n");
    gantry.write_file("broken/Chart.yaml", "name: [\n");
    gantry.write_file("open.yaml", "a: 1\nb: [\n");

    for (more, parts) in [
        (&["empty"][..], ["empty", "has no Chart.yaml"]),
        (&["none"], ["none", "no such folder or file"]),
        (&["cut.tgz"], ["cut.tgz", "not a gzip archive"]),
        (&["unnamed"], ["unnamed", "version"]),
        (&["broken"], ["broken", "line 1"]),
        (&["shop", "-f", "absent.yaml"], ["absent.yaml", "No such file"]),
        (&["shop", "-f", "open.yaml"], ["open.yaml", "line 2"]),
    ] {
        refused(&gantry, &[&["init"], more].concat(), &parts);
    }
    gantry.run(["init", "shop"]).assert_success();
}

#[test]
fn values_with_a_mistake_are_told_with_their_file() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path());
    gantry.write_file("open.yaml", "a: 1\nb: [\n");
    gantry.write_file("list.yaml", "- a\n");

    for (more, parts) in [
        (["-f", "open.yaml"], ["open.yaml", "line 2"]),
        (["-f", "list.yaml"], ["list.yaml", "a map"]),
        (["-f", "none.yaml"], ["none.yaml", "No such file"]),
        (["--set", "image"], ["--set", "has no value"]),
        (["--set", "image[=x"], ["--set", "parsing index"]),
        (["--release", "My Shop"], ["My Shop", "invalid release name"]),
        (["--kube-version", "new"], ["new", "version"]),
    ] {
        refused(&gantry, &[&RELOCATE[..], &more].concat(), &parts);
        refused(&gantry, &[&OFFLINE[..], &more].concat(), &parts);
        refused(&gantry, &[&["images", "shop"][..], &more].concat(), &parts);
    }
}

#[test]
fn a_site_that_cannot_be_is_told_before_any_render() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path()).env("GANTRY_HELM", "/no/helm/is/needed");

    for (site, parts) in [
        ("version: 1\nregistry: {ulr: x}\n", ["site.yaml:2:12", "write one of url"]),
        ("version: 1\nregistry: {url: \"https://x/y\"}\n", ["site.yaml", "without a scheme"]),
        ("version: 1\nregistry: {url: x, naming: flat}\n", ["site.yaml:2:28", "host-path"]),
        ("version: 2\nregistry: {url: x.internal}\n", ["site.yaml", "version 2"]),
        ("version: 1\n", ["site.yaml", "registry"]),
        ("version: [\n", ["site.yaml", ":1:"]),
    ] {
        gantry.write_file("site.yaml", site);
        refused(&gantry, &RELOCATE, &parts);
    }
    fs::remove_file(gantry.folder().join("site.yaml")).unwrap();
    refused(&gantry, &RELOCATE, &["site.yaml", "No such file"]);
    refused(&gantry, &["relocate", "shop"], &["--site"]);
}

#[test]
fn names_that_would_collide_at_the_site_are_told_with_the_naming_that_separates_them() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path());
    let pod =
        "kind: Pod\nmetadata: {name: y}\nspec: {containers: [{image: \"ghcr.io/shop/web:3\"}]}\n";
    gantry.write_file("shop/templates/other.yaml", pod);

    let both = ["ghcr.io/shop/web", "quay.io/shop/web", "host-path"];
    refused(&gantry, &RELOCATE, &both);

    gantry.write_file("site.yaml", &SITE.replace("/ai", "/ai, naming: host-path"));
    gantry.run([&RELOCATE[..], &["--allow-leftovers"]].concat()).assert_success();
    assert!(gantry.read_file("overlay.yaml").contains("registry.internal:5000/ai/quay.io"));
}

#[test]
fn a_helm_that_is_missing_too_old_or_none_is_told_with_what_is_needed() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path());
    let missing = gantry.clone().env("PATH", "/nowhere");
    refused(&missing, &RELOCATE, &["`helm` on the PATH", "3.8.0 or newer", "GANTRY_HELM"]);

    for (says, parts) in [
        ("echo v3.1.0", ["is helm 3.1.0", "install helm 3.8.0 or newer"]),
        ("echo v5.0.0", ["is helm 5.0.0", "up to helm 4"]),
        ("echo I am no helm", ["does not print a helm version", "I am no helm"]),
        ("echo broken >&2; exit 1", ["does not print a helm version", "broken"]),
    ] {
        let helm = program(home.path(), &format!("#!/bin/sh\n{says}\n"));
        let gantry = gantry.clone().env("GANTRY_HELM", &helm);
        refused(&gantry, &RELOCATE, &[parts[0], parts[1], "GANTRY_HELM"]);
        refused(&gantry, &["images", "shop"], &parts);
    }
    let absent = gantry.env("GANTRY_HELM", "/no/such/helm");
    refused(&absent, &RELOCATE, &["/no/such/helm", "install helm 3.8.0"]);
}

#[test]
fn a_place_where_the_overlay_cannot_be_is_told_before_any_render() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path()).env("GANTRY_HELM", "/no/helm/is/needed");

    gantry.write_file("notes.md", "# my notes\n");

    for (more, part) in [
        (["-o", "none/overlay.yaml"], "the folder none does not exist"),
        (["-o", "shop"], "shop is a folder"),
        // What somebody else wrote stays, unless --force is given.
        (["-o", "site.yaml"], "Gantry did not write it"),
        (["--report", "notes.md"], "--force"),
        // The older overlay, or the user's own values, given as -f too.
        (["-f", "overlay.yaml"], "would be overwritten"),
        (["-f", "../work/./overlay.yaml"], "would be overwritten"),
        (["--report", "none/report.md"], "the folder none does not exist"),
        (["--report", "report.pdf"], "FILE.html, FILE.md or FILE.json"),
        (["--pull-policy", "Sometimes"], "IfNotPresent"),
    ] {
        refused(&gantry, &[&RELOCATE[..], &more].concat(), &[part]);
    }
}

#[test]
fn a_full_disk_leaves_the_older_overlay_and_nothing_half_written() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path());
    let disk = Tmpfs::new(64 << 10);
    let overlay = disk.path().join("overlay.yaml");
    fs::write(&overlay, OLDER).unwrap();
    let room = fs::write(disk.path().join("filler"), vec![0; 64 << 10]);
    assert!(room.is_err(), "the disk is full now");
    let before = files(disk.path());
    let to = text(&overlay);
    let run = [&RELOCATE[..], &["-o", &to]].concat();

    let full = gantry.run(&run).assert_exit_code(1);

    assert!(full.stderr.contains(&to), "{}", full.stderr);
    assert!(full.stderr.contains("No space left"), "{}", full.stderr);
    assert_eq!(fs::read_to_string(&overlay).unwrap(), OLDER);
    assert_eq!(files(disk.path()), before);
    fs::remove_file(disk.path().join("filler")).unwrap();
    gantry.run(&run).assert_success();
    assert!(fs::read_to_string(&overlay).unwrap().contains("registry.internal:5000/ai"));
}

#[test]
fn a_policy_file_of_somebody_else_is_found_before_an_audit_writes_its_report() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path());
    gantry.write_file("policies/shop.yaml", "# mine\n");
    let audit = ["audit", "--site", "site.yaml", "--chart", "shop", "--no-live", "-n", "shop"];
    let more = ["--report", "out", "--policies", "policies"];

    refused(&gantry, &[&audit[..], &more].concat(), &["policies/shop.yaml", "--force"]);

    assert!(!gantry.folder().join("out").exists());
}

#[test]
fn what_gantry_wrote_is_written_again_without_force() {
    let home = tempfile::tempdir().unwrap();
    let gantry = ready(home.path());
    let moved = |more| [&RELOCATE[..], more].concat();
    let audit = ["audit", "--site", "site.yaml", "--chart", "shop", "--no-live", "--report", "out"];
    let policy = ["policy", "egress", "--site", "site.yaml", "-n", "shop", "shop", "-o", "e.yaml"];

    for run in [
        moved(&["--report", "r.md", "--mirrors", "nodes"]),
        moved(&["--report", "r.html"]),
        moved(&["--report", "r.json"]),
        audit.to_vec(),
        policy.to_vec(),
    ] {
        for _ in 0..2 {
            gantry.run(&run).assert_success();
        }
    }
}

/// A user with the shop's chart, a site and an older overlay.
fn ready(home: &Path) -> Gantry {
    let gantry = alone(home);
    chart(gantry.folder());
    gantry.write_file("site.yaml", SITE);
    gantry.write_file("overlay.yaml", OLDER);
    gantry
}

/// The run ends with exit code 2 and says all of this, and no file has changed.
#[track_caller]
fn refused(gantry: &Gantry, run: &[&str], parts: &[&str]) {
    let before = files(gantry.folder());
    let failed = gantry.run(run).assert_exit_code(2);
    for part in parts {
        assert!(failed.stderr.contains(part), "{run:?}: no {part:?} in {}", failed.stderr);
    }
    assert!(failed.stdout.is_empty(), "{run:?}: {}", failed.stdout);
    assert_eq!(files(gantry.folder()), before, "{run:?}");
    assert_eq!(gantry.read_file("overlay.yaml"), OLDER, "{run:?}");
}

fn program(home: &Path, script: &str) -> PathBuf {
    let file = home.join("helm");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}
