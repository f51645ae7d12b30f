//! Configures the model runtimes of a release for offline use ("wiring"). Containers that load
//! models are recognised by rules (`rules/wiring.yaml`). Each of them gets the variables and mounts
//! with which it finds the site's models and does not try the internet; programs get the site's CA
//! where they look for one; and issuers of certificates become the site's issuer.
//!
//! Where a value of the chart reaches a container, the value goes into the overlay; such values are
//! found by markers and proven by another render, as [`crate::relocate`] does for images. What no
//! value reaches becomes a patch of the rendered objects, which `gantry post-render` applies. What
//! neither can do is a leftover with its next step.
//!
//! The data flow, with a file for each step:
//!
//! 1. `table` (the rules) and `site` (where models and the CA are) are the input.
//! 2. `settings`: values of the chart that a rule knows by name.
//! 3. `recognise`, `needs`: what each container needs; `pods` and `mounts` help.
//! 4. `candidates`, `probe`: which values of the chart reach which containers.
//! 5. `choose`, `plan`: the fewest values for all needs, and patches for the rest.
//! 6. `prove`: the overlay changes nothing else. `report` prints the result.

mod candidates;
mod choose;
mod issuers;
mod mounts;
mod needs;
mod pipeline;
mod plan;
mod pods;
mod probe;
mod prove;
mod recognise;
mod report;
mod settings;
mod site;
mod table;

pub mod patch;

pub use patch::{ObjectPatch, PatchFile};
pub use report::WiringReportRow;
pub use site::{CA_KEY, CA_NAME, CaObjectKind, ModelSource, SiteCa, SiteServices};
pub use table::WiringTable;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::chart::HelmChart;
use crate::path::DocumentPath;
use crate::phone_home::PhoneHomeRules;
use crate::render::RenderFunction;
use crate::{Result, values};

/// The input of [`wire_release`]: a chart, its values, and what the site has.
#[derive(Debug, Clone, Copy)]
pub struct WiringRequest<'a> {
    /// The chart.
    pub chart: &'a HelmChart,
    /// The values, merged into one, that `render` renders with.
    pub user: &'a Value,
    /// The part of them that the user wrote. It is never changed.
    pub own: &'a Value,
    /// Where the site has models, and its CA and issuer.
    pub offline: &'a SiteServices,
    /// The rules: how runtimes are recognised, and what they need.
    pub table: &'a WiringTable,
    /// The rules for telemetry. Variables that switch it off are set with the rest.
    pub switches: &'a PhoneHomeRules,
}

/// The offline configuration of a release.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfflineWiring {
    /// The values to set. Those that add variables, mounts or volumes to containers are proven to
    /// change nothing else.
    pub settings: Vec<OverlaySetting>,
    /// Patches for what no value reaches, applied by `gantry post-render --patches`.
    pub patches: Vec<ObjectPatch>,
    /// Everything that is done: what, where, by which value or patch, and why.
    pub lines: Vec<WiringAction>,
    /// What neither values nor patches can do, with the next step for the user.
    pub leftovers: Vec<WiringLeftover>,
    /// What was tried and given up, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How often the chart was rendered.
    pub renders: usize,
}

/// One value of the overlay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverlaySetting {
    /// The path of the value.
    pub path: DocumentPath,
    /// What it is set to. A list has all of its items, since helm replaces lists as a whole.
    pub value: Value,
    /// What it does; a comment in the overlay.
    pub why: String,
}

/// One thing that is configured: a row of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WiringAction {
    /// What is configured: `HF_HUB_OFFLINE=1`.
    pub what: String,
    /// Where: `Deployment vllm, container vllm`.
    pub place: String,
    /// The value that does it; absent if a patch does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<DocumentPath>,
    /// Why, with the rule's explanation.
    pub why: String,
}

/// Something that the user has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WiringLeftover {
    /// Where it is: a container, an object or a value.
    pub place: String,
    /// The problem.
    pub what: String,
    /// The next step.
    pub next: String,
}

impl OfflineWiring {
    /// The values as one overlay. `effective` is what [`HelmChart::effective_values`] returns for the user's
    /// values.
    pub fn overlay(&self, effective: &Value) -> Value {
        let mut overlay = Value::Object(Map::new());
        for setting in &self.settings {
            values::set_value(&mut overlay, &setting.path, setting.value.clone(), effective);
        }
        overlay
    }

    /// The patches as a file for `gantry post-render --patches`.
    pub fn patches(&self) -> PatchFile {
        PatchFile::new(self.patches.clone())
    }
}

/// Finds the offline configuration of a release. `render` renders the chart with the user's values
/// and with the overlay that it is given on top.
///
/// # Errors
/// The chart does not render with the user's values, or its output is not valid YAML.
pub fn wire_release(request: &WiringRequest, render: &RenderFunction) -> Result<OfflineWiring> {
    pipeline::run_wiring(request, render)
}
