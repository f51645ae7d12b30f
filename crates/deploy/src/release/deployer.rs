//! What a deploy needs that is the same for all releases of a site: the cluster, helm, the proof's
//! rules and the settings. `plan`, `install` and `rights` add its methods.

use std::time::Duration;

use chart::OperatorRules;
use chart::relocate::RelocationTarget;
use cluster::{Cluster, DiscoveredKinds, FieldConflicts};
use remote::helm::HelmClient;
use types::site_content::SiteContent;

use super::drift::DriftPolicy;
use super::namespace::SiteObjects;
use super::watched_models::WatchedModels;

/// What happens to a release that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It stays as it is, so that somebody can investigate.
    Leave,
    /// It is rolled back to the revision before, or uninstalled if it is the first one.
    RollBack,
}

/// How releases are treated that were not installed by Gantry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignReleases {
    /// Deploying over one is an error.
    Refuse,
    /// Gantry upgrades them and manages them from then on.
    TakeOver,
}

/// The settings of a deploy.
#[derive(Debug, Clone, Copy)]
pub struct DeployOptions {
    /// How long helm (with its hooks) may take, and then again the release's pods.
    pub timeout: Duration,
    /// What happens to a release that failed.
    pub on_failure: OnFailure,
    /// What to do with releases that Gantry did not install.
    pub foreign: ForeignReleases,
    /// What happens to changes that others made to a release.
    pub drift: DriftPolicy,
    /// What happens to fields of manifests that controllers own. helm decides for charts.
    pub conflicts: FieldConflicts,
}

/// Deploys releases into one cluster.
pub struct Deployer<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The API resources that the cluster serves.
    pub kinds: &'a DiscoveredKinds,
    /// The helm binary, configured for the same cluster.
    pub helm: &'a HelmClient,
    /// The site's registry, to which images were moved.
    pub target: &'a RelocationTarget,
    /// The rules that find images in custom resources and in operators.
    pub rules: &'a OperatorRules,
    /// What the site holds of the lock.
    pub locked: &'a SiteContent,
    /// What each namespace gets: pull secret, CA certificate, labels.
    pub site: &'a SiteObjects,
    /// The models whose readers are restarted when they changed.
    pub models: &'a [WatchedModels],
    /// The settings.
    pub options: DeployOptions,
}
