//! Installs and removes releases. The caller has already opened the charts and rewritten their
//! images to the site's registry; this module applies the result to the cluster with helm.
//!
//! Data flow: a [`PlannedRelease`] goes into [`Deployer::plan_namespace`] (a dry run) or
//! [`Deployer::deploy`]. `namespace` and `accounts` create the supporting objects, `records`
//! repairs what an interrupted helm left behind, `compare` decides whether anything changes,
//! `prove` refuses images from outside the site, and `wait` waits until everything is ready.
//! `undeploy` removes a release again.

mod accounts;
mod compare;
mod diff;
mod error;
mod helm;
mod install;
mod namespace;
mod objects;
mod plan;
mod prove;
mod records;
mod rights;
mod undeploy;
mod wait;
mod workloads;

use std::collections::BTreeSet;
use std::time::Duration;

use chart::OperatorRules;
use chart::relocate::{LockedImages, RelocationTarget};
use cluster::{Cluster, DiscoveredKinds};
use remote::helm::{HelmClient, ReleaseInstall};
use types::Reference;

pub use compare::{ObjectChange, ObjectDifference};
pub use error::{Error, Result};
pub use install::{DeployedRelease, ReleaseAction};
pub use namespace::{
    MissingNamespace, PullSecret, SiteObjects, SupportObject, SupportObjectStatus,
    list_prepare_rights, prepare_namespace,
};
pub use plan::DeployPlan;
pub use records::ReleaseRepair;
pub use undeploy::{
    ClaimRetention, InstalledRelease, NamespaceRetention, RemovalReport, find_releases,
    undeploy_releases,
};
pub use wait::{PendingObject, ProgressWatcher, ReleaseProgress};

/// The value of the label `gantry.dev/part` on objects that this module creates.
const PART: &str = "release";
/// The name of the ConfigMap and the Secret that hold the site's CA certificate.
pub const CA: &str = "gantry-ca";
/// The label (key, value) on helm's release records that marks a release as installed by Gantry.
pub(crate) const LABEL: (&str, &str) = ("gantry.dev/part", PART);

/// A release whose images point to the site's registry, ready to be installed.
#[derive(Debug, Clone)]
pub struct PlannedRelease {
    /// The chart, values and names that helm gets.
    pub install: ReleaseInstall,
    /// The chart's objects rendered without a cluster. Their kinds determine which rights are
    /// needed.
    pub rendered: String,
    /// The chart's name.
    pub chart: String,
    /// The chart's version.
    pub version: String,
    /// Public image names that may stay, because the user says that registry mirrors on the nodes
    /// or the admission webhook redirect them.
    pub elsewhere: BTreeSet<Reference>,
}

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
    /// The locked images, under their names at the site.
    pub locked: &'a LockedImages,
    /// What each namespace gets: pull secret, CA certificate, labels.
    pub site: &'a SiteObjects,
    /// The settings.
    pub options: DeployOptions,
}

impl PlannedRelease {
    /// The release's name.
    pub fn name(&self) -> &str {
        &self.install.release.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.install.release.namespace.as_deref().unwrap_or("default")
    }
}

/// The labels (`key=value`) that helm is to put on its records of Gantry's releases.
pub fn release_labels() -> Vec<String> {
    let (key, value) = LABEL;
    vec![format!("{key}={value}")]
}
