//! The registry and the images that are placed into it, seen by the clients that people use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use gantry_testkit::{TestImages, TestLogin, TestRegistry, images, tools};

/// The fast set in a registry of its own.
fn filled() -> (TestImages, TestRegistry) {
    let images = TestImages::fast();
    let registry = TestRegistry::start();
    images.place_in_storage(registry.storage());
    (images, registry)
}

fn skopeo(arguments: &[&str]) -> serde_json::Value {
    let text = tools::run_command(tools::tool_command("skopeo").args(arguments));
    serde_json::from_str(&text).expect("skopeo prints JSON")
}

#[test]
fn crane_reads_every_image_with_the_digest_that_the_set_tells() {
    let (images, registry) = filled();

    for image in images.iter() {
        let name = format!("{}/{}:{}", registry.host(), image.repository(), image.tag());
        let digest =
            tools::run_command(tools::tool_command("crane").args(["digest", "--insecure", &name]));
        assert_eq!(digest.trim(), image.digest.to_string(), "{name}");
        tools::run_command(tools::tool_command("crane").args([
            "validate",
            "--insecure",
            "--remote",
            &name,
        ]));
    }
}

#[test]
fn skopeo_copies_an_image_of_two_platforms_into_a_layout() {
    let (_, registry) = filled();
    let folder = tempfile::tempdir().unwrap();
    let source = format!("docker://{}/library/nginx:1.22", registry.host());
    let target = format!("oci:{}:1.22", folder.path().display());

    tools::run_command(tools::tool_command("skopeo").args([
        "copy",
        "--all",
        "--src-tls-verify=false",
        &source,
        &target,
    ]));

    let manifest = skopeo(&["inspect", "--raw", &target]);
    assert_eq!(manifest["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn skopeo_pushes_a_layout_of_the_set_to_an_empty_registry() {
    let images = TestImages::fast();
    let registry = TestRegistry::start();
    let layout = images.layout_path("docker.io/library/nginx:1.22");
    let target = format!("{}/library/nginx:1.22", registry.host());

    tools::run_command(tools::tool_command("skopeo").args([
        "copy",
        "--all",
        "--preserve-digests",
        "--dest-tls-verify=false",
        &format!("oci:{}:1.22", layout.display()),
        &format!("docker://{target}"),
    ]));

    let digest =
        tools::run_command(tools::tool_command("crane").args(["digest", "--insecure", &target]));
    assert_eq!(digest.trim(), images.get("docker.io/library/nginx:1.22").digest.to_string());
}

#[test]
fn regctl_finds_the_signature_and_the_sbom_of_an_image() {
    let (images, registry) = filled();
    let image = images.get("docker.io/library/nginx:1.22");
    let name = format!("{}/{}@{}", registry.host(), image.repository(), image.digest);
    let host = format!("reg={},tls=disabled", registry.host());

    let list = tools::run_command(tools::tool_command("regctl").args([
        "--host",
        &host,
        "artifact",
        "list",
        &name,
        "--format",
        "{{json .}}",
    ]));
    assert!(list.contains("application/spdx+json"), "{list}");
    assert!(list.contains("application/vnd.dev.cosign.artifact.sig.v1+json"), "{list}");

    let tag = format!("{}:sha256-{}.sig", name.split_once('@').unwrap().0, image.digest.hex());
    let by_tag =
        tools::run_command(tools::tool_command("crane").args(["manifest", "--insecure", &tag]));
    assert!(by_tag.contains("dev.cosignproject.cosign/signature"), "{by_tag}");
}

#[test]
fn a_registry_with_a_login_and_tls_lets_in_who_has_both() {
    let registry = TestRegistry::builder().login(TestLogin::new("ada", "engine")).tls().start();
    TestImages::fast()
        .select(&["ghcr.io/gantry-examples/tools:1.0"])
        .place_in_storage(registry.storage());
    let name = format!("docker://{}/gantry-examples/tools:1.0", registry.host());
    let authority = registry.authority().unwrap().ca_folder().display().to_string();
    let inspect = ["inspect", "--cert-dir", &authority, "--creds", "ada:engine", name.as_str()];

    assert_eq!(skopeo(&inspect)["Architecture"], "amd64");

    let stranger = [&inspect[..3], &["--no-creds"], &inspect[5..]].concat();
    let refused = tools::tool_command("skopeo").args(stranger).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("authentication required"));
    let unverified = [&inspect[..1], &inspect[3..]].concat();
    let distrusted = tools::tool_command("skopeo").args(unverified).output().unwrap();
    assert!(String::from_utf8_lossy(&distrusted.stderr).contains("certificate"));
}

#[test]
fn a_registry_comes_back_on_its_port_with_what_it_had() {
    let storage = tempfile::tempdir().unwrap();
    TestImages::fast().place_in_storage(storage.path());
    let first = TestRegistry::builder().storage(storage.path()).start();
    let port = first.host().rsplit_once(':').unwrap().1.parse().unwrap();
    drop(first);

    let second = TestRegistry::builder().storage(storage.path()).port(port).start();

    let name = format!("{}/library/busybox:1.35", second.host());
    tools::run_command(tools::tool_command("crane").args(["digest", "--insecure", &name]));
    assert!(second.storage_bytes() > 30_000_000);
}

#[test]
fn the_fast_set_is_small_and_has_all_kinds_of_images() {
    let images = TestImages::fast();

    assert!(images.unique_bytes() < 40_000_000, "{} bytes", images.unique_bytes());
    assert!(images.iter().count() >= 8);
    let hosts: std::collections::BTreeSet<_> =
        images.iter().map(|image| image.reference.registry()).collect();
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["docker.io", "ghcr.io", "quay.io"]);
    let separate: u64 = images.iter().map(images::TestImage::bytes).sum();
    assert!(images.unique_bytes() < separate, "layers are shared");
    assert!(images.iter().any(|image| image.platforms.len() == 2));
    assert!(images.iter().any(|image| image.is_signed));
}
