//! `gantry.yaml` as it is written in the file, and the conversion of each entry into the checked types
//! of [`super`]. Errors here are sentences; the caller adds file, line and column.

use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::checks::{ModelServerRule, RawCheck};
use super::content::{
    ArchiveSource, AttachedContent, ChartSource, HubModelSource, ImageSource, InputArchive,
    InputChart, InputImage, InputModel, ModelDependencies,
};
use super::manifests::RawManifestSet;
use super::possible::RawPossibleImages;
use super::rules::{OperatorImageRules, PhoneHome};
use super::set_expressions::SetExpressions;
use super::tool::RawTool;
use super::wiring::WiringRules;
use crate::{Digest, Error, ImagePin, ModelId, Platform, Reference, Result, SecretUrl};

/// Everything that a bundle is to carry.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawInput {
    /// The version of the format: 1.
    #[schemars(with = "u32")]
    pub(super) version: Spanned<u32>,
    /// The bundle's name, which becomes part of file names.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// The platforms of images that name none of their own [default: linux/amd64].
    #[serde(default)]
    pub(super) platforms: Vec<Platform>,
    /// Whether signatures, SBOMs and attestations of images are looked up and carried [default: true].
    #[serde(default)]
    pub(super) attached: Option<bool>,
    /// Which images that are only possible (an operator may pull them, or a feature is off) are carried, of
    /// charts and manifests that have no `include` of their own: `possible` for all, or a list of names and globs
    /// [default: none, gantry lock lists them].
    pub(super) include: Option<RawPossibleImages>,
    /// Helm charts; their images are found by rendering them.
    #[serde(default)]
    #[schemars(with = "Vec<RawChart>")]
    pub(super) charts: Vec<Spanned<RawChart>>,
    /// Plain manifests and kustomizations, each entry a release; their images are found in them.
    #[serde(default)]
    #[schemars(with = "Vec<RawManifestSet>")]
    pub(super) manifests: Vec<Spanned<RawManifestSet>>,
    /// Images that no chart and no manifest names.
    #[serde(default)]
    #[schemars(with = "Vec<RawImage>")]
    pub(super) images: Vec<Spanned<RawImage>>,
    /// Models of the Hugging Face Hub, of Ollama, at a URL, or inside an image.
    #[serde(default)]
    #[schemars(with = "Vec<RawModel>")]
    pub(super) models: Vec<Spanned<RawModel>>,
    /// Plain files.
    #[serde(default)]
    pub(super) files: Vec<PathBuf>,
    /// `gantry`, to carry Gantry's own image, which the pods that Gantry starts in a cluster run.
    #[serde(default)]
    #[schemars(with = "Vec<RawTool>")]
    pub(super) tools: Vec<Spanned<RawTool>>,
    /// Images that operators pull without naming them in any manifest, besides Gantry's own rules.
    #[serde(default)]
    pub(super) rules: OperatorImageRules,
    /// Telemetry, update checks and the like, besides Gantry's own rules.
    #[serde(default)]
    pub(super) phone_home: PhoneHome,
    /// Requests that `gantry check` sends, besides those to the model servers that it recognises.
    #[serde(default)]
    #[schemars(with = "Vec<RawCheck>")]
    pub(super) checks: Vec<Spanned<RawCheck>>,
    /// How model servers are recognised, besides Gantry's own rules.
    #[serde(default)]
    pub(super) inference: Vec<ModelServerRule>,
    /// How runtimes are configured for offline use, besides Gantry's own rules.
    #[serde(default)]
    pub(super) wiring: WiringRules,
}

