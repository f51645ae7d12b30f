//! What the checks examine: the cluster, the site, the lock and the releases, and what is expected of
//! them. The caller gathers it, and every check reads from it.

use std::path::PathBuf;

use cluster::Cluster;
use types::input::checks::DeclaredCheck;
use types::lock::Lock;

use super::checked_target::CheckedModelTarget;
use super::release::CheckedRelease;
use super::site_registry::SiteRegistry;
use crate::inference::recognise::InferenceRules;

/// What is checked, and with which expectations.
pub struct CheckSubject {
    /// The cluster.
    pub cluster: Cluster,
    /// The site's registry; absent without a site file, and then what concerns it is skipped.
    pub registry: Option<SiteRegistry>,
    /// The storage class that `site.yaml` names.
    pub storage_class: Option<String>,
    /// The lock; absent if there is none.
    pub lock: Option<Lock>,
    /// The releases that are, or will be, deployed.
    pub releases: Vec<CheckedRelease>,
    /// Whether the releases have to be deployed already.
    pub deployed: ReleaseExpectation,
    /// The checks that `gantry.yaml` declares.
    pub checks: Vec<DeclaredCheck>,
    /// The rules that recognise model servers.
    pub servers: InferenceRules,
    /// The targets where models should be.
    pub models: Vec<CheckedModelTarget>,
    /// Files with additional CA certificates, for checks of URLs.
    pub ca: Vec<PathBuf>,
}

/// Whether releases have to be deployed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseExpectation {
    /// They have to: a missing one is a failure.
    Required,
    /// They need not be: a missing one is skipped.
    Optional,
}
