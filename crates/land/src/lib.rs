//! Loads content into its targets, on the inside of the gap: from bundle files or a store to the
//! site.
//!
//! [`load_roots`] copies images, charts and other OCI roots into a registry or a store, many blobs at
//! once, each byte moved once. [`extract`] gives anything back as ordinary files. [`models`] writes models to where runtimes read them (a folder, a
//! bucket), and [`claim`] does that inside a cluster, by a pod that mounts the claim or a node's disk.

mod blob_file;
mod blob_tar;
pub mod claim;
mod error;
pub mod extract;
mod load;
pub mod models;
mod preview;
pub mod selection;
mod target;

pub use error::{Error, Result};
pub use load::{
    FailedRoot, FailureCause, LoadFailureKind, LoadOptions, LoadOutcome, LoadReport, LoadedRoot,
    load_roots,
};
pub use preview::{LoadPreview, RootPreview, preview_load};
pub use target::LoadTarget;
