//! The OCI endpoint with real clients: skopeo, crane, regctl, helm, curl.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use crate::common::{BUSYBOX, Filled, NGINX, Served};
use serde_json::{Value, json};
use testkit::tools;
use types::{Descriptor, RootKind, media_type};

fn world() -> (Filled, Served) {
    let world = Filled::new().with_images().with_chart();
    let served = Served::new(world.store.clone());
    (world, served)
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    tools::run_command(tools::tool_command(name).args(arguments).env("HOME", home.path()))
}

#[test]
fn crane_pulls_every_image_and_sees_the_source_s_digest() {
    let (world, served) = world();
    for image in world.images.iter() {
        let name = format!("{}/{}", served.host, image.reference);
        assert_eq!(
            tool("crane", &["digest", "--insecure", &name]).trim(),
            image.digest.to_string()
        );
        if image.reference.to_string() != BUSYBOX {
            let out = tempfile::tempdir().unwrap();
            let path = out.path().join("layout");
            let layout = path.to_str().unwrap();
            tool("crane", &["pull", "--insecure", "--format", "oci", &name, layout]);
            let index: Value =
                serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
            assert_eq!(index["manifests"][0]["digest"], image.digest.to_string());
            // Every layer is read again and compared with its digest.
            tool("crane", &["validate", "--insecure", "--remote", &name]);
        }
    }
}

#[test]
fn skopeo_pulls_by_full_name_by_path_and_by_digest() {
    let (world, served) = world();
    let host = &served.host;
    let digest = world.images.get(BUSYBOX).digest;
    for name in [
        format!("docker://{host}/{BUSYBOX}"),
        format!("docker://{host}/library/busybox:1.35"),
        format!("docker://{host}/docker.io/library/busybox@{digest}"),
        format!("docker://{host}/docker.io/busybox:1.35"),
    ] {
        let out = tempfile::tempdir().unwrap();
        let target = format!("oci:{}:busybox", out.path().join("layout").display());
        let platform = ["--override-os", "linux", "--override-arch", "amd64"];
        let copy = ["--insecure-policy", "copy", "--src-tls-verify=false", &name, &target];
        tool("skopeo", &[&platform[..], &copy].concat());
    }
    let listed: Value = serde_json::from_str(&tool(
        "skopeo",
        &["list-tags", "--tls-verify=false", &format!("docker://{host}/docker.io/library/redis")],
    ))
    .unwrap();
    assert_eq!(listed["Tags"], json!(["7.0"]));
}

#[test]
fn a_platform_that_was_not_carried_is_not_there_and_the_index_is_whole() {
    let (world, served) = world();
    let image = world.images.get(BUSYBOX);
    let arm = world.arm_of_busybox()[0];

    let index = served.get("/v2/docker.io/library/busybox/manifests/1.35");
    let child = served.get(&format!("/v2/docker.io/library/busybox/manifests/{arm}"));

    assert_eq!(index.body, fs::read(world.images.blob_path(&image.digest)).unwrap());
    assert_eq!(index.header("docker-content-digest"), Some(image.digest.to_string().as_str()));
    assert_eq!(child.status, 404);
    assert_eq!(child.json()["errors"][0]["code"], "MANIFEST_UNKNOWN");
}

