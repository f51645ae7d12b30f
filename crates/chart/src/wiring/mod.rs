//! Offline wiring: what keeps the runtimes of a release inside. Containers that load models are
//! recognised by rules in data; each is told where the site's models are and that there is no
//! internet, the site's CA is put where programs look for it, and issuers of certificates become the
//! site's. What a value of the chart reaches becomes an overlay, found by marked values and proven by
//! rendering again, as [`crate::relocate`] does it for images; what no value reaches becomes a patch
//! of the rendered objects, which `gantry post-render` applies; what neither can do is a leftover
//! with its next step.
//!
//! The way of the data: [`Table`] (rules) and [`Offline`] (the site) → containers and what they want
//! → values that reach them ([`Setting`]) → proof → [`Patch`]es for the rest → [`Wiring`].

mod candidates;
mod choose;
mod issuers;
mod mounts;
mod plan;
mod pods;
mod probe;
mod prove;
mod recognise;
mod report;
mod settings;
mod site;
mod table;
mod wants;
mod work;

pub mod patch;

pub use patch::{Patch, Patches};
pub use report::Row;
pub use site::{CA_KEY, CA_NAME, Ca, CaFrom, Models, Offline};
pub use table::Table;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::chart::Chart;
use crate::path::Path;
use crate::phone_home::Switches;
use crate::render::Render;
use crate::{Result, values};

/// What is wired, and to what.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The chart.
    pub chart: &'a Chart,
    /// The values, merged, that the render comes with.
    pub user: &'a Value,
    /// Those of them that a person wrote: what they say stays as it is.
    pub own: &'a Value,
    /// What the site has.
    pub offline: &'a Offline,
    /// What runtimes are and need.
    pub table: &'a Table,
    /// The variables that keep programs from reporting home are set with the rest.
    pub switches: &'a Switches,
}

/// What keeps a release inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wiring {
    /// The values to set, proven: nothing but the wiring changes by those that put something into
    /// containers.
    pub settings: Vec<Setting>,
    /// What no value reaches, for `gantry post-render --patches`.
    pub patches: Vec<Patch>,
    /// Everything that is done: what, where, by what, why.
    pub lines: Vec<Line>,
    /// What nothing here can do, with the next step.
    pub leftovers: Vec<Leftover>,
    /// What was tried and not done, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How often the chart was rendered.
    pub renders: usize,
}

/// One value of the overlay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// The value.
    pub path: Path,
    /// What it is set to. A list is whole, as helm wants it.
    pub value: Value,
    /// What it does.
    pub why: String,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What a container, an object or the chart is told: `HF_HUB_OFFLINE=1`.
    pub what: String,
    /// Where it comes out.
    pub place: String,
    /// The value that does it; absent where a patch does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Path>,
    /// Why, with the rule's own reason.
    pub why: String,
}

/// What is left for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// Where it is.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub next: String,
}

impl Wiring {
    /// The values as one overlay on `effective`, what [`Chart::effective`] gives for the user's.
    pub fn overlay(&self, effective: &Value) -> Value {
        let mut overlay = Value::Object(Map::new());
        for setting in &self.settings {
            values::set(&mut overlay, &setting.path, setting.value.clone(), effective);
        }
        overlay
    }

    /// The patches as the file that `gantry post-render --patches` reads.
    pub fn patches(&self) -> Patches {
        Patches::new(self.patches.clone())
    }
}

/// Finds what keeps a release inside. `render` renders the chart with the user's values and with
/// what it is given on top.
///
/// # Errors
/// The chart does not render with the user's values, or it renders what is no YAML.
pub fn wire(request: &Request, render: &Render) -> Result<Wiring> {
    work::wire(request, render)
}
