//! The depot: a read-only server for the content of any [`store::Source`] (a store, or bundle files
//! on their media). It has two endpoints: the OCI distribution API (pull) and the Hugging Face Hub.
//!
//! Data flow: when the depot opens, [`reading`] reads all manifests once and fills the
//! [`Catalogue`] and the [`Models`]; a request is looked up there by [`oci`] or [`hub`], and the
//! blob is streamed from the source, never decoded and never copied. Errors become responses only
//! in [`respond`].

mod catalogue;
mod error;
mod hub;
mod models;
mod oci;
mod range;
mod reading;
mod respond;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{any, get};

pub use catalogue::{LeftOut, Summary};
pub use error::{Error, Result};

use catalogue::Catalogue;
use models::Models;

/// What can be pulled, and the source of its bytes.
pub struct Depot {
    source: Arc<dyn store::Source>,
    catalogue: Catalogue,
    models: Models,
}

impl Depot {
    /// Reads all manifests of the source, but no other blob. Blocks on the disk. What is damaged or
    /// absent is left out and listed in the [`Summary`]; the rest is served.
    pub fn open(source: Arc<dyn store::Source>) -> Result<Self> {
        let mut models = Models::default();
        let catalogue = reading::read(&*source, |root, manifest| models.add(root, manifest))?;
        models.settle();
        Ok(Self { source, catalogue, models })
    }

    /// What can be pulled, in numbers, for the start message.
    pub fn summary(&self) -> Summary {
        self.catalogue.summary(self.models.len())
    }
}

/// One router for both endpoints.
pub fn router(depot: Arc<Depot>) -> Router {
    let oci = Router::new()
        .route("/v2/", get(oci::base))
        .route("/v2", get(oci::base))
        .route("/v2/{*path}", any(oci::route))
        .layer(map_response(async |response| behind("oci", response)));
    let hub = Router::new()
        .route("/api/{*path}", any(hub::api))
        // File URLs begin with the repository's id (`/BAAI/bge-m3/resolve/main/config.json`), so
        // every other path is one.
        .fallback(hub::files)
        .layer(map_response(async |response| behind("hub", response)));
    oci.merge(hub).with_state(depot)
}

/// Marks a response with its endpoint, for the server's metrics.
fn behind(door: &'static str, mut response: Response) -> Response {
    response.extensions_mut().insert(net::serve::Door(door));
    response
}