#[test]
fn regctl_finds_signatures_and_boms() {
    let (world, served) = world();
    let image = world.images.get(NGINX);
    let regctl = |arguments: &[&str]| {
        let host = format!("reg={},tls=disabled", served.host);
        tool("regctl", &[&["--host", &host], arguments].concat())
    };
    let name = format!("{}/{NGINX}", served.host);

    let tree = regctl(&["artifact", "tree", &name]);
    let found = regctl(&["artifact", "list", "--format", "{{json .}}", &name]);
    let out = tempfile::tempdir().unwrap();
    let copy = format!("ocidir://{}:nginx", out.path().join("layout").display());
    regctl(&["image", "copy", "--referrers", "--digest-tags", &name, &copy]);
    let cosign = format!("sha256-{}.sig", image.digest.hex());
    let tags = regctl(&["tag", "ls", &format!("{}/docker.io/library/nginx", served.host)]);

    assert!(tags.lines().any(|tag| tag == cosign), "{tags}");
    let found: Value = serde_json::from_str(&found).unwrap();
    let referrers = found["descriptors"].as_array().unwrap();
    assert!(!referrers.is_empty(), "{found}");
    for referrer in referrers {
        assert!(tree.contains(referrer["digest"].as_str().unwrap()), "{tree}");
    }
    let types: Vec<&str> =
        referrers.iter().map(|referrer| referrer["artifactType"].as_str().unwrap()).collect();
    let one = served.get(&format!(
        "/v2/docker.io/library/nginx/referrers/{}?artifactType={}",
        image.digest,
        types[0].replace('+', "%2B")
    ));
    assert_eq!(one.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(one.header("content-type"), Some(media_type::OCI_INDEX));
    let of_type = types.iter().filter(|other| **other == types[0]).count();
    assert_eq!(one.json()["manifests"].as_array().unwrap().len(), of_type);
    // A referrer in one repository is not visible in another.
    let other = served.get(&format!("/v2/docker.io/library/redis/referrers/{}", image.digest));
    assert_eq!(other.json()["manifests"], json!([]));
}

#[test]
fn helm_pulls_a_chart() {
    let (_world, served) = world();
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let chart = format!("oci://{}/ghcr.io/charts/hello", served.host);

    tool("helm", &["pull", &chart, "--version", "0.1.0", "--plain-http", "-d", folder]);
    let shown = tool("helm", &["show", "chart", &format!("{folder}/hello-0.1.0.tgz")]);

    assert!(shown.contains("name: hello"), "{shown}");
}

#[test]
fn a_node_s_mirror_is_answered_by_its_ns() {
    let world = Filled::new();
    let config = world.store.put_bytes(b"{}").unwrap();
    let image = |number: u32| {
        json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::new(media_type::OCI_CONFIG, config, 2),
            "layers": [],
            "annotations": { "number": number.to_string() },
        })
    };
    let put = |name: &str, number| {
        world.put(name, RootKind::Image, media_type::OCI_MANIFEST, &image(number))
    };
    let (docker, quay) = (put("docker.io/team/app:1", 1), put("quay.io/team/app:1", 2));
    put("quay.io/library/only:1", 3);
    let served = Served::new(world.store.clone());
    let digest = |path: &str| {
        served.curl(path, &["--head"]).header("docker-content-digest").unwrap_or("none").to_owned()
    };

    assert_eq!(digest("/v2/team/app/manifests/1?ns=docker.io"), docker.to_string());
    assert_eq!(digest("/v2/team/app/manifests/1?ns=registry-1.docker.io"), docker.to_string());
    assert_eq!(digest("/v2/team/app/manifests/1?ns=quay.io"), quay.to_string());
    assert_eq!(digest("/v2/quay.io/team/app/manifests/1?ns=quay.io"), quay.to_string());
    assert_eq!(digest("/v2/team/app/manifests/1?ns=ghcr.io"), "none");
    assert_eq!(digest("/v2/quay.io/team/app/manifests/1?ns=docker.io"), "none");
    // docker.io's short form must not find another host's image.
    assert_eq!(digest("/v2/docker.io/only/manifests/1"), "none");
    assert_eq!(digest(&format!("/v2/docker.io/team/app/manifests/{quay}")), "none");

    let ambiguous = served.get("/v2/team/app/manifests/1");
    assert_eq!(ambiguous.status, 404);
    let message = ambiguous.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("docker.io/team/app, quay.io/team/app"), "{message}");
}

#[test]
fn blobs_come_whole_in_ranges_and_only_where_they_belong() {
    let (world, served) = world();
    let image = world.images.get("docker.io/library/redis:7.0");
    let (digest, size) = image.blobs.iter().max_by_key(|(_, size)| **size).unwrap();
    let bytes = fs::read(world.images.blob_path(digest)).unwrap();
    let path = format!("/v2/docker.io/library/redis/blobs/{digest}");

    let head = served.curl(&path, &["--head"]);
    let whole = served.get(&path);
    let middle = served.curl(&path, &["--range", "1000-1999"]);
    let rest = served.curl(&path, &["--range", &format!("{}-", size - 7)]);
    let tail = served.curl(&path, &["--range", "-5"]);
    let beyond = served.curl(&path, &["--range", &format!("{size}-")]);

    assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.body, bytes);
    assert_eq!(whole.header("location"), Some(path.as_str()), "ollama needs it");
    assert_eq!((middle.status, middle.body.as_slice()), (206, &bytes[1000..2000]));
    assert_eq!(rest.body, bytes[bytes.len() - 7..]);
    assert_eq!(tail.body, bytes[bytes.len() - 5..]);
    assert_eq!(
        (beyond.status, beyond.header("content-range").unwrap()),
        (416, format!("bytes */{size}").as_str())
    );

    let elsewhere = served.get(&format!("/v2/ghcr.io/charts/hello/blobs/{digest}"));
    assert_eq!(elsewhere.json()["errors"][0]["code"], "BLOB_UNKNOWN");
    let wrong = served.get("/v2/docker.io/library/redis/blobs/sha256:12");
    assert_eq!((wrong.status, &wrong.json()["errors"][0]["code"]), (400, &json!("DIGEST_INVALID")));
    let push = served.curl("/v2/docker.io/library/redis/blobs/uploads/", &["--request", "POST"]);
    assert_eq!((push.status, &push.json()["errors"][0]["code"]), (405, &json!("UNSUPPORTED")));
}

