//! The results of `gantry models push`, `verify` and `ls`, which have the same form for every kind of
//! target.

use std::path::Path;

use land::LoadOutcome;
use land::claim::TransferRoute;
use land::models::{ModelPushReport, ModelPutOutcome, ModelRecord, ModelVerifyReport};
use schemars::JsonSchema;
use serde::Serialize;
use types::Digest;
use types::site::ModelLayout;

/// The result of `models push`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ModelsPushSummary {
    /// Whether nothing was written.
    #[serde(rename = "dryRun")]
    pub(super) is_dry_run: bool,
    /// The targets that were given.
    pub(super) targets: Vec<PushedModelTarget>,
}

/// What was written to one target.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PushedModelTarget {
    #[serde(flatten)]
    pub(super) report: ModelPushReport,
    /// The digest of the index of an image, which a pod should name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
    /// What a dry run would push of an image at most.
    #[serde(rename = "missingBytes", skip_serializing_if = "Option::is_none")]
    pub(super) missing_bytes: Option<u64>,
    /// Whether an image was pushed or was in the registry already; absent in a dry run that would push it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<LoadOutcome>,
    /// What was done on each node, for nodes' disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nodes: Vec<NodePushReport>,
}

/// What was written to the disk of one node.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodePushReport {
    pub(super) node: String,
    pub(super) models: Vec<NodeModel>,
    pub(super) via: TransferRoute,
    /// Older revisions that were deleted (`--keep`).
    pub(super) deleted_revisions: Vec<String>,
}

/// A model on the disk of one node.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NodeModel {
    pub(super) name: String,
    pub(super) outcome: ModelPutOutcome,
}

/// The result of `models verify`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ModelsVerifySummary {
    /// The target; for nodes' disks one entry for each node.
    pub(super) targets: Vec<VerifiedModelTarget>,
}

/// The models of one target, read and compared with what was written.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VerifiedModelTarget {
    target: String,
    /// The node whose disk it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    pub(super) models: Vec<VerifiedModel>,
    /// How much was read.
    bytes: u64,
    damaged_files: Vec<DamagedModelFile>,
}

/// A model that was verified.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VerifiedModel {
    pub(super) name: String,
    pub(super) file_count: usize,
    pub(super) intact: bool,
}

/// A file that is not as it was written.
#[derive(Serialize, JsonSchema)]
struct DamagedModelFile {
    model: String,
    /// The path, relative to the target.
    path: String,
    reason: String,
}

/// The result of `models ls`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ModelsListing {
    target: String,
    pub(super) models: Vec<ModelsListingEntry>,
}

/// A model that Gantry wrote.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelsListingEntry {
    pub(super) name: String,
    layout: ModelLayout,
    /// The folder that another revision would replace; absent where each revision has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    pub(super) bytes: u64,
    pub(super) files: Vec<ListedModelFile>,
    /// Symbolic links.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<ListedLink>,
}

/// A file of a model.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ListedModelFile {
    path: String,
    digest: Digest,
    bytes: u64,
}

/// A symbolic link of a model.
#[derive(Serialize, JsonSchema)]
struct ListedLink {
    path: String,
    /// What it points to, as it is written.
    target: String,
}

impl From<ModelPushReport> for PushedModelTarget {
    fn from(report: ModelPushReport) -> Self {
        Self { report, digest: None, missing_bytes: None, outcome: None, nodes: vec![] }
    }
}

impl VerifiedModelTarget {
    pub(super) fn new(target: String, node: Option<String>, report: &ModelVerifyReport) -> Self {
        let models = report.models.iter().map(|(name, files)| VerifiedModel {
            name: name.clone(),
            file_count: *files,
            intact: report.bad.iter().all(|bad| bad.model != *name),
        });
        let damaged_files = report.bad.iter().map(|bad| DamagedModelFile {
            model: bad.model.clone(),
            path: bad.path.display().to_string(),
            reason: bad.fault.clone(),
        });
        Self {
            target,
            node,
            models: models.collect(),
            bytes: report.bytes,
            damaged_files: damaged_files.collect(),
        }
    }
}

impl ModelsListing {
    pub(super) fn new(target: String, records: &[ModelRecord]) -> Self {
        Self { target, models: records.iter().map(ModelsListingEntry::from_record).collect() }
    }
}

impl ModelsListingEntry {
    fn from_record(record: &ModelRecord) -> Self {
        let show = |path: &Path| path.display().to_string();
        let files = record.files.iter().map(|(path, file)| ListedModelFile {
            path: show(path),
            digest: file.digest,
            bytes: file.size,
        });
        let links = record
            .links
            .iter()
            .map(|(path, target)| ListedLink { path: show(path), target: show(target) });
        Self {
            name: record.name.clone(),
            layout: record.layout,
            folder: record.folder.as_deref().map(show),
            bytes: record.files.values().map(|file| file.size).sum(),
            files: files.collect(),
            links: links.collect(),
        }
    }
}
