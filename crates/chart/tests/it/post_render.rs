//! Generated streams of manifests with references at any location: after the post-renderer, a plain
//! text scan that uses none of this crate finds no reference outside the site, lines without a
//! reference are the same byte for byte, and a second run changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use base64::Engine as _;
use gantry_chart::post_render::post_render;
use gantry_chart::relocate::{ProofVerdict, RelocationTarget};
use proptest::prelude::*;
use types::naming::NamingRule;

/// Where and how a reference is written.
#[derive(Debug, Clone, Copy)]
enum Place {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Folded,
    Flow,
    Volume,
    Flag,
    FlagAndValue,
    FlagMap,
    Script,
    Environment,
    EnvironmentParts,
    CustomField,
    CustomParts,
    CustomList,
    Hub,
    Yaml,
    Json,
    JsonInQuotes,
    Toml,
    Ini,
    Properties,
    Shell,
    SecretYaml,
    SecretJson,
    SecretLines,
    StringData,
    Annotation,
    Alias,
    Template,
}

use Place::{
    Alias, Annotation, CustomField, CustomList, CustomParts, DoubleQuoted, Environment,
    EnvironmentParts, Flag, FlagAndValue, FlagMap, Flow, Folded, Hub, Ini, Json, JsonInQuotes,
    Plain, Properties, Script, SecretJson, SecretLines, SecretYaml, Shell, SingleQuoted,
    StringData, Template, Toml, Volume, Yaml,
};

const PLACES: [Place; 30] = [
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Folded,
    Flow,
    Volume,
    Flag,
    FlagAndValue,
    FlagMap,
    Script,
    Environment,
    EnvironmentParts,
    CustomField,
    CustomParts,
    CustomList,
    Hub,
    Yaml,
    Json,
    JsonInQuotes,
    Toml,
    Ini,
    Properties,
    Shell,
    SecretYaml,
    SecretJson,
    SecretLines,
    StringData,
    Annotation,
    Alias,
    Template,
];

#[derive(Debug, Clone)]
struct Image {
    place: Place,
    registry: &'static str,
    repository: String,
    tag: String,
    end: &'static str,
}

impl Image {
    fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    fn whole(&self) -> String {
        format!("{}:{}", self.name(), self.tag)
    }
}

const REGISTRIES: [&str; 4] = ["docker.io", "quay.io", "ghcr.io", "host.example:5000"];

fn image() -> impl Strategy<Value = Image> {
    let place = prop::sample::select(PLACES.to_vec());
    let registry = prop::sample::select(REGISTRIES.to_vec());
    let end = prop::sample::select(vec!["\n", "\r\n"]);
    // A letter no other word here starts with, so that the scan cannot be fooled by a key.
    (place, registry, "zo[a-z]{2,4}/zi[a-z]{2,6}(-[a-z]{2})?", "v?[1-9]\\.[0-9]{1,2}", end)
        .prop_map(|(place, registry, repository, tag, end)| Image {
            place,
            registry,
            repository,
            tag,
            end,
        })
}

