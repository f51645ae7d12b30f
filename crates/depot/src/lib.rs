//! The depot: doors over any [`store::Source`] (a store, or volumes where they lie). What is there
//! is read once at the start from the manifests; blobs are streamed from where they are, never
//! decoded, never copied.
//!
//! Doors: OCI distribution (pull) and the Hugging Face Hub. `spec/` of the design has the facts of
//! both protocols; statuses are made in [`respond`] only.

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

/// What is there, and where its bytes are.
pub struct Depot {
    source: Arc<dyn store::Source>,
    catalogue: Catalogue,
    models: Models,
}

impl Depot {
    /// Reads what the source has. Blocks on the disk: only manifests are read, no blob. What is
    /// damaged or absent is left out and told in the [`Summary`]; the rest is handed out.
    pub fn open(source: Arc<dyn store::Source>) -> Result<Self> {
        let mut models = Models::default();
        let catalogue = reading::read(&*source, |root, manifest| models.add(root, manifest))?;
        models.settle();
        Ok(Self { source, catalogue, models })
    }

    /// What there is to pull, for people.
    pub fn summary(&self) -> Summary {
        self.catalogue.summary(self.models.len())
    }
}

/// All doors as one router.
pub fn router(depot: Arc<Depot>) -> Router {
    let oci = Router::new()
        .route("/v2/", get(oci::base))
        .route("/v2", get(oci::base))
        .route("/v2/{*path}", any(oci::route))
        .layer(map_response(async |response| behind("oci", response)));
    let hub = Router::new()
        .route("/api/{*path}", any(hub::api))
        .fallback(hub::files)
        .layer(map_response(async |response| behind("hub", response)));
    oci.merge(hub).with_state(depot)
}

/// Notes the door on an answer, for the server's metrics.
fn behind(door: &'static str, mut response: Response) -> Response {
    response.extensions_mut().insert(net::serve::Door(door));
    response
}