/// A Helm chart and how it will be installed.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawChart {
    /// oci://…, the https:// URL of a repository, a folder, or a .tgz.
    chart: String,
    /// The chart's name in a repository.
    name: Option<String>,
    /// The version, or a range such as ^1.2 [default: the newest]. A local chart has its own.
    version: Option<String>,
    /// The release's name [default: the chart's name].
    release: Option<String>,
    /// The namespace to install it into.
    namespace: Option<String>,
    /// The version of Kubernetes to render for.
    kube_version: Option<String>,
    /// API versions that the cluster has besides the built-in ones, such as monitoring.coreos.com/v1.
    #[serde(default)]
    pub(super) api_versions: Vec<String>,
    /// Values files; the last one wins.
    #[serde(default)]
    pub(super) values: Vec<PathBuf>,
    /// Values as `--set` of helm takes them (`key=value`); they override values files.
    #[serde(default)]
    set: Vec<String>,
    /// Values as `--set-string` of helm takes them: every value is a text.
    #[serde(default)]
    set_string: Vec<String>,
    /// Values as `--set-file` of helm takes them (`key=path`): the value is the text of the file.
    #[serde(default)]
    set_file: Vec<String>,
    /// Values as `--set-json` of helm takes them (`key=JSON`).
    #[serde(default)]
    set_json: Vec<String>,
    /// More renders, each with further values files; the images of all of them are carried.
    #[serde(default)]
    pub(super) variants: Vec<Vec<PathBuf>>,
    /// Which of its images that are only possible are carried: `possible` for all, or a list of names and
    /// globs [default: that of the top level].
    pub(super) include: Option<RawPossibleImages>,
    /// The releases that have to be ready before this one is installed.
    #[serde(default)]
    pub(super) needs: Vec<String>,
    /// How the release is told of a tag with new content: auto, digest, annotation or none [default: that of
    /// site.yaml, else auto].
    pin: Option<ImagePin>,
}

impl RawChart {
    pub(super) fn into_chart(self) -> Result<InputChart, String> {
        let source = ChartSource::parse(&self.chart, self.name.as_deref())
            .map_err(|error| error.to_string())?;
        if matches!(source, ChartSource::Local(_)) && self.version.is_some() {
            return Err(format!(
                "`version` cannot be used with {}: a local chart has its version in Chart.yaml; remove `version`",
                self.chart
            ));
        }
        Ok(InputChart {
            source,
            version: self.version,
            release: self.release,
            namespace: self.namespace,
            kube_version: self.kube_version,
            api_versions: self.api_versions,
            values: self.values,
            set: SetExpressions {
                json: self.set_json,
                typed: self.set,
                strings: self.set_string,
                files: self.set_file,
            },
            variants: self.variants,
            include: self.include.map(RawPossibleImages::into_possible_images),
            needs: self.needs,
            pin: self.pin,
        })
    }
}

impl ChartSource {
    /// A chart as `gantry.yaml` and `gantry init` take it: `oci://…`, an https repository with the
    /// chart's name, a folder or a `.tgz`.
    pub fn parse(chart: &str, name: Option<&str>) -> Result<Self> {
        let invalid = |reason: &str| Error::invalid_text("chart", chart, reason);
        if let Some(repository) = chart.strip_prefix("oci://") {
            let reference: Reference = repository.parse()?;
            // `oci://…/app:1.2` is what docker users type; helm refuses a tag in the name as well.
            if reference.digest().is_some()
                || repository.contains(&format!(":{}", reference.digest_or_tag()))
            {
                return Err(invalid("give the version in `version:`, not after the name"));
            }
            return Ok(Self::Oci { repository: repository.trim_end_matches('/').to_owned() });
        }
        if chart.starts_with("https://") || chart.starts_with("http://") {
            let Some(name) = name else {
                return Err(invalid("give the chart's name in that repository in `name:`"));
            };
            return Ok(Self::Repository {
                url: SecretUrl::new(chart.trim_end_matches('/')),
                name: name.to_owned(),
            });
        }
        if chart.contains("://") {
            return Err(invalid(
                "write oci://…, the https:// URL of a repository, a folder or a .tgz",
            ));
        }
        if chart.is_empty() {
            return Err(invalid("it is empty; write oci://…, a folder or a .tgz"));
        }
        Ok(Self::Local(PathBuf::from(chart)))
    }
}

#[derive(Clone, schemars::JsonSchema)]
#[schemars(untagged)]
pub(super) enum RawImage {
    Short(String),
    Long(RawImageFields),
}

