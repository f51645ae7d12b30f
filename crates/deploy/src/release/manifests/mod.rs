//! Releases of plain manifests: Gantry applies them itself, by server-side apply with a field manager of
//! its own, and keeps a record of each revision in the cluster, as helm does for charts.
//!
//! Data flow: a [`PlannedManifests`] (a stream of objects that is proven to pull from the site only) goes
//! into [`ManifestDeployer::plan`] (a dry run) or [`ManifestDeployer::deploy`]. `desired` makes the objects
//! to apply of the stream; `judge` compares each with the cluster by a dry run of
//! the API server; `apply` writes them and removes what the revision before had; `record` remembers that;
//! `remove` takes a release away again.

mod apply;
mod deployer;
mod desired;
mod judge;
mod marks;
mod order;
mod plan;
mod planned;
mod record;
mod remove;

pub use deployer::ManifestDeployer;
pub(crate) use marks::RELEASE;
pub use planned::PlannedManifests;
pub(super) use record::{MANIFESTS, OWNER};
pub(super) use remove::undeploy_manifests;
