//! Releases of either kind that are prepared, and the order in which they are installed.

use chart::report::RelocationReport;
use chart::wiring::OfflineWiring;
use types::input::Input;

use super::manifest_preparer::PreparedManifests;
use super::prepared::PreparedRelease;

/// A release of either kind that is prepared for the cluster.
#[derive(Debug)]
pub enum InstallableRelease {
    /// A chart, for [`crate::release::Deployer`].
    Chart(Box<PreparedRelease>),
    /// Plain manifests, for [`crate::release::ManifestDeployer`].
    Manifests(Box<PreparedManifests>),
}

impl InstallableRelease {
    /// How its images were moved, with the proof and what is left.
    pub fn report(&self) -> &RelocationReport {
        match self {
            Self::Chart(chart) => &chart.report,
            Self::Manifests(manifests) => &manifests.report,
        }
    }

    /// How its runtimes were configured for offline use.
    pub fn wiring(&self) -> &OfflineWiring {
        match self {
            Self::Chart(chart) => &chart.wiring,
            Self::Manifests(manifests) => &manifests.wiring,
        }
    }

    fn number(&self) -> usize {
        match self {
            Self::Chart(chart) => chart.number,
            Self::Manifests(manifests) => manifests.number,
        }
    }

    fn brings_kinds(&self) -> bool {
        match self {
            Self::Chart(chart) => chart.brings_kinds,
            Self::Manifests(manifests) => manifests.brings_kinds,
        }
    }
}

/// Sorts releases in the order of installation: as `needs:` says, and those with custom resource
/// definitions first, since the API server refuses objects of a kind that it does not know.
pub fn sort_by_install_order(input: &Input, prepared: &mut [InstallableRelease]) {
    let brings =
        |number: usize| prepared.iter().any(|one| one.number() == number && one.brings_kinds());
    let order = input.install_order(&brings);
    prepared.sort_by_key(|one| order.iter().position(|number| *number == one.number()));
}