#[test]
fn lists_come_in_pages() {
    let world = Filled::new();
    let config = world.store.put_bytes(b"{}").unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor::new(media_type::OCI_CONFIG, config, 2),
        "layers": [],
    });
    for tag in ["1", "1.10", "2", "latest"] {
        world.put(
            &format!("quay.io/a/b:{tag}"),
            RootKind::Image,
            media_type::OCI_MANIFEST,
            &manifest,
        );
    }
    world.put("quay.io/c/d:1", RootKind::Image, media_type::OCI_MANIFEST, &manifest);
    let served = Served::new(world.store.clone());
    let walk = |first: &str, key: &str| {
        let (mut next, mut pages) = (Some(first.to_owned()), Vec::new());
        while let Some(path) = next {
            let answer = served.get(&path);
            pages.push(answer.json()[key].clone());
            let link = answer.header("link").and_then(|link| link.strip_prefix('<'));
            next = link
                .and_then(|link| link.split_once(">; rel=\"next\""))
                .map(|(url, _)| url.to_owned());
        }
        Value::from(pages)
    };

    assert_eq!(
        walk("/v2/quay.io/a/b/tags/list?n=3", "tags"),
        json!([["1", "1.10", "2"], ["latest"]])
    );
    assert_eq!(
        walk("/v2/a/b/tags/list?n=2&ns=quay.io", "tags"),
        json!([["1", "1.10"], ["2", "latest"]])
    );
    assert_eq!(walk("/v2/quay.io/a/b/tags/list?n=0", "tags"), json!([[]]));
    assert_eq!(walk("/v2/quay.io/a/b/tags/list?last=2", "tags"), json!([["latest"]]));
    assert_eq!(walk("/v2/_catalog?n=1", "repositories"), json!([["quay.io/a/b"], ["quay.io/c/d"]]));
}

#[test]
fn an_ollama_model_s_manifest_is_pulled_verbatim() {
    let world = Filled::new();
    let (config, layer) =
        (world.store.put_bytes(b"{}").unwrap(), world.store.put_bytes(b"GGUF").unwrap());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_MANIFEST,
        "config": Descriptor::new("application/vnd.docker.container.image.v1+json", config, 2),
        "layers": [Descriptor::new("application/vnd.ollama.image.model", layer, 4)],
    });
    let name = "registry.ollama.ai/library/qwen2.5:3b";
    let digest = world.put(name, RootKind::Ollama, media_type::DOCKER_MANIFEST, &manifest);
    let served = Served::new(world.store.clone());

    let answer = served.get("/v2/library/qwen2.5/manifests/3b");
    let out = tempfile::tempdir().unwrap();
    let layout = out.path().join("layout");
    tool(
        "crane",
        &[
            "pull",
            "--insecure",
            "--format",
            "oci",
            &format!("{}/{name}", served.host),
            layout.to_str().unwrap(),
        ],
    );

    assert_eq!(answer.text(), manifest.to_string());
    assert_eq!(answer.header("content-type"), Some(media_type::DOCKER_MANIFEST));
    assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
    assert_eq!(fs::read(layout.join("blobs/sha256").join(layer.hex())).unwrap(), b"GGUF");
}

#[test]
fn content_of_a_sha512_is_served_under_it_and_never_with_wrong_bytes() {
    let world = Filled::new();
    let root = testkit::store_suite::add_long_digest_sample(&world.store);
    let served = Served::new(world.store.clone());
    let closure = store::find_closure(&world.store, &root).unwrap();
    let at = |kind: &str, version: &str| format!("/v2/quay.io/long/digests/{kind}/{version}");

    let by_tag = served.get(&at("manifests", "1"));

    let digest = root.descriptor.digest.to_string();
    assert_eq!(by_tag.header("docker-content-digest"), Some(digest.as_str()));
    assert!(store::hash::has_digest(&by_tag.body, &root.descriptor.digest));
    for manifest in &closure.manifests {
        let got = served.get(&at("manifests", &manifest.digest.to_string()));
        assert!(store::hash::has_digest(&got.body, &manifest.digest), "{}", manifest.digest);
    }
    for blob in &closure.blobs {
        let path = at("blobs", &blob.digest.to_string());
        let got = served.get(&path);
        assert!(store::hash::has_digest(&got.body, &blob.digest), "{}", blob.digest);
        let range = served.curl(&path, &["--range", "2-5"]);
        assert_eq!((range.status, &range.body[..]), (206, &got.body[2..6]));
    }
    let other = served.get(&at("blobs", "sha384:00"));
    assert_eq!((other.status, &other.json()["errors"][0]["code"]), (400, &json!("DIGEST_INVALID")));

    let layer = closure.blobs.iter().max_by_key(|blob| blob.size).unwrap();
    let path = world.store.blob_path(&layer.digest);
    let mut bytes = fs::read(&path).unwrap();
    bytes[9] ^= 1;
    fs::write(&path, bytes).unwrap();
    let served = Served::new(world.store.clone());
    let range = served.curl(&at("blobs", &layer.digest.to_string()), &["--range", "2-5"]);
    assert_eq!(range.status, 500, "{}", range.text());
    assert!(range.text().contains(&layer.digest.to_string()), "{}", range.text());
}
