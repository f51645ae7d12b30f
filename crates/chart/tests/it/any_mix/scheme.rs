//! The schemes in which charts name images: the values of each, and what its template makes of
//! them, in plain Rust instead of helm.

use std::fmt::Write as _;

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::{Value, json};

/// How a template makes an image from its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `image: host/path:tag`.
    OneString,
    RepositoryAndTag,
    RegistryRepositoryTag,
    /// The global registry, else the own one (Bitnami).
    GlobalOverOwn,
    /// The own registry, else the global one, else Docker Hub (oauth2-proxy).
    OwnOverGlobal,
    /// An unset registry that is put in front of a repository that has a host already.
    RegistryInFront,
    /// A registry that only the template knows of, else the literal one.
    AskedFor,
    PrefixWithSlash,
    TagExtended,
    /// A digest takes the place of the tag.
    Digest,
    /// The digest stands beside the tag.
    TagAndDigest,
    Argument,
    ArgumentMap,
    /// A value that is a whole command with the image in it.
    InsideOfText,
    Environment,
    EnvironmentParts,
    ConfigYaml,
    ConfigIni,
    ConfigJson,
    Secret,
    List,
    CustomParts,
    /// In a dependency under an alias.
    Alias,
    /// The host is written in the template, the rest is a value.
    LiteralHost,
    Literal,
}

pub(crate) use Scheme::*;

const ALL: [Scheme; 25] = [
    OneString,
    RepositoryAndTag,
    RegistryRepositoryTag,
    GlobalOverOwn,
    OwnOverGlobal,
    RegistryInFront,
    AskedFor,
    PrefixWithSlash,
    TagExtended,
    Digest,
    TagAndDigest,
    Argument,
    ArgumentMap,
    InsideOfText,
    Environment,
    EnvironmentParts,
    ConfigYaml,
    ConfigIni,
    ConfigJson,
    Secret,
    List,
    CustomParts,
    Alias,
    LiteralHost,
    Literal,
];

#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) scheme: Scheme,
    pub(crate) registry: &'static str,
    pub(crate) repository: String,
    pub(crate) tag: String,
}

pub(crate) fn image() -> impl Strategy<Value = Image> {
    let registry =
        prop::sample::select(vec!["docker.io", "quay.io", "ghcr.io", "host.example:5000"]);
    let scheme = prop::sample::select(ALL.to_vec());
    // A name of one segment is an official image of Docker Hub: `library/` is added at the site.
    (scheme, registry, "([a-z]{3,6}/)?[a-z]{3,8}", "v?[1-9]\\.[0-9]{1,2}").prop_map(
        |(scheme, registry, repository, tag)| {
            // A chart that says nothing of the registry means Docker Hub.
            let registry = if scheme == OwnOverGlobal { "docker.io" } else { registry };
            Image { scheme, registry, repository, tag }
        },
    )
}

impl Image {
    /// `host/path`.
    pub(crate) fn hosted(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `host/path:tag`.
    fn whole(&self) -> String {
        format!("{}:{}", self.hosted(), self.tag)
    }

    fn digest(&self) -> String {
        let number = self.tag.bytes().fold(0u64, |number, byte| number << 8 | u64::from(byte));
        format!("sha256:{number:064x}")
    }

    /// Whether nothing but the template says where it is from.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        matches!(self.scheme, Literal | LiteralHost)
    }

    /// The values of the chart for it.
    pub(crate) fn values(&self) -> Value {
        let Self { registry, repository, tag, .. } = self;
        match self.scheme {
            OneString | Argument | ArgumentMap | ConfigYaml | Secret => {
                json!({"image": self.whole()})
            }
            RepositoryAndTag | TagExtended | Environment | EnvironmentParts | ConfigIni
            | ConfigJson => {
                json!({"image": {"repository": self.hosted(), "tag": tag}})
            }
            Digest | TagAndDigest => {
                json!({"image": {"repository": self.hosted(), "tag": tag, "digest": self.digest()}})
            }
            RegistryRepositoryTag | GlobalOverOwn | CustomParts | Alias => {
                json!({"image": {"registry": registry, "repository": repository, "tag": tag}})
            }
            OwnOverGlobal => {
                json!({"image": {"registry": "", "repository": repository, "tag": tag}})
            }
            RegistryInFront => {
                json!({"image": {"registry": null, "repository": self.hosted(), "tag": tag}})
            }
            AskedFor | LiteralHost => json!({"image": {"repository": repository, "tag": tag}}),
            PrefixWithSlash => {
                json!({"registry": format!("{registry}/"), "repository": repository, "tag": tag})
            }
            InsideOfText => json!({"command": format!("run --image={} --mode=x", self.whole())}),
            List => {
                json!({"list": [{"name": "other", "n": 1}, {"name": "x", "image": self.whole()}]})
            }
            Literal => json!({}),
        }
    }

