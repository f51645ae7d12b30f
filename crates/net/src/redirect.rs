//! Redirects: where the next request goes, and what it may carry there.

use http::{Method, StatusCode, header};

use crate::origin::{RedirectPolicy, is_same_origin, remove_secret_headers};
use crate::request::RequestBody;
use crate::{HttpRequest, HttpResponse};

/// The most redirects of one request, as browsers and reqwest have it.
pub(crate) const MOST_REDIRECTS: usize = 10;

/// The request that a redirect asks for; `None` when the response is none, or must not be followed.
pub(crate) fn follow_redirect(
    request: &HttpRequest,
    response: &HttpResponse,
) -> Option<HttpRequest> {
    let status = response.status();
    let is_redirect = matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !is_redirect {
        return None;
    }
    let mut next = request.clone();
    // The server's own URL is the base, which the scheme may have been changed of.
    next.url = response.url().join(response.header("location")?).ok()?;
    if !matches!(next.url.scheme(), "http" | "https") {
        return None;
    }
    let is_same = is_same_origin(response.url(), &next.url);
    if !is_same && request.redirects == RedirectPolicy::SameOrigin {
        return None;
    }
    if !is_same {
        remove_secret_headers(&mut next.headers);
    }
    // RFC 9110, 15.4: 307 and 308 keep method and body; after the others a request of a document is made.
    let keeps_method =
        matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
            || matches!(next.method, Method::GET | Method::HEAD);
    if !keeps_method {
        next.method = Method::GET;
        next.body = RequestBody::Empty;
        next.headers.remove(header::CONTENT_TYPE);
        next.headers.remove(header::CONTENT_LENGTH);
        next.headers.remove(header::CONTENT_RANGE);
    }
    Some(next)
}