fn encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A document with the image in its place, and with much around it that must stay.
fn document(image: &Image) -> String {
    let (name, whole) = (image.name(), image.whole());
    let Image { registry, repository, tag, .. } = image;
    let (org, last) = repository.split_once('/').unwrap();
    let pod = |body: &str| {
        format!(
            "# Source: c/templates/{last}.yaml\nkind: Pod\napiVersion: v1\nmetadata:\n  name: {last} # by hand\n  \
             labels: {{app: {last}, version: \"1.0\"}}\nspec:\n  priority: 010\n  containers:\n  - name: {last}\n{body}\n"
        )
    };
    let data = |kind: &str, body: &str| {
        format!("kind: {kind}\napiVersion: v1\nmetadata: {{name: {last}}}\n{body}\n")
    };
    let custom = |body: &str| {
        format!(
            "kind: App\napiVersion: x.example/v1\nmetadata: {{name: {last}}}\nspec:\n  name: {last}\n{body}\n"
        )
    };
    let yaml = format!("# {last}\nworker:\n  name: {last}\n  image: {whole} # keep\n  n: 0x1F\n");
    let json =
        format!("{{\"name\": \"{last}\", \"n\": 1.50, \"worker\": {{\"image\": \"{whole}\"}}}}");
    let lines = encoded(&format!("{yaml}more: {}\n", "x".repeat(60)));
    let text = match image.place {
        Plain => pod(&format!("    image: {whole}   # {last}")),
        SingleQuoted => pod(&format!("    image: '{whole}'")),
        DoubleQuoted => pod(&format!("    image: \"{whole}\"")),
        Folded => pod(&format!("    image: >-\n      {whole}")),
        Flow => {
            format!("kind: Pod\nspec: {{containers: [{{name: {last}, image: {whole}, n: 1}}]}}\n")
        }
        Volume => pod(&format!("  volumes:\n  - name: {last}\n    image: {{reference: {whole}}}")),
        Flag => pod(&format!("    args: [--name={last}, \"--worker-image={whole}\"]")),
        FlagAndValue => pod(&format!("    args:\n    - --worker-image\n    - {whole}")),
        FlagMap => pod(&format!("    args: ['--images={last}={whole},b=none']")),
        Script => pod(&format!(
            "    command:\n    - sh\n    - -c\n    - |\n      # {last}\n      run --image {whole} {last}."
        )),
        Environment => pod(&format!("    env:\n    - {{name: WORKER_IMAGE, value: '{whole}'}}")),
        EnvironmentParts => pod(&format!(
            "    env:\n    - {{name: WORKER_IMAGE_REPOSITORY, value: {name}}}\n    - {{name: WORKER_IMAGE_TAG, value: \"{tag}\"}}"
        )),
        CustomField => custom(&format!("  worker:\n    image: {whole}")),
        CustomParts => custom(&format!(
            "  worker: {{registry: {registry}, repository: {repository}, tag: '{tag}'}}"
        )),
        CustomList => custom(&format!("  images:\n  - {whole}\n  - \"{whole}\"")),
        Hub => custom(&format!(
            "  hub: {registry}/{org}\n  tag: {tag}\n  proxy: {{image: {last}, name: {last}}}"
        )),
        Yaml => data(
            "ConfigMap",
            &format!("data:\n  a.yaml: |\n    {}", yaml.trim_end().replace('\n', "\n    ")),
        ),
        Json => data("ConfigMap", &format!("data:\n  a.json: '{json}'")),
        JsonInQuotes => {
            data("ConfigMap", &format!("data:\n  a.json: {}", serde_json::Value::from(json)))
        }
        Toml => data(
            "ConfigMap",
            &format!(
                "data:\n  a.toml: |\n    # {last}\n    [worker]\n    name = '{last}'\n    image = \"{whole}\""
            ),
        ),
        Ini => data(
            "ConfigMap",
            &format!(
                "data:\n  a.ini: |\n    [one]\n    name = {last}\n    [two.x]\n    ; {last}\n    image = {whole}\n    odd line"
            ),
        ),
        Properties => data(
            "ConfigMap",
            &format!("data:\n  env: |\n    NAME={last}\n    WORKER_IMAGE={whole}"),
        ),
        Shell => data(
            "ConfigMap",
            &format!(
                "data:\n  run.sh: |\n    #!/bin/sh\n    # see {name} and {name}-docs\n    exec {last} --image={whole}"
            ),
        ),
        SecretYaml => data("Secret", &format!("data:\n  a: {}\n  b: eA==", encoded(&yaml))),
        SecretJson => data("Secret", &format!("data: {{a: \"{}\"}}", encoded(&json))),
        SecretLines => {
            data("Secret", &format!("data:\n  a: |\n    {}\n    {}", &lines[..76], &lines[76..]))
        }
        StringData => data("Secret", &format!("stringData:\n  a: '{whole}'")),
        Annotation => format!(
            "kind: Pod\nmetadata:\n  name: {last}\n  annotations:\n    inject: '{json}'\n    checksum/x: {}\nspec: {{}}\n",
            "0a".repeat(32)
        ),
        Alias => format!(
            "kind: Pod\nspec:\n  containers:\n  - {{name: {last}, image: &i {whole}}}\n  initContainers:\n  - {{name: b, image: *i}}\n"
        ),
        Template => data(
            "ConfigMap",
            &format!(
                "data:\n  pod.yaml: |\n    kind: Pod\n    spec:\n      containers:\n      - name: {last}\n        image: {whole}\n    ---\n    kind: Pod\n    spec: {{containers: [{{image: {whole}}}]}}"
            ),
        ),
    };
    text.replace('\n', image.end)
}

/// The stream with what Secrets hold written out behind it: any long run of base64 letters that
/// decodes to text. Knows nothing of YAML.
fn opened(stream: &str) -> String {
    let mut all = stream.to_owned();
    let joined = stream.replace("\r\n    ", "").replace("\n    ", "");
    for text in [stream, &joined] {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c)) {
            let bytes = base64::engine::general_purpose::STANDARD.decode(word);
            if let Some(text) = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                let _ = writeln!(all, "\n{text}");
            }
        }
    }
    all
}

