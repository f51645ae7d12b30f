//! The router: which endpoint answers a path.

use std::sync::Arc;

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{any, get};

use crate::{Depot, files, hub, oci};

/// One router for all endpoints.
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
    let files = Router::new()
        .route("/files", any(files::handle_list))
        .route("/files/", any(files::handle_list))
        .route("/files/{name}", any(files::handle_name))
        .route("/files/{digest}/{name}", any(files::handle_exact_name))
        .layer(map_response(async |response| tag_endpoint("files", response)));
    oci.merge(hub).merge(files).with_state(depot)
}

/// Marks a response with its endpoint, for the server's metrics.
fn tag_endpoint(name: &'static str, mut response: Response) -> Response {
    response.extensions_mut().insert(net::serve::EndpointName(name));
    response
}
