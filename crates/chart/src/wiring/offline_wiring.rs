//! The result: the offline configuration of a release.

use serde::Serialize;
use serde_json::Value;

use super::patch::{ObjectPatch, PatchFile};
use crate::overlay::{self, OverlaySetting};
use crate::path::DocumentPath;

/// The offline configuration of a release.
#[derive(Debug, Clone, Default, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfflineWiring {
    /// The values to set. Those that add variables, mounts or volumes to containers are proven to
    /// change nothing else.
    pub settings: Vec<OverlaySetting>,
    /// Patches for what no value reaches, applied by `gantry post-render --patches`.
    pub patches: Vec<ObjectPatch>,
    /// Everything that is done: what, where, by which value or patch, and why.
    #[serde(rename = "actions")]
    pub lines: Vec<WiringAction>,
    /// What neither values nor patches can do, with the next step for the user.
    pub leftovers: Vec<WiringLeftover>,
    /// What was tried and given up, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How often the chart was rendered.
    #[serde(rename = "renderCount")]
    pub renders: usize,
}

/// One thing that is configured: a row of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct WiringAction {
    /// What is configured: `HF_HUB_OFFLINE=1`.
    #[serde(rename = "setting")]
    pub what: String,
    /// Where: `Deployment vllm, container vllm`.
    #[serde(rename = "appliesTo")]
    pub place: String,
    /// The value that does it; absent if a patch does it.
    #[serde(rename = "setBy", skip_serializing_if = "Option::is_none")]
    pub by: Option<DocumentPath>,
    /// Why, with the rule's explanation.
    pub why: String,
}

/// Something that the user has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct WiringLeftover {
    /// Where it is: a container, an object or a value.
    #[serde(rename = "appliesTo")]
    pub place: String,
    /// The problem.
    #[serde(rename = "problem")]
    pub what: String,
    /// The next step.
    pub next: String,
}

impl OfflineWiring {
    /// The values as one overlay. `effective` is what [`crate::HelmChart::effective_values`] returns for the user's
    /// values.
    pub fn overlay(&self, effective: &Value) -> Value {
        overlay::build_overlay(&self.settings, effective)
    }

    /// The patches as a file for `gantry post-render --patches`.
    pub fn patches(&self) -> PatchFile {
        PatchFile::new(self.patches.clone())
    }
}
