//! The document: what is locked of each kind, sorted, with its digests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mention::ImageMention;
use super::request::LockedRequest;
use crate::input::{AttachedContent, InputChart, InputManifestSet, ManifestSource};
use crate::{
    CommitId, Descriptor, Digest, Error, GitId, ModelId, Platform, Reference, Result, yaml,
};

/// The version of the lock format that this Gantry writes and reads.
pub const VERSION: u32 = 1;

const HEADER: &str =
    "# Written by `gantry lock`. Review and commit it; change gantry.yaml, not this file.\n";

/// A whole lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lock {
    /// [`VERSION`].
    pub version: u32,
    /// The input's name.
    pub name: String,
    /// The platforms of images that name none of their own.
    pub platforms: Vec<Platform>,
    /// What `gantry.yaml` asked for when the lock was made; empty in locks of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<LockedRequest>,
    /// Charts, sorted by reference, then release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charts: Vec<LockedChart>,
    /// Sets of plain manifests, sorted by release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<LockedManifestSet>,
    /// Images, sorted by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<LockedImage>,
    /// Models, sorted by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<LockedModel>,
    /// Files, sorted by reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<LockedFile>,
}

/// A blob: its digest and its length.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// The digest of the content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl Serialize for Blob {
    /// On one line, `{digest: …, size: …}`, so that a diff shows one layer per line.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct BlobFields {
            digest: Digest,
            size: u64,
        }
        serde_saphyr::FlowMap(BlobFields { digest: self.digest, size: self.size })
            .serialize(serializer)
    }
}

impl From<&Descriptor> for Blob {
    fn from(descriptor: &Descriptor) -> Self {
        Self { digest: descriptor.digest, size: descriptor.size }
    }
}

/// A manifest and the blobs that it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedManifest {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's length in bytes.
    pub size: u64,
    /// The manifest's media type.
    pub media_type: String,
    /// The platform of the image; absent for artifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Blob>,
    /// The layers, base first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Blob>,
    /// For layers that the registry may not have, such as the base layers of Windows: the addresses
    /// that the manifest gives for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layer_urls: BTreeMap<Digest, Vec<String>>,
}

impl LockedManifest {
    /// The manifest itself as a blob.
    pub fn to_blob(&self) -> Blob {
        Blob { digest: self.digest, size: self.size }
    }

    /// Config and layers.
    pub fn blobs(&self) -> impl Iterator<Item = Blob> + '_ {
        self.config.iter().chain(&self.layers).copied()
    }

    pub(super) fn to_descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.size)
    }
}

/// A chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedChart {
    /// The chart as `gantry.yaml` has it, without version.
    pub chart: String,
    /// The chart's name in its repository, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version or range in `gantry.yaml`; absent for the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// The version that it was resolved to.
    pub version: String,
    /// The release's name.
    pub release: String,
    /// The namespace, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The repository in a registry (`oci://…`) that the index of a chart repository names for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The name of the chart as an OCI artifact.
    pub reference: Reference,
    /// The artifact: config, archive, and the provenance file where there is one.
    pub manifest: LockedManifest,
}

impl LockedChart {
    /// Whether this is what a chart of the input was locked to: same source, version and release.
    /// A chart that was changed in the input since then does not match any more.
    pub fn is_lock_of(&self, chart: &InputChart) -> bool {
        let (location, name) = chart.source.locked_name();
        self.chart == location
            && self.name == name
            && self.requested == chart.version
            // Without `release:` the release is named after the chart, which only the lock knows.
            && chart.release.as_ref().is_none_or(|release| *release == self.release)
    }
}

/// A set of plain manifests, deployed as a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedManifestSet {
    /// The release's name.
    pub release: String,
    /// The namespace, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The sources as `gantry.yaml` has them, without secrets.
    pub from: Vec<String>,
    /// The name of the set as an OCI artifact.
    pub reference: Reference,
    /// The manifests: one stream of YAML documents in the order in which they are applied, with the
    /// images as they were written.
    pub content: Blob,
    /// The artifact's manifest, which is made from this entry.
    pub manifest: Blob,
}

impl LockedManifestSet {
    /// Whether this is what a set of the input was locked to: same release and same sources.
    pub fn is_lock_of(&self, set: &InputManifestSet) -> bool {
        self.release == set.release
            && self.from == set.sources.iter().map(ManifestSource::locked_name).collect::<Vec<_>>()
    }
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedImage {
    /// Its full name, as `gantry.yaml` or a rendered chart names it.
    pub reference: Reference,
    /// The digest that the name was resolved to: of the index, where there is one.
    pub digest: Digest,
    /// The media type of what the digest names.
    pub media_type: String,
    /// The length in bytes of what the digest names.
    pub size: u64,
    /// The requested platforms.
    pub platforms: Vec<Platform>,
    /// Where the content is, when not in the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ImageOrigin>,
    /// The indexes that the image's index lists, as far as they lead to the chosen platforms; mostly
    /// there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<LockedManifest>,
    /// The manifests that are carried: those of the chosen platforms.
    pub manifests: Vec<LockedManifest>,
    /// Signatures, SBOMs and attestations of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<LockedAttachment>,
    /// Whether those were looked up.
    #[serde(default, skip_serializing_if = "AttachedContent::is_carried")]
    pub attached_content: AttachedContent,
    /// Where charts or `gantry.yaml` name the image, for a reviewer.
    pub seen: Vec<ImageMention>,
}

/// Where the content of an image is on the machine on which `gantry lock` ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum ImageOrigin {
    /// A `docker save` or OCI archive.
    Archive(String),
    /// An OCI layout.
    Layout(String),
    /// A Docker API socket.
    Docker(String),
    /// Made from these binaries of Gantry; from the running binary when empty.
    Gantry(Vec<String>),
}

