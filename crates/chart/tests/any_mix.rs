//! A generated chart with any mix of the schemes that charts have for images is moved and proven,
//! and what only the template says is named as a leftover. The render is written here, in plain
//! code: a chart's templates without helm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;

use base64::Engine as _;
use gantry_chart::relocate::{Options, Target, Verdict, relocate};
use gantry_chart::{Chart, values};
use proptest::prelude::*;
use serde_json::{Value, json};
use types::naming::Naming;

/// How a template makes an image of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    OneString,
    RepositoryAndTag,
    RegistryRepositoryTag,
    GlobalOverOwn,
    PrefixWithSlash,
    TagExtended,
    Argument,
    ArgumentMap,
    Environment,
    ConfigText,
    Secret,
    List,
    CustomParts,
    Literal,
}

use Scheme::{
    Argument, ArgumentMap, ConfigText, CustomParts, Environment, GlobalOverOwn, List, Literal,
    OneString, PrefixWithSlash, RegistryRepositoryTag, RepositoryAndTag, Secret, TagExtended,
};

const SCHEMES: [Scheme; 14] = [
    OneString,
    RepositoryAndTag,
    RegistryRepositoryTag,
    GlobalOverOwn,
    PrefixWithSlash,
    TagExtended,
    Argument,
    ArgumentMap,
    Environment,
    ConfigText,
    Secret,
    List,
    CustomParts,
    Literal,
];

#[derive(Debug, Clone)]
struct Image {
    scheme: Scheme,
    registry: &'static str,
    repository: String,
    tag: String,
}

fn image() -> impl Strategy<Value = Image> {
    let registry =
        prop::sample::select(vec!["docker.io", "quay.io", "ghcr.io", "host.example:5000"]);
    let scheme = prop::sample::select(SCHEMES.to_vec());
    // One segment is a library image on Docker Hub, whose name gets `library/` at the site.
    (scheme, registry, "([a-z]{3,6}/)?[a-z]{3,8}", "v?[1-9]\\.[0-9]{1,2}")
        .prop_map(|(scheme, registry, repository, tag)| Image { scheme, registry, repository, tag })
}

fn values_of(images: &[Image]) -> Value {
    let mut all = json!({"global": {"imageRegistry": ""}});
    for (index, Image { scheme, registry, repository, tag }) in images.iter().enumerate() {
        all[format!("app{index}")] = match scheme {
            OneString | Argument | ArgumentMap | ConfigText | Secret => {
                json!({"image": format!("{registry}/{repository}:{tag}")})
            }
            RepositoryAndTag | TagExtended | Environment => {
                json!({"image": {"repository": format!("{registry}/{repository}"), "tag": tag}})
            }
            RegistryRepositoryTag | GlobalOverOwn | CustomParts => {
                json!({"image": {"registry": registry, "repository": repository, "tag": tag}})
            }
            PrefixWithSlash => {
                json!({"registry": format!("{registry}/"), "repository": repository, "tag": tag})
            }
            List => json!({"list": [{"name": "other", "n": 1},
                {"name": "x", "image": format!("{registry}/{repository}:{tag}")}]}),
            Literal => json!({}),
        };
    }
    all
}

