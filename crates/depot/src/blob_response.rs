//! A blob as the body of a response: whole or a range of it, for HEAD and GET, at both endpoints.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use store::Source;
use types::Digest;

use crate::range::{RequestedRange, is_unchanged, parse_range};

/// Answers with a blob. `response` has the headers of the endpoint already; status, length, ranges
/// and body are set here. A HEAD does not open the blob.
///
/// # Errors
/// Fails when the blob cannot be opened and read at all, so that the status can still say so. When
/// reading fails later, the connection is closed before the body is complete.
pub(crate) async fn respond_with_blob(
    source: &Arc<dyn Source>,
    digest: Digest,
    size: u64,
    method: &Method,
    request: &HeaderMap,
    mut response: Response,
) -> io::Result<Response> {
    let etag = response.headers().get(header::ETAG);
    if etag.is_some_and(|etag| is_unchanged(request, etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let (status, range) = match parse_range(request, size, etag) {
        RequestedRange::Whole => (StatusCode::OK, 0..size),
        RequestedRange::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        // hf-hub asks for the size of a file with `bytes=0-0`, also for an empty one, where no
        // range can be satisfied.
        RequestedRange::Unsatisfiable if size == 0 => (StatusCode::OK, 0..0),
        RequestedRange::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    let content_range = match status {
        StatusCode::PARTIAL_CONTENT => {
            Some(format!("bytes {}-{}/{size}", range.start, range.end - 1))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => Some(format!("bytes */{size}")),
        // An empty body with a range request: say its size, as hf-hub reads it from this header.
        _ if size == 0 && request.contains_key(header::RANGE) => Some("bytes */0".to_owned()),
        _ => None,
    };
    if let Some(value) = content_range.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    *response.status_mut() = status;
    if method != Method::HEAD && !range.is_empty() {
        let source = Arc::clone(source);
        let mut chunks = net::body::stream_reader(move || {
            source.open_blob(&digest, range).map_err(io::Error::other)
        });
        // Wait for the first chunk before the status is sent, so that a failure is an error
        // response.
        let first = chunks.next().await.transpose()?;
        *response.body_mut() = Body::from_stream(stream::iter(first.map(Ok)).chain(chunks));
    }
    Ok(response)
}