// By hand and not `#[serde(untagged)]`, whose errors have neither the line nor the misspelt key.
impl<'de> Deserialize<'de> for RawImage {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ImageVisitor;
        impl<'de> serde::de::Visitor<'de> for ImageVisitor {
            type Value = RawImage;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an image reference, or a map with `image:`")
            }
            fn visit_str<E>(self, text: &str) -> Result<RawImage, E> {
                Ok(RawImage::Short(text.to_owned()))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<RawImage, A::Error> {
                RawImageFields::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(RawImage::Long)
            }
        }
        deserializer.deserialize_any(ImageVisitor)
    }
}

/// An image and where its content comes from; or an archive or layout alone, for the images in it.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawImageFields {
    /// The image's reference.
    image: Option<String>,
    /// Without `image`: only those images of the archive or layout that match one of these names or globs,
    /// such as akko/* [default: all].
    #[serde(default)]
    pub(super) images: Vec<String>,
    /// Its platforms [default: those of the bundle]; `[all]` carries every platform, so that the index has
    /// the same digest at every registry.
    #[serde(default)]
    pub(super) platforms: Vec<Platform>,
    /// Whether its signatures, SBOMs and attestations are carried [default: as for the bundle].
    attached: Option<bool>,
    /// A `docker save` archive or an OCI archive with the image.
    archive: Option<PathBuf>,
    /// The folder of an OCI layout with the image.
    layout: Option<PathBuf>,
    /// The socket of a container engine that has the image, such as unix:///run/docker.sock.
    docker: Option<PathBuf>,
}

/// What an entry of `images:` stands for.
pub(super) enum ImageEntry {
    /// One image.
    Single(InputImage),
    /// Images of an archive or layout.
    Several(InputArchive),
}

impl RawImage {
    pub(super) fn into_entry(self) -> Result<ImageEntry, String> {
        let raw = match self {
            Self::Short(image) => RawImageFields {
                image: Some(image),
                images: vec![],
                platforms: vec![],
                attached: None,
                archive: None,
                layout: None,
                docker: None,
            },
            Self::Long(map) => map,
        };
        let RawImageFields { image, images, platforms, attached, archive, layout, docker } = raw;
        let from = match (archive, layout, docker) {
            (None, None, None) => ImageSource::Registry,
            (Some(path), None, None) => ImageSource::Archive(path),
            (None, Some(path), None) => ImageSource::Layout(path),
            // DOCKER_HOST is written `unix:///run/docker.sock` or `unix:/run/docker.sock`.
            (None, None, Some(socket)) => ImageSource::Docker(
                socket
                    .strip_prefix("unix:")
                    .map(|rest| {
                        PathBuf::from(format!(
                            "/{}",
                            rest.display().to_string().trim_start_matches('/')
                        ))
                    })
                    .unwrap_or(socket),
            ),
            _ => return Err("give only one of archive, layout and docker".into()),
        };
        let attached = AttachedContent::from_key(attached);
        if let Some(image) = image {
            if !images.is_empty() {
                return Err(
                    "give only one of image and images: `images` chooses among those of an archive \
                     or layout"
                        .into(),
                );
            }
            let reference = image.parse().map_err(|error: Error| error.to_string())?;
            return Ok(ImageEntry::Single(InputImage { reference, platforms, attached, from }));
        }
        let from: ArchiveSource = from.archive().ok_or(
            "an image needs `image`, its reference; only an archive or layout can stand alone, for \
             all images in it",
        )?;
        if attached.is_some() {
            return Err(
                "`attached` cannot be used for all images of an archive or layout: nothing is \
                 looked up for them"
                    .into(),
            );
        }
        Ok(ImageEntry::Several(InputArchive { from, images, platforms }))
    }
}

