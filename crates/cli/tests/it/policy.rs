//! `gantry policy`: a policy that admits only locked images, and network policies that block connections
//! to the outside, with a report of what they cannot cover.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::story::{alone, chart};
use testkit::Gantry;

const SITE: &str = "version: 1\nregistry: {url: 'registry.internal:5000/ai'}\n";
const IMAGES: [&str; 6] = ["policy", "images", "--site", "site.yaml", "--namespace", "shop"];
const EGRESS: [&str; 6] = ["policy", "egress", "--site", "site.yaml", "--namespace", "shop"];

/// A lock with one image for each reference.
fn lock(references: &[&str]) -> String {
    let mut text = "version: 1\nname: shop\nplatforms: [linux/amd64]\n".to_owned();
    if !references.is_empty() {
        text.push_str("images:\n");
    }
    for reference in references {
        let digest = "ab".repeat(32);
        text.push_str(&format!(
            "- reference: {reference}\n  digest: sha256:{digest}\n  mediaType: m\n  size: 1\n  \
             platforms: [linux/amd64]\n  manifests: [{{digest: 'sha256:{digest}', size: 1, mediaType: m}}]\n  \
             seen: [{{by: gantry.yaml}}]\n"
        ));
    }
    text
}

fn user(home: &std::path::Path, references: &[&str]) -> Gantry {
    let gantry = alone(home);
    gantry.write_file("site.yaml", SITE);
    gantry.write_file("gantry.lock", &lock(references));
    gantry
}

#[test]
fn the_site_is_found_where_the_lock_is() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &["quay.io/shop/web:2.1"]);
    for file in ["site.yaml", "gantry.lock"] {
        let from = gantry.folder().join(file);
        gantry.write_file(&format!("project/{file}"), &std::fs::read_to_string(&from).unwrap());
        std::fs::remove_file(from).unwrap();
    }
    let images = |site: &str| {
        gantry.run(["-C", "project", "policy", "images", "--site", site, "--namespace", "shop"])
    };
    let found = images("site.yaml").assert_success().stdout;
    assert!(found.contains("shop/web"), "{found}");
    // As before, a path from the working folder is found too; of two files the project's counts.
    images("project/site.yaml").assert_success();
    gantry.write_file("site.yaml", "version: 7\n");
    images("site.yaml").assert_success();
    let missing = images("other.yaml").assert_exit_code(2);
    assert!(missing.stderr.contains("project/other.yaml"), "{}", missing.stderr);
}

#[test]
fn the_locked_images_become_a_policy_that_is_the_same_from_run_to_run() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &["quay.io/shop/web:2.1", "docker.io/library/busybox:1.35"]);

    let printed = gantry.run(IMAGES).assert_success().stdout;
    let written = gantry
        .run(IMAGES.iter().chain(&["-o", "policy.yaml", "--output", "json"]))
        .assert_success()
        .parse_json();

    assert_eq!(gantry.read_file("policy.yaml").trim_end(), printed.trim_end());
    assert!(printed.contains("\"shop/web\": \"2.1 sha256:abab"), "{printed}");
    assert_eq!(written["file"], "policy.yaml");
    assert_eq!(written["objects"][0]["kind"], "ValidatingAdmissionPolicy");
    assert_eq!(written["objects"][1]["name"], "gantry-images-shop");
    assert_eq!(written["repositoryCount"], 2);
    let json = gantry.run(IMAGES.iter().chain(&["--output", "json"])).assert_success().parse_json();
    assert_eq!(json["manifests"][0]["spec"]["failurePolicy"], "Fail");
}

#[test]
fn all_namespaces_are_guarded_with_a_warning_and_without_the_clusters_own() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &["quay.io/shop/web:2.1"]);

    let all = ["policy", "images", "--site", "site.yaml", "--kind", "gatekeeper"];
    let policy = gantry.run(all).assert_success();

    assert!(policy.stderr.contains("--warn first"), "{}", policy.stderr);
    assert!(policy.stdout.contains("- kube-system"), "{}", policy.stdout);
}

