//! The result of an inspection.

use serde_json::Value;

use crate::find::ImageScan;
use crate::manifest::Manifests;
use crate::path::{DocumentPath, PathStep};

/// The result of inspecting a chart or a stream of manifests.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// The images that were found.
    pub findings: ImageScan,
    /// The rendered manifests.
    pub manifests: Manifests,
    /// The values that the templates saw; null for a stream of manifests, which has none.
    pub effective: Value,
    /// The paths of the values of subcharts that rendered nothing.
    pub(super) off: Vec<DocumentPath>,
}

impl Inspection {
    /// Whether a value has no effect of its own: it belongs to a subchart that renders nothing, or
    /// is a copy of a global value.
    pub(crate) fn is_inactive(&self, path: &DocumentPath) -> bool {
        is_inherited_global(path) || self.off.iter().any(|off| off.is_above(path))
    }
}

/// Whether a path is that of a global value in a subchart, into which helm copies it.
pub(super) fn is_inherited_global(path: &DocumentPath) -> bool {
    path.steps().iter().skip(1).any(|step| *step == PathStep::Key("global".into()))
}
