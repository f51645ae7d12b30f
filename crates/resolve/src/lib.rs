//! Resolves `gantry.yaml` to `gantry.lock`: charts are rendered, manifests are read and kustomizations
//! built, and all are searched for images; tags become digests, revisions become commits, and local content is copied into the store.
//!
//! Data flow: [`lock_input`] resolves charts ([`charts`]) and manifests ([`manifests`]) first, then the images that they name
//! ([`images`]), models and files. Afterwards [`content`] lists what has to be fetched for a lock.
//! Also here: opening a chart with its values ([`OpenedChart`]), which `relocate`, `deploy` and others
//! work on.

mod archives;
mod charts;
mod collisions;
mod context;
mod error;
mod fetch_plan;
mod files;
mod images;
pub mod init;
mod lock_input;
mod manifest_sources;
mod manifests;
mod models;
mod opened_chart;
mod pins;
mod possible_images;
mod release_images;
mod requests;

pub use charts::{open_chart, open_local_chart};
pub use context::ResolveContext;
pub use error::{Error, ResolveProblem, Result};
pub use fetch_plan::{FetchPlan, plan_fetch, publish_roots, restore_content};
pub use lock_input::{LockedInput, lock_input};
pub use manifest_sources::{is_manifest_path, read_local_manifests};
pub use manifests::read_manifest_set;
pub use opened_chart::OpenedChart;
pub use pins::UpgradeSelection;
pub use possible_images::{LeftOutCause, LeftOutImage};
pub use requests::{FileComparison, list_input_changes};
