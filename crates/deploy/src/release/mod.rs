//! Releases in a cluster: what each needs beside it, helm's install of what was moved and proven, and
//! the wait until it is up. The charts are opened and moved by the caller; here they meet the cluster.
//!
//! The way of the data: a [`Planned`] release goes through [`Deployer::plan`] (what would change) or
//! [`Deployer::deploy`]: `namespace` and `accounts` make what is beside it, `state` mends what a killed
//! run left, `compare` says whether anything changes, `live` waits. `undeploy` takes it away.

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

/// What Gantry calls this part of it on what it makes.
const PART: &str = "release";
/// The ConfigMap and the Secret with the site's authority.
pub const CA: &str = "gantry-ca";
/// The label of helm's records that says that Gantry installed it.
pub(crate) const LABEL: (&str, &str) = ("gantry.dev/part", PART);

/// A release that is moved to the site and ready to be installed.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What helm is given.
    pub install: Install,
    /// The chart's objects as they render without a cluster: its kinds tell which rights are needed.
    pub rendered: String,
    /// The chart's name.
    pub chart: String,
    /// The chart's version.
    pub version: String,
    /// Images that no value moves, and that the nodes' mirrors or the webhook do: the user says so.
    pub elsewhere: BTreeSet<Reference>,
}

/// What a failed release is left as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// As it is, for a look at it.
    Leave,
    /// As it was before.
    RollBack,
}

/// Whether releases that somebody else installed are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// They are an error.
    Refused,
    /// They become Gantry's.
    TakenOver,
}

/// How releases are deployed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a release may take to come up, hooks and pods each.
    pub timeout: Duration,
    /// What a failed release is left as.
    pub on_failure: OnFailure,
    /// Whether those of others are taken over.
    pub foreign: Foreign,
}

/// Deploys releases into one cluster.
pub struct Deployer<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The kinds that it has.
    pub kinds: &'a Kinds,
    /// helm, with the same cluster.
    pub helm: &'a InCluster,
    /// Where images are to be.
    pub target: &'a Target,
    /// What operators have compiled in.
    pub rules: &'a Rules,
    /// The images that the site has.
    pub locked: &'a Locked,
    /// What the namespaces need.
    pub site: &'a SiteObjects,
    /// How.
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

/// The labels that helm's records of Gantry's releases bear.
pub fn labels() -> Vec<String> {
    let (key, value) = LABEL;
    vec![format!("{key}={value}")]
}
