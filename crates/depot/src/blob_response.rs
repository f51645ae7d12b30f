//! A blob as the body of a response: whole or a range of it, for HEAD and GET, at both endpoints. What
//! is known to be damaged is an error; what turns out to be damaged while it is sent is never sent to
//! its end ([`crate::blob_checks`]).

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use types::Digest;

use crate::blob_checks::{BlobChecks, BlobSnapshot, BlobState, BlobVerdict, ReaderCheck};
use crate::hashed_stream::stream_hashed;
use crate::range::{RequestedRange, is_unchanged, parse_range};

/// How long the headers of a part of a blob wait for the check of the whole blob. After that they are
/// sent, and the bytes wait: hf-hub reads the size of a file from the headers of `bytes=0-0` alone, and
/// clients give up when no header comes.
const CHECK_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no blob to answer with.
pub(crate) enum BlobFailure {
    /// The source does not have it.
    Missing,
    /// It is damaged or cannot be read; with the reason.
    Damaged(String),
}

/// Answers with a blob that manifests give this size. `response` has the headers of the endpoint
/// already; status, length, ranges and body are set here. A HEAD does not open the blob.
///
/// # Errors
/// Fails when the blob is known to be damaged, or cannot be opened and read at all, so that the status
/// can still say so. When it turns out to be damaged later, the connection (or HTTP/2 stream) is ended
/// before the body is complete.
pub(crate) async fn respond_with_blob(
    checks: &Arc<BlobChecks>,
    digest: Digest,
    size: u64,
    method: &Method,
    request: &HeaderMap,
    mut response: Response,
) -> Result<Response, BlobFailure> {
    // On a thread that may block: a medium that does not answer must not stop other requests.
    let look_up = {
        let checks = Arc::clone(checks);
        move || checks.look_up(digest, size)
    };
    let state = tokio::task::spawn_blocking(look_up)
        .await
        .map_err(|lost| BlobFailure::Damaged(lost.to_string()))?;
    let (blob, is_intact) = match state {
        BlobState::Intact(blob) => (blob, true),
        BlobState::Unchecked(blob) => (blob, false),
        BlobState::Damaged(reason) => return Err(BlobFailure::Damaged(reason)),
        BlobState::Missing => return Err(BlobFailure::Missing),
    };
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
    if method == Method::HEAD || range.is_empty() {
        return Ok(response);
    }
    let must_wait = !is_intact && range != (0..size);
    let mut chunks = if must_wait {
        let mut check = Arc::clone(checks).check_blob(blob.clone()).boxed();
        match tokio::time::timeout(CHECK_PATIENCE, &mut check).await {
            Ok(BlobVerdict::Intact) => stream_blob(checks, blob, range),
            Ok(BlobVerdict::Damaged(reason)) => return Err(BlobFailure::Damaged(reason)),
            Err(_) => {
                let checks = Arc::clone(checks);
                let chunks = async move {
                    match check.await {
                        BlobVerdict::Intact => stream_blob(&checks, blob, range),
                        BlobVerdict::Damaged(reason) => {
                            stream::iter([Err(io::Error::other(reason))]).boxed()
                        }
                    }
                };
                *response.body_mut() = Body::from_stream(chunks.flatten_stream());
                return Ok(response);
            }
        }
    } else {
        match is_intact {
            true => stream_blob(checks, blob, range),
            false => stream_hashed(checks, blob),
        }
    };
    checks.note_sent();
    // Wait for the first chunk before the status is sent, so that a failure is an error response.
    let first = chunks.next().await.transpose();
    let first = first.map_err(|error| BlobFailure::Damaged(error.to_string()))?;
    let sending = Arc::clone(checks);
    let rest = chunks.inspect(move |chunk| {
        sending.note_sent();
        if chunk.is_err() {
            sending.metrics().count_aborted_response();
        }
    });
    *response.body_mut() = Body::from_stream(stream::iter(first.map(Ok)).chain(rest));
    Ok(response)
}

/// A range of a blob that was found intact.
fn stream_blob(
    checks: &Arc<BlobChecks>,
    blob: BlobSnapshot,
    range: Range<u64>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let checks = Arc::clone(checks);
    net::body::stream_reader(net::body::ReadAhead::OnceTaken, move || {
        checks.open_reader(blob, range, ReaderCheck::Files)
    })
}
