//! Installs and removes releases. The caller has already opened the charts and rewritten their
//! images to the site's registry; this module applies the result to the cluster with helm.
//!
//! Data flow: a [`PlannedRelease`] goes into [`Deployer::plan_namespace`] (a dry run) or
//! [`Deployer::deploy`]. `namespace` and `accounts` create the supporting objects, `records`
//! repairs what an interrupted helm left behind, `compare` decides whether anything changes,
//! `prove` refuses images from outside the site, and `wait` waits until everything is ready.
//! `undeploy` removes a release again.

mod accounts;
mod change;
mod compare;
mod deployer;
mod diff;
mod helm;
mod install;
mod labels;
mod namespace;
mod objects;
mod plan;
mod planned;
mod progress;
mod prove;
mod records;
mod rights;
mod undeploy;
mod wait;
mod workloads;

pub use change::ReleaseAction;
pub use compare::{ObjectChange, ObjectDifference};
pub use deployer::{DeployOptions, Deployer, ForeignReleases, OnFailure};
pub use install::DeployedRelease;
pub use labels::{CA, release_labels};
pub use namespace::{
    MissingNamespace, PullSecret, SiteObjects, SupportObject, SupportObjectStatus,
    list_prepare_rights, prepare_namespace,
};
pub use plan::DeployPlan;
pub use planned::PlannedRelease;
pub use progress::{PendingObject, ProgressWatcher, ReleaseProgress};
pub use records::ReleaseRepair;
pub use undeploy::{
    ClaimRetention, InstalledRelease, NamespaceRetention, RemovalReport, find_releases,
    undeploy_releases,
};