/// A signature, SBOM or attestation of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedAttachment {
    /// Its name: a cosign tag, or the repository with its digest.
    pub reference: Reference,
    /// Its type, where it has one (`application/spdx+json`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its manifest.
    pub manifest: LockedManifest,
}

/// A model. The first key (`hf`, `ollama` or `url`) says which kind it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum LockedModel {
    /// A Hugging Face snapshot.
    Hub(LockedHubModel),
    /// An Ollama model.
    Ollama(LockedOllamaModel),
    /// A file from a URL.
    Url(LockedUrlModel),
}

/// A Hugging Face snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedHubModel {
    /// `org/name`.
    pub hf: ModelId,
    /// The branch, tag or commit in `gantry.yaml`.
    pub revision: String,
    /// The commit that the revision was resolved to.
    pub commit: CommitId,
    /// Only files that match one of these globs; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// No file that matches one of these globs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Where the content is, when not on the Hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ModelOrigin>,
    /// The name of the snapshot as an OCI artifact.
    pub reference: Reference,
    /// The ModelPack manifest, which is made from this entry.
    pub manifest: Blob,
    /// The manifest's config, which is made from this entry.
    pub config: Blob,
    /// The files, sorted by path.
    pub files: Vec<LockedModelFile>,
}

/// Where a model's files are on the machine on which `gantry lock` ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum ModelOrigin {
    /// A Hugging Face cache.
    Cache(String),
    /// A plain folder, or Ollama's models folder.
    Folder(String),
    /// An image's file system: the image and the path in it.
    Image {
        /// The image.
        image: Reference,
        /// The folder.
        path: String,
    },
}

/// A file of a Hugging Face snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedModelFile {
    /// Its path in the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The digest of the content.
    pub digest: Digest,
    /// Git's id: of the content, or of the LFS pointer for an LFS file.
    pub git: GitId,
    /// Whether the Hub keeps it in LFS (its ETag is then the sha256).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lfs: bool,
}

/// An Ollama model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedOllamaModel {
    /// The name as `ollama pull` takes it.
    pub ollama: String,
    /// Where the content is, when not in the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ModelOrigin>,
    /// The full name.
    pub reference: Reference,
    /// The manifest, verbatim, and its blobs.
    pub manifest: LockedManifest,
}

/// A model file from a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedUrlModel {
    /// The URL, without user, password and secret parameters ([`crate::SecretUrl`]).
    pub url: String,
    /// The name of the file as an OCI artifact.
    pub reference: Reference,
    /// The file's name.
    pub title: String,
    /// The content.
    pub content: Blob,
    /// The artifact's manifest, which is made from this entry.
    pub manifest: Blob,
}

/// A plain file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockedFile {
    /// The path as `gantry.yaml` has it.
    pub file: String,
    /// The name of the file as an OCI artifact.
    pub reference: Reference,
    /// The file's name.
    pub title: String,
    /// The content.
    pub content: Blob,
    /// The artifact's manifest, which is made from this entry.
    pub manifest: Blob,
}

impl LockedImage {
    /// The manifests of its platforms, without the attestations that its index lists beside them.
    pub fn platform_manifests(&self) -> impl Iterator<Item = &LockedManifest> {
        self.manifests.iter().filter(|manifest| !self.is_attestation(manifest))
    }

    /// The attestations that its index lists, which start in no pod.
    pub fn attestations(&self) -> impl Iterator<Item = &LockedManifest> {
        self.manifests.iter().filter(|manifest| self.is_attestation(manifest))
    }

    /// Whether everything that its digest stands for is carried: then every registry takes it as it
    /// is, and it has the same digest everywhere.
    pub fn is_whole(&self) -> bool {
        // An archive may lack the content of some of the platforms that its index lists.
        let has_all = self.from.is_none() && self.platforms.iter().any(Platform::is_all);
        has_all || self.manifests.iter().any(|manifest| manifest.digest == self.digest)
    }

    /// BuildKit lists attestations in the index, without a platform. An index in which nothing has
    /// a platform is one of artifacts, and all of it belongs to the image.
    fn is_attestation(&self, manifest: &LockedManifest) -> bool {
        manifest.platform.is_none()
            && manifest.digest != self.digest
            && self.manifests.iter().any(|other| other.platform.is_some())
    }
}

