//! The routes of the registry: takes a path apart, and serves manifests and blobs.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use types::Digest;

use super::lists;
use crate::Depot;
use crate::blob_response::{self, BlobFailure};
use crate::catalogue::{CatalogueRepository, ManifestEntry, RepositoryLookupError};
use crate::catalogue_reader::read_manifest;
use crate::error_response::OciError as Problem;
use crate::hub;
use crate::range::is_unchanged;

/// The header by which docker recognises a registry (Docker Registry HTTP API V2, "API Version
/// Check"); it is on every response.
const API_VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("docker-distribution-api-version"),
    HeaderValue::from_static("registry/2.0"),
);
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// `GET /v2/`: the check whether there is a registry.
pub(crate) async fn handle_version_check() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json), API_VERSION], "{}").into_response()
}

/// Everything below `/v2/`.
pub(crate) async fn handle_request(
    State(depot): State<Arc<Depot>>,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let mut response = match answer_request(&depot, &path, &query, &method, &headers).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    };
    let (name, value) = API_VERSION;
    response.headers_mut().insert(name, value);
    response
}

async fn answer_request(
    depot: &Arc<Depot>,
    path: &str,
    query: &HashMap<String, String>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Problem::ReadOnly);
    }
    if path == "_catalog" {
        return Ok(lists::answer_catalog(depot, query));
    }
    let ns = query.get("ns").map(String::as_str);
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Ok(lists::answer_tags(name, find_repository(depot, name, ns)?, query));
    }
    if let Some((name, version)) = path.rsplit_once("/manifests/") {
        if let Some(response) = hub::answer_llama_manifest(depot, name, version, headers) {
            return Ok(response);
        }
        let repository = find_repository(depot, name, ns)?;
        return serve_manifest(depot, repository, (name, version), method, headers).await;
    }
    if let Some((name, digest)) = path.rsplit_once("/blobs/") {
        let repository = find_repository(depot, name, ns)?;
        return serve_blob(depot, repository, (path, digest), method, headers).await;
    }
    if let Some((name, digest)) = path.rsplit_once("/referrers/") {
        let repository = find_repository(depot, name, ns)?;
        return Ok(lists::answer_referrers(depot, repository, &parse_digest(digest)?, query));
    }
    Err(Problem::NameUnknown(path.to_owned()))
}

fn find_repository<'a>(
    depot: &'a Depot,
    name: &str,
    ns: Option<&str>,
) -> Result<&'a CatalogueRepository, Problem> {
    depot.catalogue.find_repository(name, ns).map_err(|unknown| match unknown {
        RepositoryLookupError::Absent => Problem::NameUnknown(name.to_owned()),
        RepositoryLookupError::Ambiguous(candidates) => {
            Problem::NameAmbiguous { name: name.to_owned(), candidates }
        }
    })
}

fn parse_digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::DigestInvalid(text.to_owned()))
}

async fn serve_manifest(
    depot: &Arc<Depot>,
    repository: &CatalogueRepository,
    (name, version): (&str, &str),
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let (digest, found) = match depot.catalogue.find_manifest(repository, version) {
        ManifestEntry::Served(digest, found) => (digest, found),
        ManifestEntry::Damaged(reason) => return Err(Problem::Broken(reason.to_owned())),
        ManifestEntry::Absent => {
            let (name, version) = (name.to_owned(), version.to_owned());
            return Err(Problem::ManifestUnknown { name, version });
        }
    };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    set_digest_headers(headers, &digest);
    if headers.get(header::ETAG).is_some_and(|etag| is_unchanged(request, etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(found.size));
    if let Ok(value) = HeaderValue::from_str(&found.media_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    *response.body_mut() = match &found.bytes {
        _ if method == Method::HEAD => Body::empty(),
        Some(bytes) => Body::from(bytes.clone()),
        None => {
            let depot = Arc::clone(depot);
            let read = move || read_manifest(&*depot.source, &digest);
            let bytes = tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| Problem::Broken(error.to_string()))?
                .map_err(|error| Problem::Broken(error.to_string()))?;
            Body::from(bytes)
        }
    };
    Ok(response)
}

async fn serve_blob(
    depot: &Arc<Depot>,
    repository: &CatalogueRepository,
    (path, digest): (&str, &str),
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let digest = parse_digest(digest)?;
    let Some(size) = depot.catalogue.find_blob_size(repository, &digest) else {
        return Err(Problem::BlobUnknown(digest.to_string()));
    };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    set_digest_headers(headers, &digest);
    // `ollama pull` takes the blob's address from `Location` and fails without it; other clients
    // ignore the header in a 200.
    if let Ok(value) = HeaderValue::from_str(&format!("/v2/{path}")) {
        headers.insert(header::LOCATION, value);
    }
    blob_response::respond_with_blob(&depot.checks, digest, size, method, request, response)
        .await
        .map_err(|failure| match failure {
            BlobFailure::Missing => Problem::BlobUnknown(digest.to_string()),
            BlobFailure::Damaged(reason) => Problem::Broken(reason),
        })
}

/// Sets the headers of content that is addressed by its digest.
fn set_digest_headers(headers: &mut HeaderMap, digest: &Digest) {
    if let Ok(value) = HeaderValue::from_str(&digest.to_string()) {
        headers.insert(CONTENT_DIGEST, value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("\"{digest}\"")) {
        headers.insert(header::ETAG, value);
    }
}
