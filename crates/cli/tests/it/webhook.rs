//! `gantry webhook manifests`: writes the same manifests for the same lock and site, and refuses bad input
//! before anything is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::story::alone;
use serde_json::Value;
use testkit::Gantry;

const SITE: &str = "version: 1\nregistry: {url: 'registry.internal:5000/ai', pullSecret: site}\n";
const OWN: &str = concat!("ghcr.io/gantry/gantry:", env!("CARGO_PKG_VERSION"));
const MANIFESTS: [&str; 4] = ["webhook", "manifests", "--site", "site.yaml"];

/// A lock with one image for each reference, each with a layer.
fn lock(references: &[&str]) -> String {
    let mut text = "version: 1\nname: shop\nplatforms: [linux/amd64]\n".to_owned();
    if !references.is_empty() {
        text.push_str("images:\n");
    }
    for reference in references {
        let digest = "ab".repeat(32);
        text.push_str(&format!(
            "- reference: {reference}\n  digest: sha256:{digest}\n  mediaType: m\n  size: 1\n  \
             platforms: [linux/amd64]\n  manifests: [{{digest: 'sha256:{digest}', size: 1, mediaType: m, \
             layers: [{{digest: 'sha256:{layer}', size: 5}}]}}]\n  seen: [{{by: gantry.yaml}}]\n",
            layer = "cd".repeat(32),
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

fn object<'a>(written: &'a Value, kind: &str) -> &'a Value {
    let manifests = written["manifests"].as_array().unwrap();
    manifests.iter().find(|manifest| manifest["kind"] == kind).unwrap_or_else(|| panic!("{kind}"))
}

#[test]
fn the_objects_are_written_from_lock_and_site_and_fail_closed_for_guarded_namespaces_alone() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &["quay.io/shop/web:2.1", OWN]);

    let printed = gantry.run(MANIFESTS).assert_success().stdout;
    let file = gantry.run(MANIFESTS.iter().chain(&["-o", "webhook.yaml"])).assert_success().stdout;
    let written =
        gantry.run(MANIFESTS.iter().chain(&["--output", "json"])).assert_success().parse_json();

    assert_eq!(gantry.read_file("webhook.yaml").trim_end(), printed.trim_end());
    assert!(file.contains("kubectl label namespace"), "{file}");
    let kinds: Vec<&str> = written["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| object["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.first().copied(), Some("Namespace"));
    assert_eq!(kinds.last().copied(), Some("MutatingWebhookConfiguration"), "it goes last");
    let webhooks = object(&written, "MutatingWebhookConfiguration")["webhooks"].clone();
    assert_eq!(
        (&webhooks[0]["failurePolicy"], &webhooks[1]["failurePolicy"]),
        (&"Fail".into(), &"Ignore".into())
    );
    for webhook in webhooks.as_array().unwrap() {
        let selector = &webhook["namespaceSelector"];
        assert!(selector["matchLabels"]["gantry.dev/guard"].is_string(), "{webhook}");
        let left_out = &selector["matchExpressions"][0];
        assert_eq!(left_out["operator"], "NotIn");
        for namespace in ["kube-system", "gantry-system"] {
            assert!(left_out["values"].as_array().unwrap().contains(&namespace.into()));
        }
        assert_eq!(
            (&webhook["timeoutSeconds"], &webhook["sideEffects"]),
            (&5.into(), &"None".into())
        );
    }
    let pod = &object(&written, "Deployment")["spec"]["template"]["spec"];
    let image = pod["containers"][0]["image"].as_str().unwrap();
    assert!(image.starts_with("registry.internal:5000/ai/gantry/gantry@sha256:abab"), "{image}");
    assert_eq!(pod["imagePullSecrets"][0]["name"], "site");
    let data = &object(&written, "ConfigMap")["data"];
    let short = data["0.lock"].as_str().unwrap();
    assert!(short.contains("quay.io/shop/web:2.1") && !short.contains("cdcd"), "{short}");
    let rules = &object(&written, "ClusterRole")["rules"];
    assert_eq!(rules[0]["resourceNames"][0], "gantry-webhook");
    assert_eq!(rules.as_array().unwrap().len(), 1);
}

#[test]
fn outside_of_the_cluster_the_configuration_alone_is_written() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &["quay.io/shop/web:2.1"]);
    gantry.write_file("ca.crt", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");

    let outside = ["--url", "https://10.0.0.5:8443", "--ca", "ca.crt", "--output", "json"];
    let written = gantry.run(MANIFESTS.iter().chain(&outside)).assert_success().parse_json();

    assert_eq!(written["objects"].as_array().unwrap().len(), 1);
    let client = &object(&written, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"];
    assert_eq!(client["url"], "https://10.0.0.5:8443/enforce");
    assert!(client["caBundle"].as_str().unwrap().starts_with("LS0tLS1CRUdJTi"), "{client}");
}

#[test]
fn what_makes_no_webhook_is_told_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path(), &["quay.io/shop/web:2.1", OWN]);
    let fails = |arguments: &[&str], why: &str| {
        let error = gantry.run(arguments).assert_exit_code(2).stderr;
        assert!(error.contains(why), "{arguments:?}: {error}");
        assert!(!gantry.folder().join("w.yaml").exists());
    };
    let to_file = [&MANIFESTS[..], &["-o", "w.yaml"]].concat();

    fails(&["webhook"], "--site");
    fails(&["webhook", "--site", "site.yaml"], "--self-signed");
    fails(
        &["webhook", "--site", "site.yaml", "--tls-cert", "a", "--tls-key", "b", "--listen", "x"],
        "--listen x",
    );
    fails(&[&to_file[..], &["--namespace", "Shop_1"]].concat(), "not a valid namespace name");
    fails(&[&to_file[..], &["--url", "http://h"]].concat(), "https://");
    fails(
        &[&to_file[..], &["--ca", "site.yaml", "--tls-secret", "x"]].concat(),
        "no PEM certificate",
    );
    let self_signed = ["webhook", "--site", "site.yaml", "--self-signed", "secret", "--host", "h"];
    fails(&self_signed, "NAMESPACE/SECRET");
    gantry.write_file("gantry.lock", &lock(&["quay.io/shop/web:2.1"]));
    fails(&to_file, "tools: [gantry]");
    gantry.write_file("gantry.lock", &lock(&[]));
    fails(&to_file, "would refuse every pod");
    std::fs::remove_file(gantry.folder().join("gantry.lock")).unwrap();
    fails(&to_file, "gantry lock");
    fails(&["webhook", "--site", "site.yaml", "--tls-cert", "a", "--tls-key", "b"], "gantry.lock");
}
