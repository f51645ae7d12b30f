//! Installs and removes releases that [`crate::prepare`] has moved to the site: applies them to the
//! cluster with helm, after a last proof.
//!
//! Data flow: a [`PlannedRelease`] goes into [`Deployer::plan_namespace`] (a dry run) or
//! [`Deployer::deploy`]. `namespace` and `accounts` create the supporting objects, `records`
//! repairs what an interrupted helm left behind, `compare` decides whether anything changes,
//! `prove` refuses images from outside the site, and `wait` waits until everything is ready.
//! `undeploy` removes a release again. `drift` finds and puts back what others changed. Releases of
//! plain manifests are applied without helm, by `manifests`.

mod accounts;
mod change;
mod claim_retention;
mod compare;
mod definitions;
mod deployer;
mod diff;
mod drift;
mod helm;
mod image_proof;
mod install;
mod labels;
mod manifests;
mod model_readers;
mod namespace;
mod objects;
mod plan;
mod planned;
mod progress;
mod prove;
mod records;
mod rights;
mod site_namespaces;
mod undeploy;
mod wait;
mod watched_models;
mod workloads;

pub(crate) use accounts::{DEFAULT_ACCOUNT, PullAccount, find_accounts_without_secret};
pub use change::ReleaseAction;
pub use claim_retention::ClaimRetention;
pub(crate) use compare::is_render_noise;
pub use compare::{ObjectChange, ObjectDifference};
pub use deployer::{DeployOptions, Deployer, ForeignReleases, OnFailure};
pub use drift::{DriftOutcome, DriftPolicy, FieldDrift};
pub use image_proof::ImageProof;
pub use install::DeployedRelease;
pub use labels::{CA, release_labels};
pub(crate) use manifests::RELEASE;
pub use manifests::{ManifestDeployer, PlannedManifests};
pub use namespace::{
    MissingNamespace, PullSecret, SiteObjects, SupportObject, SupportObjectStatus,
    prepare_namespaces,
};
pub(crate) use objects::{RenderedObject, read_objects};
pub use plan::DeployPlan;
pub use planned::PlannedRelease;
pub use progress::{PendingObject, ProgressWatcher, ReleaseProgress};
pub use records::ReleaseRepair;
pub(crate) use rights::{expand_rights, list_namespace_rights, list_object_rights};
pub use site_namespaces::{SecretManifests, SiteNamespaceObjects};
pub use undeploy::{
    InstalledRelease, LocatedReleases, NamespaceRetention, ReleaseKind, ReleaseToRemove,
    RemovalReport, find_releases, locate_releases, undeploy_releases,
};
pub use watched_models::WatchedModels;
