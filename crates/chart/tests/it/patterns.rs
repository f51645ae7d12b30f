//! One small manifest for each way in which real charts name an image outside of a container's
//! `image` field, and what is found in it; and texts that only look like an image.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine as _;
use gantry_chart::find::find_images;

/// The finds in a stream: confidence, reference and path.
fn found(stream: &str) -> Vec<String> {
    let findings = find_images(stream);
    assert!(findings.unread.is_empty(), "{:?}", findings.unread);
    let line = |found: &gantry_chart::find::FoundImage| {
        format!("{} {} {}", found.confidence.as_str(), found.reference, found.place.path)
    };
    findings.images.iter().map(line).collect()
}

fn container(body: &str) -> String {
    format!("kind: Pod\nspec: {{containers: [{{name: c, {body}}}]}}\n")
}

#[test]
fn arguments_name_images_behind_a_flag_in_the_next_item_and_in_maps() {
    let stream = container(
        "args: ['--prometheus-config-reloader=quay.io/po/reloader:v1', '--executor-image', \
         'quay.io/argoproj/argoexec:v4', '--runtime-images=llamacpp=ghcr.io/g/llama:server,vllm=vllm/vllm-openai:v1', \
         '-entrypoint-image', 'busybox:1']",
    );
    let args = "spec.containers[0].args";
    assert_eq!(
        found(&stream),
        [
            format!("likely quay.io/po/reloader:v1 {args}[0]|text|"),
            format!("likely quay.io/argoproj/argoexec:v4 {args}[2]"),
            format!("likely ghcr.io/g/llama:server {args}[3]|text|"),
            format!("likely docker.io/vllm/vllm-openai:v1 {args}[3]|text|"),
            format!("likely docker.io/library/busybox:1 {args}[5]"),
        ]
    );
}

#[test]
fn environment_names_images_whole_and_apart() {
    let stream = container(
        "env: [{name: RELATED_IMAGE_AGENT, value: 'org/agent:1'}, {name: SANDBOX_CONTAINER_IMAGE, value: \
         'org/sandbox:2'}, {name: WORKER_REPOSITORY, value: org/worker}, {name: WORKER_TAG, value: '3'}]",
    );
    assert_eq!(
        found(&stream),
        [
            "likely docker.io/org/agent:1 spec.containers[0].env[0].value",
            "likely docker.io/org/sandbox:2 spec.containers[0].env[1].value",
            "likely docker.io/org/worker:3 spec.containers[0].env[2].value",
        ]
    );
}

#[test]
fn custom_resources_name_images_as_fields_maps_and_parts() {
    let stream = "apiVersion: x.example/v1\nkind: App\nspec:\n  image: org/app:1\n  base: {workerImage: org/w:2}\n  \
        clickhouse: {image: {repository: clickhouse/server, tag: 25}}\n  \
        driver: {repository: nvcr.io/nvidia, image: driver, version: '580'}\n  \
        any: ghcr.io/org/any:3\n  template: {spec: {containers: [{name: c, image: nginx}]}}\n";
    assert_eq!(
        found(stream),
        [
            "likely docker.io/org/app:1 spec.image",
            "likely docker.io/org/w:2 spec.base.workerImage",
            "likely docker.io/clickhouse/server:25 spec.clickhouse.image.repository",
            "likely nvcr.io/nvidia/driver:580 spec.driver.repository",
            "likely ghcr.io/org/any:3 spec.any",
            "likely docker.io/library/nginx:latest spec.template.spec.containers[0].image",
        ]
    );
}

#[test]
fn a_field_that_names_an_image_may_hold_a_short_one_and_containers_a_bare_word() {
    let stream = "apiVersion: argoproj.io/v1\nkind: Workflow\nspec:\n  templates:\n  - container: {image: 'python:3.12'}\n  \
        - script: {image: alpine, source: echo}\n  driver: {image: vgpu-manager, repository: ''}\n  images: ['redis:7']\n  \
        imageName: 10.0.0.1:8080\n";
    assert_eq!(
        found(stream),
        [
            "likely docker.io/library/python:3.12 spec.templates[0].container.image",
            "likely docker.io/library/alpine:latest spec.templates[1].script.image",
            "likely docker.io/library/redis:7 spec.images[0]",
        ]
    );
}

