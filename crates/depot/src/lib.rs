//! The depot: a read-only server for the content of any [`store::Source`] (a store, or bundle files
//! on their media). It has two endpoints: the OCI distribution API (pull) and the Hugging Face Hub.
//!
//! Data flow: when the depot opens, [`catalogue_reader`] reads all manifests once and fills the
//! [`catalogue::Catalogue`] and the [`served_models::ServedModels`]; a request is looked up there by [`oci`] or [`hub`], and the
//! blob is streamed from the source, never decoded and never copied; [`blob_checks`] sees to it that no
//! client completes a response with wrong bytes. Errors become responses only in [`error_response`].

mod background_check;
mod blob_checks;
mod blob_response;
mod catalogue;
mod catalogue_reader;
mod depot;
mod error;
mod error_response;
mod files;
mod hashed_stream;
mod hub;
mod metrics;
mod oci;
mod range;
mod router;
mod served_files;
mod served_models;

pub use catalogue::{DepotSummary, UnservedRoot};
pub use depot::Depot;
pub use error::{Error, Result};
pub use router::build_router;
