//! Prepares releases for a site: finds the locked chart inside the air gap, moves its images to the
//! site's registry, configures it for offline use, proves both, and refuses what it cannot prove.
//!
//! Data flow: [`select_releases`] matches charts of gantry.yaml with the lock,
//! [`ReleasePreparer::prepare_release`] turns each [`SelectedRelease`] into a [`PreparedRelease`] or a
//! typed [`ReleaseRefusal`], [`sort_by_install_order`] sorts them. Plain manifests go the same way:
//! [`select_manifests`], [`ManifestPreparer::prepare_manifests`], [`PreparedManifests`], with
//! [`crate::release::ManifestDeployer`] for the cluster. What comes out of a chart goes into
//! [`crate::release::Deployer`], which proves once more, on the render against the real cluster, before
//! helm installs anything. Nobody else can make a [`crate::release::PlannedRelease`], so no release gets
//! around the proofs.
//!
//! # From a controller
//!
//! Nothing here reads the command line, the terminal or the environment. A controller that reconciles a
//! release does what `gantry deploy` does:
//!
//! ```text
//! let kinds = cluster.discover_kinds().await?;
//! let preparer = ReleasePreparer { facts: ClusterFacts::read(&cluster, &kinds).await?, … };
//! let prepared = preparer.prepare_release(&selected).await?;       // moved, wired, proven, or refused
//! let deployer = Deployer { cluster: &cluster, kinds: &kinds, … };
//! deployer.require_rights(std::slice::from_ref(&prepared.planned)).await?;
//! deployer.deploy(&prepared.planned, &watcher).await?;             // proven again, installed, ready
//! ```
//!
//! [`crate::Error::NotDeployable`] is final: its [`ReleaseRefusal`] says what has to change in the chart's
//! values, the lock or the site, and becomes a condition. Every other error is worth another try.

mod archives;
mod chart_origin;
mod cluster_facts;
mod installable;
mod manifest_preparer;
mod offline;
mod post_renderer;
mod prepared;
mod preparer;
mod refusal;
mod selection;

pub use archives::ChartArchives;
pub use chart_origin::ChartOrigin;
pub use cluster_facts::ClusterFacts;
pub use installable::{InstallableRelease, sort_by_install_order};
pub use manifest_preparer::{ManifestPreparer, PreparedManifests};
pub use offline::{OfflineChanges, OfflineRules};
pub use post_renderer::{PostRenderCommand, write_plugin_files};
pub use prepared::PreparedRelease;
pub use preparer::{LeftoverWorkaround, ReleasePreparer, UnwiredPolicy};
pub use refusal::{PostRendererReach, ReleaseRefusal};
pub use selection::{
    SelectedManifests, SelectedRelease, choose_namespace, list_release_namespaces,
    select_manifests, select_releases,
};
