//! Any reference is found in any of the locations where charts name images, and texts that are not
//! images are found in none of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine as _;
use gantry_chart::find::{self, Confidence};
use proptest::prelude::*;
use types::Reference;

/// A location: makes a stream of manifests with the given text in it.
type Place = fn(&str) -> String;

/// Locations whose key names an image.
const NAMED: &[(&str, Place)] = &[
    ("custom resource", |image| {
        format!("apiVersion: x.example/v1\nkind: App\nspec: {{deep: [{{baseImage: '{image}'}}]}}\n")
    }),
    ("container of a custom resource", |image| {
        format!(
            "apiVersion: x.example/v1\nkind: App\nspec: {{template: {{spec: {{containers: [{{name: c, image: \
             '{image}'}}]}}}}}}\n"
        )
    }),
    ("argument", |image| container(&format!("args: ['--executor-image={image}']"))),
    ("next argument", |image| container(&format!("args: ['--executor-image', '{image}']"))),
    ("single dash", |image| container(&format!("args: ['-entrypoint-image', '{image}']"))),
    ("map in an argument", |image| {
        container(&format!("args: ['--runtime-images=a={image},b={image}']"))
    }),
    ("environment", |image| container(&format!("env: [{{name: WORKER_IMAGE, value: '{image}'}}]"))),
    ("related image", |image| {
        container(&format!("env: [{{name: RELATED_IMAGE_X, value: '{image}'}}]"))
    }),
    ("ConfigMap", |image| format!("kind: ConfigMap\ndata: {{SANDBOX_IMAGE: '{image}'}}\n")),
    ("JSON", |image| {
        format!("kind: ConfigMap\ndata: {{a: '{{\"x\": {{\"image\": \"{image}\"}}}}'}}\n")
    }),
    ("YAML", |image| {
        format!("kind: ConfigMap\ndata:\n  a.yaml: |\n    b:\n      image: {image}\n")
    }),
    ("TOML", |image| {
        format!("kind: ConfigMap\ndata:\n  a.toml: |\n    [b]\n    image = \"{image}\"\n")
    }),
    ("INI", |image| {
        format!("kind: ConfigMap\ndata:\n  a.ini: |\n    [b]\n    image = {image}\n    x = %(y)s\n")
    }),
    ("Secret", |image| {
        let text = format!("b: {{image: '{image}'}}\nc: 1\n");
        let data = base64::engine::general_purpose::STANDARD.encode(text);
        format!("kind: Secret\ndata: {{values.yaml: {data}}}\n")
    }),
    ("annotation", |image| {
        format!(
            "kind: Pod\nmetadata: {{annotations: {{sidecar.istio.io/proxyImage: '{image}'}}}}\n"
        )
    }),
];

/// Locations where only the form of the text shows that it is an image.
const BY_FORM: &[(&str, Place)] = &[
    ("custom resource", |image| {
        format!("apiVersion: x.example/v1\nkind: App\nspec: {{runtime: '{image}'}}\n")
    }),
    ("argument", |image| container(&format!("args: ['--prometheus-config-reloader={image}']"))),
    ("environment", |image| container(&format!("env: [{{name: RELOADER, value: '{image}'}}]"))),
    ("script", |image| {
        format!("kind: ConfigMap\ndata:\n  run.sh: |\n    #!/bin/sh\n    crictl pull {image}\n")
    }),
];

/// Locations that the kubelet reads.
const PULLED: &[(&str, Place)] = &[
    ("container", |image| container_of("containers", image)),
    ("init container", |image| container_of("initContainers", image)),
    ("ephemeral container", |image| container_of("ephemeralContainers", image)),
    ("image volume", |image| {
        format!("kind: Pod\nspec: {{volumes: [{{image: {{reference: '{image}'}}}}]}}\n")
    }),
    ("list", |image| {
        format!(
            "kind: List\nitems: [{{kind: Pod, spec: {{containers: [{{image: '{image}'}}]}}}}]\n"
        )
    }),
    ("cron job", |image| {
        format!(
            "kind: CronJob\nspec: {{jobTemplate: {{spec: {{template: {{spec: {{containers: [{{image: \
             '{image}'}}]}}}}}}}}}}\n"
        )
    }),
];

/// Texts that resemble images and are not.
const NO_IMAGES: &[&str] = &[
    "",
    "auto",
    "true",
    "latest",
    "1.2.3",
    "v1",
    "Always",
    "https://ghcr.io/a/b:1",
    "oci://ghcr.io/a/charts/b:1",
    "github.com/org/app",
    "github.com/org/app:v1",
    "sigs.k8s.io/kustomize/api",
    "k8s.io/client-go",
    "/bin/sh",
    "./image.png",
    "10.0.0.1:8080",
    "api.example.com:443",
    "$(IMAGE)",
    "${IMAGE}:1",
    "%(image)s",
    "a b:c",
    "BAAI/bge-m3",
    "data:image/png",
];

