//! The index of an archive of evidence: what was carried, what speaks for it, what was found, and the
//! digest of every part. What is signed is this.

use serde::{Deserialize, Serialize};
use types::Digest;

use super::form::Looked;
use super::part::Part;
use super::{Error, Result};

/// The version of the format.
pub(super) const VERSION: u32 = 1;
/// Its path in the archive.
pub(super) const PATH: &str = "index.json";
/// The path of its signature.
pub(super) const SIGNATURE: &str = "index.json.minisig";
/// The path of the page.
pub(super) const PAGE: &str = "index.html";

/// A whole index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// [`VERSION`].
    pub version: u32,
    /// What it is about: the locks' names.
    pub name: String,
    /// The Gantry that gathered it.
    pub gantry: String,
    /// Images of the locks.
    pub images: Vec<Image>,
    /// Models of the locks.
    pub models: Vec<Model>,
    /// Charts of the locks.
    pub charts: Vec<Chart>,
    /// Reports that were handed in, with the verdicts that they give themselves.
    pub reports: Vec<Report>,
    /// What an auditor has to know, the worst first.
    pub findings: Vec<Finding>,
    /// Every file of the archive but the index itself and its signature, sorted by path.
    pub parts: Vec<Part>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Its name, as it was locked.
    pub reference: String,
    /// Its digest.
    pub digest: Digest,
    /// What it says of its licences (`org.opencontainers.image.licenses`, as label or annotation).
    pub licences: Vec<String>,
    /// Where it says that it comes from, and of which version and revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origin: Vec<String>,
    /// Paths of its software bills of materials.
    pub sboms: Vec<String>,
    /// Paths of its signatures and attestations. They are kept, not judged.
    pub signatures: Vec<String>,
    /// Where it was seen.
    pub seen: Vec<String>,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Its name: `org/name` at a commit, an Ollama name, a URL.
    pub name: String,
    /// Its name as an artifact.
    pub reference: String,
    /// What it says of its licence.
    pub licences: Vec<String>,
    /// Paths of its licences' texts.
    pub texts: Vec<String>,
    /// Its files.
    pub files: Vec<File>,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Its path.
    pub path: String,
    /// Its sha256.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// What it is; absent where its content is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<Looked>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chart {
    /// Its name as an artifact.
    pub reference: String,
    /// Its digest.
    pub digest: Digest,
    /// What it says of its licence.
    pub licences: Vec<String>,
    /// Paths of its licences' texts.
    pub texts: Vec<String>,
}

/// A report that was handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its path.
    pub path: String,
    /// What it is.
    pub kind: super::part::PartKind,
    /// The field `verdict` of its JSON, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Loading it may run anything, or a proof failed.
    High,
    /// Somebody has to look.
    Medium,
    /// Something is not told.
    Low,
}

/// Something that an auditor has to know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How much it weighs.
    pub weight: Weight,
    /// What it is about.
    pub what: String,
    /// What was found.
    pub why: String,
    /// What to do.
    pub next: String,
}

impl Index {
    /// As JSON, the same for the same content.
    pub(super) fn print(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        let mut text = text.map_err(|cause| Error::Document {
            document: PATH.to_owned(),
            reason: cause.to_string(),
        })?;
        text.push('\n');
        Ok(text)
    }

    /// Reads an index that a stranger may have written.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let bad = |reason: String| Error::Document { document: PATH.to_owned(), reason };
        let index: Self = serde_json::from_slice(text).map_err(|cause| bad(cause.to_string()))?;
        if index.version != VERSION {
            return Err(bad(format!("version {} is not known, only {VERSION}", index.version)));
        }
        Ok(index)
    }
}
