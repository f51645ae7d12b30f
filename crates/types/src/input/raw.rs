//! `gantry.yaml` as it is written in the file, and the conversion of each entry into the checked types
//! of [`super`]. Errors here are sentences; the caller adds file, line and column.

use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::checks::{ModelServerRule, RawCheck};
use super::content::{
    ChartSource, HubModelSource, ImageSource, InputChart, InputImage, InputModel,
};
use super::rules::{OperatorImageRules, PhoneHome};
use super::tool::RawTool;
use super::wiring::WiringRules;
use crate::{Digest, Error, ModelId, Platform, Reference, Result};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawInput {
    pub(super) version: Spanned<u32>,
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) platforms: Vec<Platform>,
    #[serde(default)]
    pub(super) charts: Vec<Spanned<RawChart>>,
    #[serde(default)]
    pub(super) images: Vec<Spanned<RawImage>>,
    #[serde(default)]
    pub(super) models: Vec<Spanned<RawModel>>,
    #[serde(default)]
    pub(super) files: Vec<PathBuf>,
    #[serde(default)]
    pub(super) tools: Vec<Spanned<RawTool>>,
    #[serde(default)]
    pub(super) rules: OperatorImageRules,
    #[serde(default)]
    pub(super) phone_home: PhoneHome,
    #[serde(default)]
    pub(super) checks: Vec<Spanned<RawCheck>>,
    #[serde(default)]
    pub(super) inference: Vec<ModelServerRule>,
    #[serde(default)]
    pub(super) wiring: WiringRules,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawChart {
    chart: String,
    name: Option<String>,
    version: Option<String>,
    release: Option<String>,
    namespace: Option<String>,
    kube_version: Option<String>,
    #[serde(default)]
    pub(super) api_versions: Vec<String>,
    #[serde(default)]
    pub(super) values: Vec<PathBuf>,
    #[serde(default)]
    pub(super) set: Vec<String>,
    #[serde(default)]
    pub(super) variants: Vec<Vec<PathBuf>>,
    #[serde(default)]
    pub(super) needs: Vec<String>,
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
            set: self.set,
            variants: self.variants,
            needs: self.needs,
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
                url: chart.trim_end_matches('/').to_owned(),
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

#[derive(Clone)]
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

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawImageFields {
    image: String,
    #[serde(default)]
    pub(super) platforms: Vec<Platform>,
    archive: Option<PathBuf>,
    layout: Option<PathBuf>,
    docker: Option<PathBuf>,
}

impl RawImage {
    pub(super) fn into_image(self) -> Result<InputImage, String> {
        let raw = match self {
            Self::Short(image) => RawImageFields {
                image,
                platforms: vec![],
                archive: None,
                layout: None,
                docker: None,
            },
            Self::Long(map) => map,
        };
        let reference = raw.image.parse().map_err(|error: Error| error.to_string())?;
        let from = match (raw.archive, raw.layout, raw.docker) {
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
        Ok(InputImage { reference, platforms: raw.platforms, from })
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawModel {
    hf: Option<ModelId>,
    revision: Option<String>,
    #[serde(default)]
    pub(super) include: Vec<String>,
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    cache: Option<PathBuf>,
    folder: Option<PathBuf>,
    ollama: Option<String>,
    url: Option<String>,
    sha256: Option<String>,
    image: Option<Reference>,
    path: Option<String>,
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
                .map(|text| Digest::from_hex(text.strip_prefix("sha256:").unwrap_or(&text)))
                .transpose()
                .map_err(|error| error.to_string())?;
            return Ok(InputModel::Url { url, sha256 });
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
            ("hf", &["revision", "include", "exclude", "cache", "folder"])
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