/// Texts that are images only where a key says so.
const NONE_BY_FORM: &[&str] = &[
    "redis:6379",
    "info:2",
    "org/app",
    "org/app:1",
    "text/plain",
    "minio.ns.svc:9000/bucket",
    "minio.ns.svc:9000/bucket:x",
    "ghcr.io/org/app",
];

fn container(body: &str) -> String {
    format!("kind: Pod\nspec: {{containers: [{{name: c, {body}}}]}}\n")
}

fn container_of(list: &str, image: &str) -> String {
    format!("kind: Pod\nspec: {{{list}: [{{name: c, image: '{image}'}}]}}\n")
}

/// The references in a stream that are found with at least this confidence.
fn found(stream: &str, at_least: Confidence) -> Vec<String> {
    find::find_images(stream)
        .references_at_least(at_least)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("ghcr.io".to_owned()),
        Just("localhost:5000".to_owned()),
        Just("10.1.2.3:5000".to_owned()),
        "[a-z][a-z0-9]{1,6}\\.[a-z]{2,4}(:[1-9][0-9]{1,3})?",
    ]
}

fn version() -> impl Strategy<Value = String> {
    prop_oneof![
        ":[a-z0-9][a-z0-9._-]{0,7}[a-z0-9]",
        ":[0-9]{1,4}",
        "@sha256:[0-9a-f]{64}",
        ":v[0-9]@sha256:[0-9a-f]{64}",
    ]
}

/// A reference with host, path and version.
fn full() -> impl Strategy<Value = String> {
    (host(), "[a-z][a-z0-9]{0,6}(/[a-z0-9]{1,6}([._-][a-z0-9]{1,4})?){0,3}", version())
        .prop_map(|(host, path, version)| format!("{host}/{path}{version}"))
}

/// A reference of Docker Hub, with a version.
fn short() -> impl Strategy<Value = String> {
    ("[a-z][a-z0-9]{1,6}(/[a-z0-9]{1,6}(-[a-z0-9]{1,4})?)?", version())
        .prop_map(|(path, version)| format!("{path}{version}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_reference_is_found_wherever_it_stands(full in full(), short in short()) {
        for (image, places, sure) in [
            (&full, PULLED, Confidence::Certain),
            (&short, PULLED, Confidence::Certain),
            (&full, NAMED, Confidence::Likely),
            (&short, NAMED, Confidence::Likely),
            (&full, BY_FORM, Confidence::Likely),
        ] {
            let expected = image.parse::<Reference>().unwrap().to_string();
            for (name, place) in places {
                let stream = place(image);
                prop_assert_eq!(found(&stream, sure), [expected.clone()], "{}: {}", name, stream);
            }
        }
    }

    #[test]
    fn repository_and_tag_apart_are_found_together(
        host in host(),
        path in "[a-z][a-z0-9]{0,6}/[a-z0-9]{1,6}",
        tag in "[a-z0-9][a-z0-9._-]{0,7}[a-z0-9]",
    ) {
        let expected = format!("{host}/{path}:{tag}");
        for map in [
            format!("{{repository: '{host}/{path}', tag: '{tag}'}}"),
            format!("{{registry: '{host}', repository: '{path}', tag: '{tag}'}}"),
            format!("{{registry: '{host}/', repository: '{path}', version: '{tag}'}}"),
            format!("{{worker_container_repository: '{host}/{path}', worker_container_tag: '{tag}'}}"),
        ] {
            let stream = format!("apiVersion: x.example/v1\nkind: App\nspec: {map}\n");
            prop_assert_eq!(found(&stream, Confidence::Likely), [expected.clone()], "{}", stream);
        }
    }
}

#[test]
fn what_is_no_image_is_found_nowhere() {
    let anywhere =
        NO_IMAGES.iter().flat_map(|text| NAMED.iter().chain(BY_FORM).map(move |p| (text, p)));
    let by_form =
        NONE_BY_FORM.iter().flat_map(|text| BY_FORM.iter().map(move |place| (text, place)));
    for (text, (name, place)) in anywhere.chain(by_form) {
        let stream = place(text);
        let found = found(&stream, Confidence::Possible);
        assert!(found.is_empty(), "{name}: {found:?} in {stream}");
    }
}