#[test]
fn config_maps_hold_json_ini_toml_yaml_and_pod_templates() {
    let stream = r#"
kind: ConfigMap
data:
  storage: '{"image": "kserve/storage-initializer", "defaultImageVersion": "v0.15"}'
  airflow.cfg: |
    [kubernetes]
    worker_container_repository = apache/airflow
    worker_container_tag = 3.1
  app.toml: |
    [worker]
    image = "org/toml:1"
  pod.yaml: |
    apiVersion: v1
    kind: Pod
    spec:
      containers:
        - {name: base, image: "org/base:1"}
  start.sh: |
    #!/bin/sh
    # ghcr.io/org/comment:1
    crictl pull ghcr.io/org/script:1
  _example: |
    image: ghcr.io/org/dead:1
"#;
    assert_eq!(
        found(stream),
        [
            "likely docker.io/kserve/storage-initializer:v0.15 data.storage|JSON|image",
            "likely docker.io/apache/airflow:3.1 data[\"airflow.cfg\"]|INI|kubernetes.worker_container_repository",
            "likely docker.io/org/toml:1 data[\"app.toml\"]|TOML|worker.image",
            "likely docker.io/org/base:1 data[\"pod.yaml\"]|YAML|spec.containers[0].image",
            "likely ghcr.io/org/script:1 data[\"start.sh\"]|text|",
        ]
    );
}

#[test]
fn secrets_are_decoded() {
    let values =
        "singleuser:\n  image: {name: quay.io/jupyter/lab, tag: '4'}\nhub: {image: null}\n";
    let encoded = base64::engine::general_purpose::STANDARD.encode(values);
    let stream = format!("kind: Secret\ndata: {{values.yaml: {encoded}}}\n");
    let path = "data[\"values.yaml\"]|base64|YAML|singleuser.image.name";
    assert_eq!(found(&stream), [format!("likely quay.io/jupyter/lab:4 {path}")]);
}

#[test]
fn a_hub_and_a_tag_above_make_an_image_of_a_name_and_auto_is_none() {
    let stream = r#"
kind: ConfigMap
data:
  values: '{"global": {"hub": "docker.io/istio", "tag": "1.27", "proxy": {"image": "proxyv2"}, "gateway": {"image": "auto"}}}'
"#;
    assert_eq!(found(stream), ["likely docker.io/istio/proxyv2:1.27 data.values|JSON|global.hub"]);
}

#[test]
fn annotations_and_defaults_of_crds_count() {
    let stream = "kind: Deployment\nspec:\n  template:\n    metadata:\n      annotations:\n        \
        sidecar.istio.io/proxyImage: docker.io/istio/proxyv2:1\n        docs: https://x.example/a:1\n---\n\
        apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec:\n  versions:\n  - schema:\n      \
        openAPIV3Schema:\n        properties:\n          spec:\n            properties:\n              \
        image: {type: string, default: 'org/agent:1', description: 'such as ghcr.io/org/other:2'}\n";
    let annotation = "spec.template.metadata.annotations.sidecar";
    let all = found(stream);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].starts_with("likely docker.io/istio/proxyv2:1 "), "{} {annotation}", all[0]);
    assert!(all[1].starts_with("possible docker.io/org/agent:1 "), "{}", all[1]);
}

#[test]
fn what_only_looks_like_an_image_is_none() {
    for stream in [
        container("args: ['--endpoint=minio.ns.svc:9000/bucket', '--log=info:2', '--v=1.2.3', 'https://ghcr.io/a/b:1']"),
        container("env: [{name: URL, value: 'http://a.example/b:1'}, {name: PKG, value: 'github.com/org/app'}, \
                   {name: IMAGE_PULL_POLICY, value: Always}, {name: HOST, value: 'redis:6379'}]"),
        "kind: ConfigMap\ndata: {model: BAAI/bge-m3, type: text/plain, version: '1.2', repo: 'https://git.example/x'}\n"
            .to_owned(),
        "apiVersion: x.example/v1\nkind: App\nspec: {imagePullPolicy: Always, imagePullSecrets: [{name: a}], \
         repository: charts, version: '1', manager: {repository: '', image: vgpu-manager, version: ''}}\n"
            .to_owned(),
        "kind: Service\nspec: {ports: [{name: 'a/b:1'}]}\n".to_owned(),
    ] {
        assert!(found(&stream).is_empty(), "{:?} in {stream}", found(&stream));
    }
}