fn rendered(images: &[Image], values: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut stream = String::new();
    for (index, image) in images.iter().enumerate() {
        let own = &values[format!("app{index}")];
        let map = &own["image"];
        let global = text(&values["global"]["imageRegistry"]);
        let pair = || format!("{}:{}", text(&map["repository"]), text(&map["tag"]));
        let name = match image.scheme {
            OneString | Argument | ArgumentMap | ConfigText | Secret => text(map),
            RepositoryAndTag | Environment => pair(),
            TagExtended => format!("{}-cpu", pair()),
            RegistryRepositoryTag | CustomParts => format!("{}/{}", text(&map["registry"]), pair()),
            GlobalOverOwn => {
                let registry = if global.is_empty() { text(&map["registry"]) } else { global };
                format!("{registry}/{}", pair())
            }
            PrefixWithSlash => {
                format!(
                    "{}{}:{}",
                    text(&own["registry"]),
                    text(&own["repository"]),
                    text(&own["tag"])
                )
            }
            List => text(&own["list"][1]["image"]),
            Literal => format!("{}/{}:{}", image.registry, image.repository, image.tag),
        };
        let _ = writeln!(stream, "---\n# Source: c/templates/{index}.yaml");
        let body = match image.scheme {
            Argument => format!("args: [--worker-image={name}]"),
            ArgumentMap => format!("args: ['--images=a={name},b=none']"),
            Environment => format!("env: [{{name: WORKER_IMAGE, value: '{name}'}}]"),
            ConfigText => {
                let _ = writeln!(
                    stream,
                    "kind: ConfigMap\nmetadata: {{name: c{index}}}\ndata:\n  app.yaml: |\n    mode: x\n    \
                     worker:\n      image: {name}"
                );
                continue;
            }
            Secret => {
                let plain = format!("worker:\n  image: {name}\n  mode: x\n");
                let encoded = base64::engine::general_purpose::STANDARD.encode(plain);
                let _ = writeln!(
                    stream,
                    "kind: Secret\nmetadata: {{name: c{index}}}\ndata: {{values.yaml: {encoded}}}"
                );
                continue;
            }
            CustomParts => {
                let _ = writeln!(
                    stream,
                    "apiVersion: x.example/v1\nkind: App\nmetadata: {{name: c{index}}}\nspec:\n  worker: \
                     {{registry: '{}', repository: '{}', tag: '{}'}}",
                    text(&map["registry"]),
                    text(&map["repository"]),
                    text(&map["tag"])
                );
                continue;
            }
            _ => format!("image: '{name}'"),
        };
        let _ = writeln!(
            stream,
            "kind: Pod\nmetadata: {{name: c{index}, annotations: {{mode: x}}}}\nspec:\n  containers:\n  - {body}"
        );
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_mix_of_schemes_is_moved_and_proven_or_named(
        images in prop::collection::vec(image(), 1..8),
        naming in prop::sample::select(vec![Naming::Path, Naming::HostPath, Naming::Name]),
    ) {
        let defaults = values_of(&images);
        let files = [
            ("Chart.yaml".to_owned(), b"name: c\nversion: 1.0.0\n".to_vec()),
            ("values.yaml".to_owned(), defaults.to_string().into_bytes()),
        ];
        let chart = Chart::read(files).unwrap();
        let render = |overlay: Option<&str>| {
            let mut all = defaults.clone();
            if let Some(overlay) = overlay {
                values::merge(&mut all, &values::read("overlay", overlay).unwrap());
            }
            Ok(rendered(&images, &all))
        };
        let prefix = "site.internal:5000/ai".parse().unwrap();
        let target = Target { prefix, naming, pull_secret: None };
        let relocation = match relocate(&chart, &json!({}), &target, &Options::default(), &render) {
            Ok(relocation) => relocation,
            // Two generated images may have one name at the site: an error before anything is done.
            Err(error) => {
                prop_assert!(error.to_string().contains("would both be pushed"), "{}", error);
                return Ok(());
            }
        };

        let literals = images.iter().filter(|image| image.scheme == Literal).count();
        prop_assert_eq!(relocation.proof.stayed.len(), literals, "{}", relocation.overlay);
        let verdict = if literals == 0 { Verdict::Proven } else { Verdict::Leftovers };
        prop_assert_eq!(relocation.proof.verdict(), verdict, "{:?}", relocation.proof);
        // What a person sees: no image of the others is left in what the overlay renders.
        let after = render(Some(&relocation.overlay)).unwrap();
        for image in images.iter().filter(|image| image.scheme != Literal && image.scheme != Secret) {
            let was = format!("{}/{}", image.registry, image.repository);
            let is_left = after.match_indices(&was).any(|(at, _)| !after[..at].ends_with("ai/"));
            let is_literal = images.iter().any(|other| {
                other.scheme == Literal && format!("{}/{}", other.registry, other.repository) == was
            });
            prop_assert!(!is_left || is_literal, "{} is left in {}", was, after);
        }
    }
}
