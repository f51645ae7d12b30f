//! The documents that name content: descriptors, manifests, and the roots of a store or bundle.
//!
//! Everything that Gantry carries is a *root*: an OCI manifest (or index) with a name. An image is
//! one as it is, a Helm chart is an OCI artifact, a Hugging Face snapshot is a CNCF `ModelPack`
//! manifest with one raw layer per file, an Ollama model is its own docker manifest, a plain file is
//! an artifact of one layer. So a store, a bundle and a registry hold all of them the same way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Cause, Digest, Error, Platform, Reference, Result, annotation, media_type};

/// An OCI content descriptor (image-spec 1.1, descriptor.md). Unknown fields are dropped: a
/// fetched manifest is never written again from this type, its own bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's media type.
    #[serde(default)]
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// Where else the content can be downloaded (image-spec 1.1, descriptor.md, `urls`).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub urls: Vec<String>,
    /// The platform of the content, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformObject>,
    /// For a manifest of an artifact: its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Free annotations, sorted by key.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// A platform as a descriptor or an image config writes it: an object, not a string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformObject {
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of Windows that the image is for.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

impl PlatformObject {
    /// The platform, or `None` for `unknown/unknown`, which buildkit gives to attestations.
    pub fn to_platform(&self) -> Option<Platform> {
        if self.os.is_empty() || self.os == "unknown" {
            return None;
        }
        Some(Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().filter(|variant| !variant.is_empty()),
        })
    }
}

impl Descriptor {
    /// A descriptor without platform and annotations.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether the content is a manifest or an index.
    pub fn is_manifest(&self) -> bool {
        media_type::is_manifest(&self.media_type)
    }

    /// Whether an entry of an index is an attestation, which buildkit lists beside the platforms
    /// (buildkit, docs/attestations/attestation-storage.md).
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key(annotation::REFERENCE_TYPE)
            || self.platform.as_ref().is_some_and(|platform| platform.to_platform().is_none())
    }
}

/// The parts of a manifest or an index, OCI's or docker's, that Gantry reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own media type; OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of an artifact that is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config blob; absent in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Descriptor>,
    /// The layers, base first; empty in an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    /// The manifests of an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one describes (the image of a signature).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free annotations.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// Some builders write `"annotations": null` and `"layers": null` (Go's nil).
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Manifest {
    /// The largest manifest that is read, in bytes. Registries accept at least 4 MiB
    /// (distribution-spec, "Pushing Manifests"); a model of ten thousand files needs about 5 MB as a
    /// `ModelPack` manifest.
    pub const MAX_SIZE: u64 = 16 << 20;

    /// Reads a manifest or an index. `name` is what an error calls it.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let error = |line: usize, column: usize, message: Cause| Error::Document {
            document: name.to_owned(),
            line: line as u64,
            column: column as u64,
            message,
        };
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| {
            error(e.line(), e.column(), Cause::about("not a valid OCI manifest", e))
        })?;
        // Docker's schema 1 (1.x registries) has no digest of its config and no sizes.
        if manifest.schema_version != 2 {
            let version = manifest.schema_version;
            return Err(error(
                0,
                0,
                format!("schema version {version} is not supported, only 2").into(),
            ));
        }
        Ok(manifest)
    }

    /// Whether the document is an index (has manifests, no config).
    pub fn is_index(&self) -> bool {
        // `mediaType` is optional in OCI documents; docker's always have it.
        self.media_type.as_deref().map_or(self.config.is_none(), media_type::is_index)
    }

    /// The document's media type; where it does not say, that of the OCI document it looks like.
    pub fn effective_media_type(&self) -> &str {
        match &self.media_type {
            // Go tools write an empty string for a media type that is not set.
            Some(media_type) if !media_type.is_empty() => media_type,
            _ if self.is_index() => media_type::OCI_INDEX,
            _ => media_type::OCI_MANIFEST,
        }
    }

    /// Config and layers, in the manifest's order: what a manifest needs beside itself.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }
}

