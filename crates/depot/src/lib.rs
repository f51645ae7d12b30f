//! The depot: a read-only server for the content of any [`store::Source`] (a store, or bundle files
//! on their media). It has two endpoints: the OCI distribution API (pull) and the Hugging Face Hub.
//!
//! Data flow: when the depot opens, [`reading`] reads all manifests once and fills the
//! [`Catalogue`] and the [`ServedModels`]; a request is looked up there by [`oci`] or [`hub`], and the
//! blob is streamed from the source, never decoded and never copied. Errors become responses only
//! in [`respond`].

mod blob_response;
mod catalogue;
mod catalogue_reader;
mod error;
mod error_response;
mod hub;
mod oci;
mod range;
mod served_models;

use std::sync::Arc;

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{any, get};

pub use catalogue::{DepotSummary, UnservedRoot};
pub use error::{Error, Result};

use catalogue::Catalogue;
use served_models::ServedModels;

/// What can be pulled, and the source of its bytes.
pub struct Depot {
    source: Arc<dyn store::Source>,
    catalogue: Catalogue,
    models: ServedModels,
}

impl Depot {
    /// Reads all manifests of the source, but no other blob. Blocks on the disk. What is damaged or
    /// absent is left out and listed in the [`DepotSummary`]; the rest is served.
    pub fn open(source: Arc<dyn store::Source>) -> Result<Self> {
        let mut models = ServedModels::default();
        let catalogue = catalogue_reader::read_catalogue(&*source, |root, manifest| {
            models.add_root(root, manifest)
        })?;
        models.add_default_branches();
        Ok(Self { source, catalogue, models })
    }

    /// What can be pulled, in numbers, for the start message.
    pub fn summarize(&self) -> DepotSummary {
        self.catalogue.summarize(self.models.len())
    }
}

/// One router for both endpoints.
pub fn build_router(depot: Arc<Depot>) -> Router {
    let oci = Router::new()
        .route("/v2/", get(oci::handle_version_check))
        .route("/v2", get(oci::handle_version_check))
        .route("/v2/{*path}", any(oci::handle_request))
        .layer(map_response(async |response| tag_endpoint("oci", response)));
    let hub = Router::new()
        .route("/api/{*path}", any(hub::handle_api))
        // File URLs begin with the repository's id (`/BAAI/bge-m3/resolve/main/config.json`), so
        // every other path is one.
        .fallback(hub::handle_files)
        .layer(map_response(async |response| tag_endpoint("hub", response)));
    oci.merge(hub).with_state(depot)
}

/// Marks a response with its endpoint, for the server's metrics.
fn tag_endpoint(name: &'static str, mut response: Response) -> Response {
    response.extensions_mut().insert(net::serve::EndpointName(name));
    response
}
