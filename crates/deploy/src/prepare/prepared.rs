//! A release that was moved, wired and proven, and the order in which such releases are installed.

use std::collections::BTreeSet;

use chart::report::RelocationReport;
use chart::wiring::OfflineWiring;
use remote::scratch::ScratchFolder;
use resolve::OpenedChart;
use types::Reference;
use types::input::Input;

use crate::release::PlannedRelease;

/// A release prepared for helm. Its temporary files are deleted when this is dropped.
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
    /// Whether the chart contains CustomResourceDefinitions that other charts may need.
    pub brings_kinds: bool,
    /// Its index in gantry.yaml.
    pub(super) number: usize,
    /// The values files and the chart that `planned` names.
    pub(super) _files: (OpenedChart, ScratchFolder),
}

/// Sorts releases in the order of installation: as `needs:` says, and charts with custom resource
/// definitions first, since the API server refuses objects of a kind that it does not know.
pub fn sort_by_install_order(input: &Input, prepared: &mut [PreparedRelease]) {
    let brings =
        |number: usize| prepared.iter().any(|one| one.number == number && one.brings_kinds);
    let order = input.install_order(&brings);
    prepared.sort_by_key(|one| order.iter().position(|number| *number == one.number));
}
