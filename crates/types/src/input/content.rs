//! What `gantry.yaml` declares, as types in which every value is valid. They are serialized for the
//! digests by which a lock remembers them: what is not given is left out, so that keys which a later
//! version adds change no digest.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{SetExpressions, checks, rules, wiring};
use crate::{Digest, ImagePin, ModelId, Platform, Reference, SecretUrl};

/// A whole `gantry.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The name of the bundle.
    pub name: String,
    /// The platforms of images that name none of their own.
    pub platforms: Vec<Platform>,
    /// Whether signatures, SBOMs and attestations of images that say nothing of their own are carried.
    pub attached: AttachedContent,
    /// Which images that are only possible are carried, of releases that say nothing of their own.
    pub include: PossibleImages,
    /// Helm charts; their images are found by rendering them.
    pub charts: Vec<InputChart>,
    /// Plain manifests, each set a release; their images are found in them.
    pub manifests: Vec<InputManifestSet>,
    /// Images by reference, and the images of `tools:`.
    pub images: Vec<InputImage>,
    /// Archives and OCI layouts from which several images are carried.
    pub archives: Vec<InputArchive>,
    /// Models.
    pub models: Vec<InputModel>,
    /// Plain files.
    pub files: Vec<PathBuf>,
    /// Images that operators pull without naming them in any manifest, besides Gantry's own rules.
    pub rules: rules::OperatorImageRules,
    /// Telemetry, update checks and the like, besides Gantry's own rules.
    pub phone_home: rules::PhoneHome,
    /// Requests that `gantry check` sends, besides those to the model servers that it recognises.
    pub checks: Vec<checks::DeclaredCheck>,
    /// How model servers are recognised, besides Gantry's own rules.
    pub inference: Vec<checks::ModelServerRule>,
    /// How runtimes are configured for offline use, besides Gantry's own rules.
    pub wiring: wiring::WiringRules,
}

/// A Helm chart and how it will be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputChart {
    /// Where the chart comes from.
    pub source: ChartSource,
    /// The version or a semver range; the newest when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The release's name; the chart's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The namespace to install it into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The version of Kubernetes to render for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kube_version: Option<String>,
    /// API versions that the cluster has besides the built-in ones (`monitoring.coreos.com/v1`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_versions: Vec<String>,
    /// Values files, the last one wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<PathBuf>,
    /// Values beside the values files.
    #[serde(flatten)]
    pub set: SetExpressions,
    /// More renders, each with further values files; the union of the images is carried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Vec<PathBuf>>,
    /// Which of its images that are only possible are carried; as for the input where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<PossibleImages>,
    /// The releases that have to be ready before this one is installed.
    #[serde(skip)]
    pub needs: Vec<String>,
    /// How the release is told of a tag with new content; as the site says where absent.
    #[serde(skip)]
    pub pin: Option<ImagePin>,
}

/// Where a chart comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ChartSource {
    /// `oci://ghcr.io/org/charts/name`.
    Oci {
        /// `ghcr.io/org/charts/name`, without tag.
        repository: String,
    },
    /// A repository with an `index.yaml`, and the chart's name in it.
    Repository {
        /// The repository's URL.
        url: SecretUrl,
        /// The chart's name.
        name: String,
    },
    /// A folder or a `.tgz`.
    Local(PathBuf),
}

/// Plain manifests that are deployed together, as one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputManifestSet {
    /// The release's name.
    pub release: String,
    /// The namespace of the objects that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where the manifests are, in the order of the file; there is at least one.
    pub sources: Vec<ManifestSource>,
    /// Which of its images that are only possible are carried; as for the input where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<PossibleImages>,
    /// The releases that have to be ready before this one is installed.
    #[serde(skip)]
    pub needs: Vec<String>,
}

/// Where manifests are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ManifestSource {
    /// A file, a glob of files, or a folder: its YAML and JSON files, or its kustomization if it has one.
    Path(String),
    /// The folder of a kustomization.
    Kustomization(PathBuf),
    /// A file at a URL.
    Url {
        /// The URL.
        url: SecretUrl,
        /// The sha256 of the file.
        sha256: Digest,
    },
}

impl ManifestSource {
    /// How the lock and messages name it, without secrets.
    pub fn locked_name(&self) -> String {
        match self {
            Self::Path(path) => path.clone(),
            Self::Kustomization(folder) => format!("kustomize {}", folder.display()),
            Self::Url { url, .. } => url.public_text(),
        }
    }
}

impl Input {
    /// The URLs that may hold secrets: of models, chart repositories and manifests.
    pub fn secret_urls(&self) -> impl Iterator<Item = &SecretUrl> {
        let of_models = self.models.iter().filter_map(|model| match model {
            InputModel::Url { url, .. } => Some(url),
            _ => None,
        });
        let of_charts = self.charts.iter().filter_map(|chart| match &chart.source {
            ChartSource::Repository { url, .. } => Some(url),
            _ => None,
        });
        let sources = self.manifests.iter().flat_map(|set| &set.sources);
        let of_manifests = sources.filter_map(|source| match source {
            ManifestSource::Url { url, .. } => Some(url),
            _ => None,
        });
        of_models.chain(of_charts).chain(of_manifests)
    }
}

