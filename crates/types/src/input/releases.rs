//! The releases of `gantry.yaml`: charts and sets of manifests, which have names, namespaces and needs in
//! common.

use super::content::{ChartSource, Input, InputChart, InputManifestSet};

/// One release of `gantry.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputRelease<'a> {
    /// A chart.
    Chart(&'a InputChart),
    /// Plain manifests.
    Manifests(&'a InputManifestSet),
}

impl<'a> InputRelease<'a> {
    /// The name, as far as the input alone says: a local chart without `release:` has its name in its
    /// Chart.yaml.
    pub fn known_name(self) -> Option<&'a str> {
        match self {
            Self::Chart(chart) => chart.known_release_name(),
            Self::Manifests(set) => Some(&set.release),
        }
    }

    /// The namespace that the input names.
    pub fn namespace(self) -> Option<&'a str> {
        match self {
            Self::Chart(chart) => chart.namespace.as_deref(),
            Self::Manifests(set) => set.namespace.as_deref(),
        }
    }

    /// The releases that have to be ready before this one is installed.
    pub fn needs(self) -> &'a [String] {
        match self {
            Self::Chart(chart) => &chart.needs,
            Self::Manifests(set) => &set.needs,
        }
    }
}

impl Input {
    /// All releases: first the charts, then the sets of manifests, each in the order of the file.
    /// [`Input::install_order`] names them by their index in this list.
    pub fn releases(&self) -> Vec<InputRelease<'_>> {
        list_releases(&self.charts, &self.manifests)
    }
}

/// The releases of an input that is being read.
pub(super) fn list_releases<'a>(
    charts: &'a [InputChart],
    manifests: &'a [InputManifestSet],
) -> Vec<InputRelease<'a>> {
    let charts = charts.iter().map(InputRelease::Chart);
    charts.chain(manifests.iter().map(InputRelease::Manifests)).collect()
}

impl InputChart {
    /// The name of the release, as far as the input alone says: a local chart without `release:` has
    /// its name in its Chart.yaml.
    pub fn known_release_name(&self) -> Option<&str> {
        if let Some(release) = &self.release {
            return Some(release);
        }
        match &self.source {
            ChartSource::Oci { repository } => repository.rsplit('/').next(),
            ChartSource::Repository { name, .. } => Some(name),
            ChartSource::Local(_) => None,
        }
    }
}