#[test]
fn what_makes_no_policy_is_told_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &["quay.io/shop/web:2.1", "ghcr.io/shop/web:2.1"]);
    let to_file: Vec<&str> = IMAGES.iter().copied().chain(["-o", "policy.yaml"]).collect();
    let fails = |arguments: &[&str], why: &str| {
        let error = gantry.run(arguments).assert_exit_code(2).stderr;
        assert!(error.contains(why), "{error}");
        assert!(!gantry.folder().join("policy.yaml").exists());
    };

    fails(&to_file, "naming host-path");
    gantry.write_file("gantry.lock", &lock(&[]));
    fails(&to_file, "would refuse every pod");
    std::fs::remove_file(gantry.folder().join("gantry.lock")).unwrap();
    fails(&to_file, "gantry lock");
    gantry.write_file("gantry.lock", &lock(&["quay.io/shop/web:2.1"]));
    fails(&[&to_file[..], &["--namespace", "Shop_1"]].concat(), "not a valid namespace name");
    fails(
        &[&IMAGES[..], &["-o", "nowhere/policy.yaml"]].concat(),
        "the folder nowhere does not exist",
    );
    gantry.write_file("site.yaml", "version: 1\nregistry: {url: registry}\n");
    fails(&to_file, "a dot or a port");
}

#[test]
fn a_namespace_is_closed_and_what_of_its_chart_is_not_held_is_told() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &["quay.io/shop/web:2.1"]);
    let folder = chart(gantry.folder());
    let agent = "kind: DaemonSet\napiVersion: apps/v1\nmetadata: {name: agent}\nspec: {template: \
                 {spec: {hostNetwork: true, containers: []}}}\n";
    std::fs::write(folder.join("templates/agent.yaml"), agent).unwrap();

    let run = EGRESS.iter().chain(&["shop", "--allow", "10.0.0.5:5000", "-o", "e.yaml"]);
    let closed = gantry.run(run.chain(&["--output", "json"])).assert_success();

    assert!(closed.stderr.contains("DaemonSet agent"), "{}", closed.stderr);
    let gaps = closed.parse_json()["gaps"].clone();
    assert_eq!(gaps.as_array().unwrap().len(), 1, "{gaps}");
    assert_eq!(gaps[0]["why"], "host-network");
    let policies = gantry.read_file("e.yaml");
    assert!(policies.contains("# not covered: DaemonSet agent"), "{policies}");
    assert!(policies.contains("cidr: 10.0.0.5/32"), "{policies}");
}

#[test]
fn a_flow_to_a_name_or_to_everything_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &[]);
    for (flow, why) in [("registry.internal:5000", "not names"), ("0.0.0.0/0", "everything")] {
        let error = gantry.run(EGRESS.iter().chain(&["--allow", flow])).assert_exit_code(2).stderr;
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_policy_for_the_cluster_s_own_namespaces_comes_with_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &["quay.io/shop/web:2.1"]);
    chart(gantry.folder());
    let audit = ["audit", "--no-live", "--chart", "shop", "--site", "site.yaml", "--policies", "p"];
    for verb in [&IMAGES[..4], &EGRESS[..4], &audit] {
        for (namespaces, expected) in [
            (&["kube-system"][..], Some("kube-system: this namespace is the cluster's own")),
            (&["shop", "kube-node-lease"], Some("kube-node-lease: this namespace is")),
            (&["shop"], None),
        ] {
            // `policy egress` takes one.
            let last = &namespaces[namespaces.len() - 1..];
            let namespaces = if verb[1] == "egress" { last } else { namespaces };
            let options = namespaces.iter().flat_map(|name| ["--namespace", name]);
            let run = gantry.run(verb.iter().copied().chain(options).chain(["--force"]));
            assert!(run.code.is_some_and(|code| code != 2), "{}", run.stderr);
            let warned = run.stderr.contains("the cluster's own");
            assert_eq!(warned, expected.is_some(), "{verb:?} {namespaces:?} {}", run.stderr);
            assert!(run.stderr.contains(expected.unwrap_or_default()), "{}", run.stderr);
        }
    }
}