/// What a root is: an image, a chart, a model, …
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum RootKind {
    /// A container image, or another OCI artifact asked for by reference.
    Image,
    /// A Helm chart as an OCI artifact.
    Chart,
    /// A Hugging Face snapshot as a `ModelPack` manifest.
    Model,
    /// An Ollama model, its manifest verbatim.
    Ollama,
    /// A plain file as an artifact of one layer.
    File,
    /// A set of plain Kubernetes manifests as an artifact of one layer.
    Manifests,
    /// A signature, SBOM or attestation of another root.
    Attached,
}

impl RootKind {
    /// The value as it is written in annotations and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Chart => "chart",
            Self::Model => "model",
            Self::Ollama => "ollama",
            Self::File => "file",
            Self::Manifests => "manifests",
            Self::Attached => "attached",
        }
    }

    /// The kind of an index entry, by its annotation. An entry that another tool wrote has none and
    /// counts as an image.
    pub fn from_descriptor(descriptor: &Descriptor) -> Self {
        match descriptor.annotations.get(crate::annotation::KIND).map(String::as_str) {
            Some("chart") => Self::Chart,
            Some("model") => Self::Model,
            Some("ollama") => Self::Ollama,
            Some("file") => Self::File,
            Some("manifests") => Self::Manifests,
            Some("attached") => Self::Attached,
            _ => Self::Image,
        }
    }
}

/// A named manifest: an entry of a layout's `index.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The full name. Models are `huggingface.co/<id in lower case>:<commit>`, files
    /// `files.gantry/<name>:<first 12 hex of the sha256>`, sets of manifests
    /// `manifests.gantry/<release>:<first 12 hex of the sha256>`.
    pub name: Reference,
    /// Whether it is an image, a chart, a model, …
    pub kind: RootKind,
    /// The manifest or index, with the entry's annotations.
    pub descriptor: Descriptor,
}

impl Root {
    /// A root whose descriptor carries the annotations that `index.json` needs: kind, full name, and
    /// for images containerd's name, without which `ctr image import` makes up one.
    pub fn new(name: Reference, kind: RootKind, mut descriptor: Descriptor) -> Self {
        use crate::annotation::{IMAGE_NAME, KIND, REF_NAME};
        descriptor.annotations.insert(KIND.into(), kind.as_str().into());
        descriptor.annotations.insert(REF_NAME.into(), name.to_string());
        if matches!(kind, RootKind::Image | RootKind::Attached) {
            descriptor.annotations.insert(IMAGE_NAME.into(), name.to_string());
        }
        Self { name, kind, descriptor }
    }

    /// The root of an index entry, whichever tool wrote it: by the full name in either annotation.
    /// `None` for a bare tag, which names no repository.
    pub fn from_descriptor(descriptor: &Descriptor) -> Option<Self> {
        use crate::annotation::{IMAGE_NAME, REF_NAME};
        let full = |key: &str| {
            let text = descriptor.annotations.get(key)?;
            // `1.25` alone would parse as the image docker.io/library/1.25:latest.
            if text.contains(['/', ':']) { text.parse::<Reference>().ok() } else { None }
        };
        let name = full(IMAGE_NAME).or_else(|| full(REF_NAME))?;
        Some(Self {
            name,
            kind: RootKind::from_descriptor(descriptor),
            descriptor: descriptor.clone(),
        })
    }
}

/// A layout's `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`media_type::OCI_INDEX`].
    #[serde(default)]
    pub media_type: String,
    /// One descriptor per root.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
}

impl Default for Index {
    fn default() -> Self {
        Self { schema_version: 2, media_type: media_type::OCI_INDEX.into(), manifests: vec![] }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_manifest_with_gos_nulls_is_read() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"sha256:{}","size":2}},"layers":null,"annotations":null}}"#,
            "00".repeat(32)
        );
        let manifest = Manifest::parse("test", text.as_bytes()).unwrap();
        assert!(!manifest.is_index());
        assert_eq!(manifest.blobs().count(), 1);
        assert_eq!(manifest.effective_media_type(), media_type::OCI_MANIFEST);
    }

    #[test]
    fn a_root_is_found_again_by_the_annotations_it_wrote() {
        let digest = Digest::Sha256([7; 32]);
        let root = Root::new(
            "ghcr.io/a/b:1".parse().unwrap(),
            RootKind::Image,
            Descriptor::new(media_type::OCI_INDEX, digest, 3),
        );
        assert_eq!(Root::from_descriptor(&root.descriptor), Some(root));
    }
}
