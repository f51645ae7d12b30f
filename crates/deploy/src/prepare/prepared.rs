//! A chart that was moved, wired and proven.

use std::collections::BTreeSet;

use chart::report::RelocationReport;
use chart::wiring::OfflineWiring;
use remote::scratch::ScratchFolder;
use resolve::OpenedChart;
use types::{ImagePin, Reference};

use crate::release::PlannedRelease;

/// What a release needs of helm's post-renderer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PostRenderNeed {
    /// How its pods name images.
    pub(crate) pin: ImagePin,
    /// Whether it is only for the pins: every image is moved by values already, or left to the nodes or the
    /// webhook.
    pub(crate) is_pin_only: bool,
}

/// A chart prepared for helm. Its temporary files are deleted when this is dropped.
#[derive(Debug)]
pub struct PreparedRelease {
    /// What [`crate::release::Deployer`] installs.
    pub planned: PlannedRelease,
    /// How its images were moved, with the proof and what is left.
    pub report: RelocationReport,
    /// How its runtimes were configured for offline use.
    pub wiring: OfflineWiring,
    /// The images of the site that its pods name by tag alone, although digests were to be named: an
    /// annotation lists their locked digests.
    pub unpinned: BTreeSet<Reference>,
    /// What it needs of the post-renderer, if anything.
    pub(crate) post_render: Option<PostRenderNeed>,
    /// Whether the chart contains CustomResourceDefinitions that other charts may need.
    pub brings_kinds: bool,
    /// Its index among the releases of gantry.yaml.
    pub(super) number: usize,
    /// The values files and the chart that `planned` names.
    pub(super) _files: (OpenedChart, ScratchFolder),
}
