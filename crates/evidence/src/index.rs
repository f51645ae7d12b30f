//! The index of an evidence archive (`index.json`): the images, models and charts that were
//! transferred, their licences and signatures, the findings, and the digest of every file. The
//! signature covers this file alone; the digests in it cover the rest.

use serde::{Deserialize, Serialize};
use types::Digest;

use crate::file_format::FileInspection;
use crate::part::{EvidencePart, EvidencePartKind, INDEX};
use crate::{Error, Result};

/// The version of the format that this Gantry writes and reads.
pub(crate) const VERSION: u32 = 1;

/// The content of `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceIndex {
    /// The version of the format, 1.
    pub version: u32,
    /// The names of the locks, separated by commas.
    pub name: String,
    /// The version of the Gantry that gathered it.
    pub gantry: String,
    /// The images of the locks.
    pub images: Vec<ImageEvidence>,
    /// The models of the locks.
    pub models: Vec<ModelEvidence>,
    /// The charts of the locks.
    pub charts: Vec<ChartEvidence>,
    /// The reports that were added, with the verdicts that they contain.
    pub reports: Vec<ReportEvidence>,
    /// What an auditor has to know, the most severe first.
    pub findings: Vec<EvidenceFinding>,
    /// Every file of the archive except the index and its signature, sorted by path.
    pub parts: Vec<EvidencePart>,
}

/// What is known about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageEvidence {
    /// Its name in the lock.
    pub reference: String,
    /// Its digest.
    pub digest: Digest,
    /// The licences that it declares (`org.opencontainers.image.licenses`, as label or annotation).
    pub licences: Vec<String>,
    /// Its declared origin, as `source: https://…`, `version: …`, `revision: …`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origin: Vec<String>,
    /// The paths of its SBOMs in the archive.
    pub sboms: Vec<String>,
    /// The paths of its signatures and attestations. They are included without being verified.
    pub signatures: Vec<String>,
    /// Where the image was found: chart, template, object and field.
    pub seen: Vec<String>,
}

/// What is known about a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelEvidence {
    /// Its name: `org/name at <commit>`, an Ollama name, or a URL.
    pub name: String,
    /// The reference of its OCI artifact.
    pub reference: String,
    /// The licences that it declares.
    pub licences: Vec<String>,
    /// The paths of its licence texts in the archive.
    pub texts: Vec<String>,
    /// Its files.
    pub files: Vec<ModelFileEvidence>,
}

/// What is known about a file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelFileEvidence {
    /// The path in the model.
    pub path: String,
    /// The sha256 digest.
    pub sha256: Digest,
    /// The size in bytes.
    pub size: u64,
    /// The result of inspecting it; absent if its content is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<FileInspection>,
}

/// What is known about a chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChartEvidence {
    /// The reference of its OCI artifact.
    pub reference: String,
    /// Its digest.
    pub digest: Digest,
    /// The licences that it declares.
    pub licences: Vec<String>,
    /// The paths of its licence texts in the archive.
    pub texts: Vec<String>,
}

/// A report that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportEvidence {
    /// The path in the archive.
    pub path: String,
    /// Which command wrote it.
    pub kind: EvidencePartKind,
    /// The field `verdict` of its JSON, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
}

/// How severe a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Loading a file may run any code, or a proof failed.
    High,
    /// Somebody has to look into it.
    Medium,
    /// Information is missing.
    Low,
}

/// Something that an auditor has to know.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceFinding {
    /// How severe it is.
    pub weight: Severity,
    /// What it is about: an image, a model, a report.
    pub what: String,
    /// What was found.
    pub why: String,
    /// The next step.
    pub next: String,
}

impl EvidenceIndex {
    /// Prints the index as JSON. The same content gives the same text.
    pub(crate) fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|cause| Error::Index { document: INDEX, cause })? + "\n")
    }

    /// Parses an index that may come from a stranger.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let index: Self = serde_json::from_slice(text)
            .map_err(|cause| Error::Index { document: INDEX, cause })?;
        match index.version {
            VERSION => Ok(index),
            found => Err(Error::IndexVersion { document: INDEX, found, known: VERSION }),
        }
    }
}
