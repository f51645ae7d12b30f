//! The file contents of the Hugging Face endpoint: the routes `resolve` and `raw`.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::model_at_commit::ModelAtCommit;
use crate::Depot;
use crate::blob_response::{self, BlobFailure};
use crate::error_response::{HubError as Problem, REPO_COMMIT};
use crate::range::is_unchanged;
use types::snapshot::{HubStorage, SnapshotFile};

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// `/{id}/resolve/{rev}/{path}`: answers 200 with the headers that every client needs. Unlike the
/// Hub it never redirects to a content server.
pub(super) async fn serve_file(
    depot: &Depot,
    found: &ModelAtCommit<'_>,
    path: &str,
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let file = find_file(found, path)?;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    set_common_headers(headers, found, &file.etag());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    // huggingface_hub takes an LFS file's etag and size from these headers, since on the Hub the
    // plain ones belong to the redirect (huggingface_hub `file_download.py`,
    // `get_hf_file_metadata`).
    if file.storage == HubStorage::Lfs {
        if let Some(etag) = headers.get(header::ETAG).cloned() {
            headers.insert(LINKED_ETAG, etag);
        }
        headers.insert(LINKED_SIZE, HeaderValue::from(file.size));
    }
    serve_blob(depot, file, method, request, response).await
}

const OCTETS: &str = "application/octet-stream";

/// `/{id}/raw/{rev}/{path}`: the content as git stores it; of an LFS file that is the pointer.
pub(super) async fn serve_git_file(
    depot: &Depot,
    found: &ModelAtCommit<'_>,
    path: &str,
    method: &Method,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let file = find_file(found, path)?;
    let mut response = Response::new(Body::empty());
    set_common_headers(response.headers_mut(), found, file.git.as_str());
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    if file.storage == HubStorage::Git {
        return serve_blob(depot, file, method, request, response).await;
    }
    let etag = response.headers().get(header::ETAG);
    if etag.is_some_and(|etag| is_unchanged(request, etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let pointer = file.lfs_pointer();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(pointer.len()));
    if method != Method::HEAD {
        *response.body_mut() = Body::from(pointer);
    }
    Ok(response)
}

async fn serve_blob(
    depot: &Depot,
    file: &SnapshotFile,
    method: &Method,
    request: &HeaderMap,
    response: Response,
) -> Result<Response, Problem> {
    let (digest, size) = (file.digest, file.size);
    blob_response::respond_with_blob(&depot.checks, digest, size, method, request, response)
        .await
        .map_err(|failure| {
            Problem::Broken(match failure {
                BlobFailure::Missing => format!("{digest} is missing"),
                BlobFailure::Damaged(reason) => reason,
            })
        })
}

fn find_file<'a>(found: &ModelAtCommit<'a>, path: &str) -> Result<&'a SnapshotFile, Problem> {
    found.snapshot.files.get(path).ok_or_else(|| Problem::EntryNotFound {
        id: found.model.id.clone(),
        path: path.to_owned(),
        commit: found.commit.to_string(),
    })
}

fn set_common_headers(headers: &mut HeaderMap, found: &ModelAtCommit<'_>, etag: &str) {
    if let Ok(value) = HeaderValue::from_str(found.commit.as_str()) {
        headers.insert(REPO_COMMIT, value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        headers.insert(header::ETAG, value);
    }
}