/// A model: exactly one of hf, ollama, url and image says where it comes from.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawModel {
    /// A repository of the Hugging Face Hub, such as BAAI/bge-m3.
    hf: Option<ModelId>,
    /// A branch, tag or commit of it [default: main].
    revision: Option<String>,
    /// Only files that match one of these globs.
    #[serde(default)]
    pub(super) include: Vec<String>,
    /// No file that matches one of these globs.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    /// Whether models that it needs (its code, an adapter's base model) are carried too [default: false,
    /// gantry lock names them].
    dependencies: Option<bool>,
    /// A local Hugging Face cache to take the files from.
    cache: Option<PathBuf>,
    /// A folder to take the files from: for hf a plain one, for ollama its models folder.
    folder: Option<PathBuf>,
    /// A model of the Ollama registry, such as qwen2.5:3b.
    ollama: Option<String>,
    /// One file at a URL.
    url: Option<String>,
    /// The sha256 of that file [default: learned by gantry lock].
    sha256: Option<String>,
    /// An image with models in its file system.
    image: Option<Reference>,
    /// The folder in that image, such as /app/.cache/huggingface.
    path: Option<String>,
    /// The id of the model in that folder, where it is not a cache.
    name: Option<ModelId>,
}

impl RawModel {
    pub(super) fn into_model(self) -> Result<InputModel, String> {
        let kinds =
            [self.hf.is_some(), self.ollama.is_some(), self.url.is_some(), self.image.is_some()];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err("a model needs exactly one of hf, ollama, url and image".into());
        }
        self.check_keys()?;
        if let Some(id) = self.hf {
            let from = match (self.cache, self.folder) {
                (None, None) => HubModelSource::Hub,
                (Some(path), None) => HubModelSource::Cache(path),
                (None, Some(path)) => HubModelSource::Folder(path),
                _ => return Err("give only one of cache and folder".into()),
            };
            let revision = self.revision.unwrap_or_else(|| "main".to_owned());
            return Ok(InputModel::Hub {
                id,
                revision,
                include: self.include,
                exclude: self.exclude,
                dependencies: match self.dependencies {
                    Some(true) => ModelDependencies::Carried,
                    _ => ModelDependencies::Told,
                },
                from,
            });
        }
        if let Some(name) = self.ollama {
            return Ok(InputModel::Ollama { name, folder: self.folder });
        }
        if let Some(url) = self.url {
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return Err(format!(
                    "{url} is not an http:// or https:// URL; list a file of this machine under `files:`"
                ));
            }
            let sha256 = self
                .sha256
                .map(|text| Digest::from_sha256_hex(text.strip_prefix("sha256:").unwrap_or(&text)))
                .transpose()
                .map_err(|error| error.to_string())?;
            return Ok(InputModel::Url { url: SecretUrl::new(url), sha256 });
        }
        match (self.image, self.path) {
            (Some(image), Some(path)) => Ok(InputModel::ImagePath { image, path, id: self.name }),
            _ => {
                Err("image needs path: the folder in the image, such as /app/.cache/huggingface"
                    .into())
            }
        }
    }

    /// Refuses keys that have no meaning for this kind of model: silently dropped, a misplaced
    /// `sha256:` would look like protection.
    fn check_keys(&self) -> Result<(), String> {
        let (kind, allowed): (&str, &[&str]) = if self.hf.is_some() {
            ("hf", &["revision", "include", "exclude", "dependencies", "cache", "folder"])
        } else if self.ollama.is_some() {
            ("ollama", &["folder"])
        } else if self.url.is_some() {
            ("url", &["sha256"])
        } else {
            ("image", &["path", "name"])
        };
        let given = [
            ("revision", self.revision.is_some()),
            ("include", !self.include.is_empty()),
            ("exclude", !self.exclude.is_empty()),
            ("dependencies", self.dependencies.is_some()),
            ("cache", self.cache.is_some()),
            ("folder", self.folder.is_some()),
            ("sha256", self.sha256.is_some()),
            ("path", self.path.is_some()),
            ("name", self.name.is_some()),
        ];
        for (key, is_given) in given {
            if is_given && !allowed.contains(&key) {
                return Err(format!("`{key}` cannot be used with `{kind}`"));
            }
        }
        Ok(())
    }
}