    /// A template that reads the same values, for the code that looks into templates.
    pub(crate) fn template(&self, key: &str) -> String {
        match self.scheme {
            AskedFor => format!("{{{{ .Values.{key}.hub.registry }}}}"),
            _ => String::new(),
        }
    }

    /// The image as the template makes it from its values.
    fn name(&self, own: &Value, global: &str) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let map = &own["image"];
        let pair = || format!("{}:{}", text(&map["repository"]), text(&map["tag"]));
        let first = |texts: &[&str]| {
            texts.iter().find(|text| !text.is_empty()).copied().unwrap_or_default().to_owned()
        };
        match self.scheme {
            OneString | Argument | ArgumentMap | ConfigYaml | Secret => text(map),
            RepositoryAndTag | Environment | EnvironmentParts | ConfigIni | ConfigJson => pair(),
            TagExtended => format!("{}-cpu", pair()),
            Digest => format!("{}@{}", text(&map["repository"]), text(&map["digest"])),
            TagAndDigest => format!("{}@{}", pair(), text(&map["digest"])),
            RegistryRepositoryTag | CustomParts | Alias => {
                format!("{}/{}", text(&map["registry"]), pair())
            }
            GlobalOverOwn => format!("{}/{}", first(&[global, &text(&map["registry"])]), pair()),
            OwnOverGlobal => {
                format!("{}/{}", first(&[&text(&map["registry"]), global, "docker.io"]), pair())
            }
            RegistryInFront => match text(&map["registry"]) {
                registry if registry.is_empty() => pair(),
                registry => format!("{registry}/{}", pair()),
            },
            AskedFor => {
                format!("{}/{}", first(&[&text(&own["hub"]["registry"]), self.registry]), pair())
            }
            PrefixWithSlash => format!(
                "{}{}:{}",
                text(&own["registry"]),
                text(&own["repository"]),
                text(&own["tag"])
            ),
            InsideOfText => text(&own["command"]),
            List => text(&own["list"][1]["image"]),
            LiteralHost => format!("{}/{}", self.registry, pair()),
            Literal => self.whole(),
        }
    }

    /// Its document in a render.
    pub(crate) fn document(&self, index: usize, own: &Value, global: &str) -> String {
        let name = self.name(own, global);
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) => (repository, tag),
            None => (name.as_str(), ""),
        };
        let mut text = format!("---\n# Source: c/templates/{index}.yaml\n");
        let config = |key: &str, body: &str| {
            let body = body.replace('\n', "\n    ");
            format!(
                "kind: ConfigMap\nmetadata: {{name: c{index}}}\ndata:\n  {key}: |\n    {body}\n"
            )
        };
        let pod = |body: &str| {
            format!(
                "kind: Pod\nmetadata: {{name: c{index}, annotations: {{mode: x}}}}\nspec:\n  \
                 containers:\n  - {body}\n"
            )
        };
        text += &match self.scheme {
            Argument => pod(&format!("args: [--worker-image={name}]")),
            ArgumentMap => pod(&format!("args: ['--images=a={name},b=none']")),
            InsideOfText => pod(&format!("args: ['{name}']")),
            Environment => pod(&format!("env: [{{name: WORKER_IMAGE, value: '{name}'}}]")),
            EnvironmentParts => pod(&format!(
                "env: [{{name: WORKER_REPOSITORY, value: '{repository}'}}, {{name: WORKER_TAG, value: '{tag}'}}]"
            )),
            ConfigYaml => config("app.yaml", &format!("mode: x\nworker:\n  image: {name}")),
            ConfigIni => config(
                "app.cfg",
                &format!(
                    "[worker]\nmode = x\ncontainer_repository = {repository}\ncontainer_tag = {tag}"
                ),
            ),
            ConfigJson => {
                config("app.json", &json!({"mode": "x", "worker": {"image": name}}).to_string())
            }
            Secret => {
                let plain = format!("worker:\n  image: {name}\n  mode: x\n");
                let encoded = base64::engine::general_purpose::STANDARD.encode(plain);
                format!(
                    "kind: Secret\nmetadata: {{name: c{index}}}\ndata: {{values.yaml: {encoded}}}\n"
                )
            }
            CustomParts => {
                let map = &own["image"];
                let text = |key: &str| map[key].as_str().unwrap_or_default();
                format!(
                    "apiVersion: x.example/v1\nkind: App\nmetadata: {{name: c{index}}}\nspec:\n  worker: \
                     {{registry: '{}', repository: '{}', tag: '{}'}}\n",
                    text("registry"),
                    text("repository"),
                    text("tag")
                )
            }
            _ => pod(&format!("image: '{name}'")),
        };
        text
    }
}

/// A password that differs with each render.
pub(crate) fn made_up(number: usize) -> String {
    let mut text = "---\n# Source: c/templates/password.yaml\nkind: Secret\n".to_owned();
    let password = base64::engine::general_purpose::STANDARD.encode(format!("made up {number}"));
    let _ = writeln!(text, "metadata: {{name: password}}\ndata: {{password: {password}}}");
    text
}