impl ChartSource {
    /// How the lock names it: its location, without secrets, and its name for a chart in a repository.
    pub fn locked_name(&self) -> (String, Option<String>) {
        match self {
            Self::Oci { repository } => (format!("oci://{repository}"), None),
            Self::Repository { url, name } => (url.public_text(), Some(name.clone())),
            Self::Local(path) => (path.display().to_string(), None),
        }
    }
}

/// Which images that are only possible are carried: those that an operator may pull, and those of
/// features that are turned off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PossibleImages {
    /// None; `gantry lock` lists them.
    #[default]
    LeftOut,
    /// All of them: `include: possible`.
    Carried,
    /// Those that match one of these names or globs.
    Matching(Vec<String>),
}

/// Whether what is attached to an image (signatures, SBOMs, attestations) is carried with it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum AttachedContent {
    /// It is looked up and carried.
    #[default]
    Carried,
    /// It is neither looked up nor carried: `attached: false`.
    LeftOut,
}

impl AttachedContent {
    /// Whether it is carried, which is the default.
    pub fn is_carried(&self) -> bool {
        *self == Self::Carried
    }

    /// What `attached:` in `gantry.yaml` means; `None` where it is not written.
    pub(super) fn from_key(attached: Option<bool>) -> Option<Self> {
        attached.map(|is_carried| if is_carried { Self::Carried } else { Self::LeftOut })
    }
}

/// An image by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputImage {
    /// Its name.
    pub reference: Reference,
    /// Its platforms; the input's when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// Whether its signatures, SBOMs and attestations are carried; as for the input where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached: Option<AttachedContent>,
    /// Where its content comes from.
    pub from: ImageSource,
}

/// Several images of one archive or OCI layout, under the names that they have there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InputArchive {
    /// The archive or layout.
    pub from: ArchiveSource,
    /// Only images that match one of these names or globs; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Their platforms; the input's when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
}

/// A file or folder on this machine that holds images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ArchiveSource {
    /// A `docker save` archive or an OCI archive.
    Archive(PathBuf),
    /// A folder in the OCI layout.
    Layout(PathBuf),
}

impl ArchiveSource {
    /// Its path, as the input has it.
    pub fn path(&self) -> &Path {
        match self {
            Self::Archive(path) | Self::Layout(path) => path,
        }
    }
}

/// Where an image's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageSource {
    /// In its registry.
    Registry,
    /// In a `docker save` archive or an OCI archive.
    Archive(PathBuf),
    /// In an OCI layout.
    Layout(PathBuf),
    /// In a container engine with the Docker API at this socket.
    Docker(PathBuf),
    /// Made from these binaries of Gantry, one per architecture; from the running binary when empty.
    Gantry(Vec<PathBuf>),
}

impl ImageSource {
    /// The archive or layout that the image is in, if it is in one.
    pub fn archive(&self) -> Option<ArchiveSource> {
        match self {
            Self::Archive(path) => Some(ArchiveSource::Archive(path.clone())),
            Self::Layout(path) => Some(ArchiveSource::Layout(path.clone())),
            Self::Registry | Self::Docker(_) | Self::Gantry(_) => None,
        }
    }
}

/// What happens with other models that a model of the Hub needs: the repository with its code, the
/// base model of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ModelDependencies {
    /// They are named when the lock is made.
    #[default]
    Told,
    /// They are carried as well: `dependencies: true`.
    Carried,
}

impl ModelDependencies {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_told(&self) -> bool {
        *self == Self::Told
    }
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum InputModel {
    /// A snapshot of a repository of the Hugging Face Hub.
    Hub {
        /// `org/name`.
        id: ModelId,
        /// Branch, tag or commit.
        revision: String,
        /// Only files that match one of these globs; all when empty.
        include: Vec<String>,
        /// No file that matches one of these globs.
        exclude: Vec<String>,
        /// What happens with models that it needs.
        #[serde(skip_serializing_if = "ModelDependencies::is_told")]
        dependencies: ModelDependencies,
        /// Where the files come from.
        from: HubModelSource,
    },
    /// A model of the Ollama registry.
    Ollama {
        /// `qwen2.5:3b`, as `ollama pull` takes it.
        name: String,
        /// A models folder of Ollama (`~/.ollama/models`) instead of the registry.
        folder: Option<PathBuf>,
    },
    /// One file at a URL.
    Url {
        /// The URL.
        url: SecretUrl,
        /// Its sha256; learned when locking if absent.
        sha256: Option<Digest>,
    },
    /// Models inside an image's file system: Hugging Face caches, or one plain folder.
    ImagePath {
        /// The image.
        image: Reference,
        /// The folder in it.
        path: String,
        /// The id of the model in a plain folder; caches hold their models' ids.
        id: Option<ModelId>,
    },
}

/// Where the files of a Hub model come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HubModelSource {
    /// On the Hub.
    Hub,
    /// In a local cache (`~/.cache/huggingface/hub`).
    Cache(PathBuf),
    /// In a plain folder, whose content has no commit of its own.
    Folder(PathBuf),
}
