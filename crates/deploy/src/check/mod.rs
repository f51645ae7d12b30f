//! Checks a cluster and a site before a deploy (permissions, storage, quota, registry, nodes), and
//! the releases after it (workloads, pods, running digests, first inference).
//!
//! Data flow: a [`CheckSubject`] says what is checked, [`run_checks`] runs the checks (one file of
//! this folder each) side by side, and a [`CheckReport`] has their [`CheckFinding`]s in a fixed
//! order. Nothing is written to the cluster except the pods of `node_pull`, which are removed
//! again.

mod api;
mod checked_target;
mod claims;
mod finding;
mod images;
mod infer;
pub mod junit;
mod model_targets;
mod node_pull;
mod nodes;
mod page;
mod pods;
mod pull_pod;
mod quantity;
mod quota;
mod registry;
mod release;
mod report;
mod rights;
mod run;
mod running;
mod selection;
mod site_registry;
mod storage;
mod subject;
mod workloads;

pub use checked_target::CheckedModelTarget;
pub use finding::{CheckFinding, CheckName, CheckPhase, FindingState};
pub use release::CheckedRelease;
pub use report::{CheckReport, CheckVerdict, FindingCounts};
pub use run::{remove_check_pods, run_checks};
pub use selection::{
    find_input_chart, render_locked_chart, require_locked_releases, select_locked_charts,
};
pub use site_registry::SiteRegistry;
pub use subject::{CheckSubject, ReleaseExpectation};
