//! Installs and removes releases. The caller has already opened the charts and rewritten their
//! images to the site's registry; this module applies the result to the cluster with helm.
//!
//! Data flow: a [`PlannedRelease`] goes into [`Deployer::plan`] (a dry run) or
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
mod live;
mod namespace;
mod objects;
mod plan;
mod prove;
mod rights;
mod state;
mod undeploy;
mod workloads;

use std::collections::BTreeSet;
use std::time::Duration;

use chart::Rules;
use chart::relocate::{Locked, Target};
use cluster::{Cluster, Kinds};
use remote::helm::{InCluster, Install};
use types::Reference;

pub use compare::{Change, Difference};
pub use error::{Error, Result};
pub use install::{Action, Deployed};
pub use live::{Pending, View, Watch};
pub use namespace::{
    Beside, Missing, Outcome, PullSecret, SiteObjects, prepare, rights_to_prepare,
};
pub use plan::Plan;
pub use state::Mended;
pub use undeploy::{Claims, Found, Removed, Whole, find, undeploy};

/// The value of the label `gantry.dev/part` on objects that this module creates.
const PART: &str = "release";
/// The name of the ConfigMap and the Secret that hold the site's CA certificate.
pub const CA: &str = "gantry-ca";
/// The label (key, value) on helm's release records that marks a release as installed by Gantry.
pub(crate) const LABEL: (&str, &str) = ("gantry.dev/part", PART);

/// A release whose images point to the site's registry, ready to be installed.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The chart, values and names that helm gets.
    pub install: Install,
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
pub enum Foreign {
    /// Deploying over one is an error.
    Refused,
    /// Gantry upgrades them and manages them from then on.
    TakenOver,
}

/// The settings of a deploy.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long helm (with its hooks) may take, and then again the release's pods.
    pub timeout: Duration,
    /// What happens to a release that failed.
    pub on_failure: OnFailure,
    /// What to do with releases that Gantry did not install.
    pub foreign: Foreign,
}

/// Deploys releases into one cluster.
pub struct Deployer<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The API resources that the cluster serves.
    pub kinds: &'a Kinds,
    /// The helm binary, configured for the same cluster.
    pub helm: &'a InCluster,
    /// The site's registry, to which images were moved.
    pub target: &'a Target,
    /// The rules that find images in custom resources and in operators.
    pub rules: &'a Rules,
    /// The locked images, under their names at the site.
    pub locked: &'a Locked,
    /// What each namespace gets: pull secret, CA certificate, labels.
    pub site: &'a SiteObjects,
    /// The settings.
    pub options: Options,
}

impl Planned {
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
pub fn labels() -> Vec<String> {
    let (key, value) = LABEL;
    vec![format!("{key}={value}")]
}
