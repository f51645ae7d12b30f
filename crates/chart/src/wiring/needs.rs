//! What the containers of a release need for offline use.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::{ContainerMount, EnvironmentVariable, PodVolume};
use super::offline_wiring::WiringLeftover;
use super::pods::SpecLocation;

/// The needs of all containers.
#[derive(Debug, Default)]
pub(super) struct WiringNeeds {
    /// Variables, with the containers that need them and do not have them.
    pub(super) env: BTreeMap<EnvironmentVariable, BTreeSet<SpecLocation>>,
    /// Containers that a variable may also reach, because it only switches telemetry off and they
    /// are in the same pod as one that needs it.
    pub(super) harmless: BTreeMap<EnvironmentVariable, BTreeSet<SpecLocation>>,
    /// Variables to which the chart gives another value, so that only a patch can change them.
    pub(super) replaced: BTreeMap<EnvironmentVariable, BTreeSet<SpecLocation>>,
    /// Mounts, with the containers that need them.
    pub(super) mounts: BTreeMap<ContainerMount, BTreeSet<SpecLocation>>,
    /// Volumes, with the pods that need them.
    pub(super) volumes: BTreeMap<PodVolume, BTreeSet<SpecLocation>>,
    /// The reasons, by container and name of the variable or volume.
    pub(super) why: BTreeMap<(SpecLocation, String), String>,
    pub(super) leftovers: Vec<WiringLeftover>,
}

impl WiringNeeds {
    /// Whether no container needs anything.
    pub(super) fn is_empty(&self) -> bool {
        self.env.is_empty() && self.replaced.is_empty() && self.mounts.is_empty()
    }
}