/// What still points outside: a source's host that is no folder of the site, or a repository that
/// has not got the site in front.
fn outside(stream: &str, images: &[Image]) -> Vec<String> {
    let text = opened(stream);
    let mut found = Vec::new();
    for host in REGISTRIES {
        for (at, _) in text.match_indices(host) {
            if !text[..at].ends_with("site.internal:5000/ai/") {
                found.push(text[at..].chars().take(60).collect());
            }
        }
    }
    for image in images {
        for (at, _) in text.match_indices(&image.repository) {
            let line = text[..at].rsplit('\n').next().unwrap_or_default();
            let is_part = line.ends_with("repository: ");
            if !is_part && !line.contains("site.internal:5000/ai") {
                found.push(image.repository.clone());
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_points_outside_nothing_else_changes_and_once_is_enough(
        images in prop::collection::vec(image(), 1..8),
        naming in prop::sample::select(vec![NamingRule::Path, NamingRule::HostPath, NamingRule::Name]),
    ) {
        let documents: Vec<String> =
            images.iter().map(|image| format!("---{}{}", image.end, document(image))).collect();
        let stream = documents.concat();
        prop_assert!(!outside(&stream, &images).is_empty(), "the scan sees what is there");
        let prefix = "site.internal:5000/ai".parse().unwrap();
        let target = RelocationTarget { prefix, naming, pull_secret: None };
        let moved = match post_render(&stream, &target) {
            Ok(moved) => moved,
            // Two generated images may have one name at the site: an error before anything is done.
            Err(error) => {
                prop_assert!(error.to_string().contains("would both be pushed"), "{}", error);
                return Ok(());
            }
        };
        prop_assert_eq!(moved.proof.verdict(), ProofVerdict::Proven, "{:#?}\n{}", moved.proof, moved.stream);
        // `-docs` is another repository, which nothing pulls.
        let plain = moved.stream.lines().filter(|line| !line.contains("-docs"));
        let plain: Vec<&str> = plain.collect();
        let left = outside(&plain.join("\n"), &images);
        prop_assert!(left.is_empty(), "{:?} in\n{}", left, moved.stream);
        // Base64 on several lines comes back on one; all other lines are where they were.
        let is_touched = |line: &&str| {
            images.iter().any(|image| line.contains(image.registry) || line.contains("*i"))
                || line.contains("site.internal:5000/ai")
                || line.trim_start().starts_with("a:") || line.trim().len() >= 76
                || line.contains("image: {") || line.contains("proxy:")
        };
        let keeps = |stream: &str| -> Vec<String> {
            stream.split('\n').filter(|line| !is_touched(line)).map(str::to_owned).collect()
        };
        prop_assert_eq!(keeps(&moved.stream), keeps(&stream));
        let again = post_render(&moved.stream, &target).unwrap();
        prop_assert_eq!(again.stream, moved.stream);
    }
}

/// What may stand anywhere in a manifest: images, names that look like one, words.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("quay.io/org/app:1".to_owned()),
        Just("quay.io/org/app".to_owned()),
        Just("nvidia.com/gpu:1".to_owned()),
        Just("app.kubernetes.io/name:web".to_owned()),
        Just("example.org/pool:NoSchedule".to_owned()),
        Just("redis:7".to_owned()),
        "[a-z]{1,6}(\\.[a-z]{2,4})?/[a-z]{1,6}(:[0-9a-z]{1,3})?",
        "[ -~]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_changes_where_kubernetes_has_no_image(
        texts in prop::collection::vec(any_text(), 12),
        image in prop::sample::select(vec!["quay.io/org/app:1", "redis:7", "ghcr.io/a/b@sha256:00"]),
    ) {
        let text = |at: usize| serde_json::Value::from(texts[at].as_str()).to_string();
        let lines = |image: &str| format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a, labels: {{{}: {}}}}}\nspec:\n  \
             selector: {{matchLabels: {{x: {}}}}}\n  template:\n    metadata: {{labels: {{x: {}}}}}\n    spec:\n      \
             nodeSelector: {{{}: {}}}\n      tolerations: [{{key: {}, value: {}}}]\n      \
             affinity: {{podAntiAffinity: {{x: [{{topologyKey: {}, key: {}}}]}}}}\n      containers:\n      \
             - name: c\n        image: {image}\n        resources: {{limits: {{{}: 1}}, requests: {{x: {}}}}}\n",
            text(0), text(1), text(2), text(3), text(4), text(5), text(6), text(7), text(8), text(9), text(10), text(11),
        );
        let stream = lines(image);
        let prefix = "site.internal:5000/ai".parse().unwrap();
        let target = RelocationTarget { prefix, naming: NamingRule::Path, pull_secret: None };
        let Ok(moved) = post_render(&stream, &target) else { return Ok(()) };
        let without = |stream: &str| -> Vec<String> {
            stream.split('\n').filter(|line| !line.trim().starts_with("image: ")).map(str::to_owned).collect()
        };
        prop_assert_eq!(without(&moved.stream), without(&stream));
    }
}