impl Lock {
    /// Reads a lock of up to [`yaml::MAX_OWN_DOCUMENT`] bytes. `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let lock: Self = yaml::read_own_document(name, text)?;
        // A lock of a later version mostly fails above already, by a key that is not known here.
        if lock.version != VERSION {
            return Err(Error::Document {
                document: name.to_owned(),
                line: 0,
                column: 0,
                message: format!(
                    "lock version {} is not supported; this gantry reads version {VERSION}, \
                     use the gantry that wrote the lock or run `gantry lock` again",
                    lock.version
                )
                .into(),
            });
        }
        Ok(lock)
    }

    /// The lock as text, the same for the same content.
    pub fn to_yaml(&self) -> Result<String> {
        Ok(format!("{HEADER}{}", yaml::write_document(self)?))
    }

    /// Sorts all lists as the format requires.
    pub fn sort(&mut self) {
        self.requests.sort();
        self.charts.sort_by(|a, b| (&a.reference, &a.release).cmp(&(&b.reference, &b.release)));
        self.manifests.sort_by(|a, b| a.release.cmp(&b.release));
        self.images.sort_by(|a, b| a.reference.cmp(&b.reference));
        self.models.sort_by(|a, b| a.reference().cmp(b.reference()));
        self.files.sort_by(|a, b| a.reference.cmp(&b.reference));
        for image in &mut self.images {
            image.seen.sort();
            image.seen.dedup();
            image.attached.sort_by(|a, b| a.reference.cmp(&b.reference));
        }
    }
}

/// The config of an artifact that has none: `{}` (image-spec 1.1, "Guidance for an empty
/// descriptor").
pub const EMPTY: Blob = Blob {
    digest: Digest::Sha256([
        0x44, 0x13, 0x6f, 0xa3, 0x55, 0xb3, 0x67, 0x8a, 0x11, 0x46, 0xad, 0x16, 0xf7, 0xe8, 0x64,
        0x9e, 0x94, 0xfb, 0x4f, 0xc2, 0x1f, 0xe7, 0x7e, 0x83, 0x10, 0xc0, 0x60, 0xf6, 0x1c, 0xaa,
        0xff, 0x8a,
    ]),
    size: 2,
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::BlobOrigin;
    use super::*;
    use crate::media_type;

    fn sample_lock() -> Lock {
        let blob = |n: u8| Blob { digest: Digest::Sha256([n; 32]), size: u64::from(n) };
        let manifest = LockedManifest {
            digest: blob(1).digest,
            size: 1,
            media_type: media_type::OCI_MANIFEST.into(),
            platform: Some(Platform::linux_amd64()),
            config: Some(blob(2)),
            layers: vec![blob(3), blob(4)],
            layer_urls: BTreeMap::new(),
        };
        let model = LockedHubModel {
            hf: "BAAI/bge-m3".parse().unwrap(),
            revision: "main".into(),
            commit: "ab".repeat(20).parse().unwrap(),
            include: vec![],
            exclude: vec!["*.onnx".into()],
            from: None,
            reference: format!("huggingface.co/baai/bge-m3:{}", "ab".repeat(20)).parse().unwrap(),
            manifest: blob(5),
            config: blob(6),
            files: vec![LockedModelFile {
                path: "config.json".into(),
                size: 7,
                digest: blob(7).digest,
                git: "cd".repeat(20).parse().unwrap(),
                lfs: false,
            }],
        };
        Lock {
            version: VERSION,
            name: "sample".into(),
            platforms: vec![Platform::linux_amd64()],
            requests: vec![],
            charts: vec![],
            manifests: vec![LockedManifestSet {
                release: "web".into(),
                namespace: Some("shop".into()),
                from: vec!["./web-*.yaml".into()],
                reference: "manifests.gantry/web:080808080808".parse().unwrap(),
                content: blob(8),
                manifest: blob(9),
            }],
            images: vec![LockedImage {
                reference: "nginx:1".parse().unwrap(),
                digest: manifest.digest,
                media_type: manifest.media_type.clone(),
                size: 1,
                platforms: vec![Platform::linux_amd64()],
                from: Some(ImageOrigin::Archive("images.tar".into())),
                indexes: vec![],
                manifests: vec![manifest],
                attached: vec![],
                attached_content: AttachedContent::Carried,
                seen: vec![ImageMention::of_input()],
            }],
            models: vec![LockedModel::Hub(model)],
            files: vec![],
        }
    }

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let lock = sample_lock();
        let text = lock.to_yaml().unwrap();
        assert!(text.contains("- {digest: "), "a layer stands on one line:\n{text}");
        let again = Lock::parse("gantry.lock", &text).unwrap();
        assert_eq!(again, lock);
        assert_eq!(again.to_yaml().unwrap(), text);
    }

    #[test]
    fn every_blob_of_a_lock_says_where_it_comes_from() {
        let lock = sample_lock();
        let content = lock.blobs();
        assert_eq!(content.len(), 1 + 1 + 3 + 3 + 3);
        assert_eq!(
            content.iter().filter(|c| matches!(c.origin, BlobOrigin::Hub { .. })).count(),
            1
        );
        assert_eq!(lock.roots().len(), 3);
    }
}
