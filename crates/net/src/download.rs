//! Downloading a large body across interruptions, stalls and restarts of the server: the rest is
//! requested by a `Range` from the first missing byte on (RFC 9110, 14).

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use types::Cause;

use crate::attempt::{FailedAttempt, SendError, describe_status};
use crate::history::AttemptHistory;
use crate::{Client, Error, HttpRequest, HttpResponse, Result, RetryPolicy};

/// A body being downloaded. Dropping it stops the transfer; the caller keeps the bytes it has.
pub struct Download {
    client: Client,
    request: HttpRequest,
    position: u64,
    size: Option<u64>,
    etag: Option<HeaderValue>,
    response: Option<HttpResponse>,
    /// From a server without ranges: the rest of the chunk in which the position is.
    rest: Option<Bytes>,
    history: AttemptHistory,
}

impl Client {
    /// Downloads the body of a GET from the byte `from` on, resumed after interruptions and stalls.
    /// `size` is the whole length, where it is known.
    pub fn download(&self, request: HttpRequest, from: u64, size: Option<u64>) -> Download {
        Download::new(self.clone(), request, from, size)
    }
}

impl Download {
    pub(crate) fn new(client: Client, request: HttpRequest, from: u64, size: Option<u64>) -> Self {
        let history = AttemptHistory::new(&request);
        Self {
            client,
            request,
            position: from,
            size,
            etag: None,
            response: None,
            rest: None,
            history,
        }
    }

    /// The offset of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes, or `None` at the end. With a known size, exactly the bytes from the start offset
    /// to the size are returned, or an error.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.size == Some(self.position) {
                return Ok(None);
            }
            let Some(response) = &mut self.response else {
                self.open_response().await?;
                continue;
            };
            let next = match self.rest.take() {
                Some(rest) => Ok(Some(rest)),
                None => response.next_chunk().await,
            };
            let failure: Cause = match next {
                Ok(Some(chunk)) => {
                    self.position += chunk.len() as u64;
                    if self.size.is_some_and(|size| self.position > size) {
                        return Err(
                            self.range_error("the server sent more bytes than the content has")
                        );
                    }
                    // Only bytes count as progress: a server that accepts and closes would be asked for ever.
                    self.history.reset_failures();
                    return Ok(Some(chunk));
                }
                Ok(None) if self.size.is_none() => return Ok(None),
                Ok(None) => "the connection was closed early".into(),
                Err(cause) => cause,
            };
            self.response = None;
            let text = format!("{failure} at byte {}", self.position);
            let cause = failure.with_text(text);
            self.record_failure(FailedAttempt::from_cause(cause)).await?;
        }
    }

    /// Requests the body from the position on, and retries while the failure is temporary.
    async fn open_response(&mut self) -> Result<()> {
        loop {
            let mut request = self.request.clone();
            if self.position > 0 {
                let range = format!("bytes={}-", self.position);
                if let Ok(value) = HeaderValue::from_str(&range) {
                    request = request.header(header::RANGE, value);
                }
                // If-Range: content that changed is sent from its start, as 200 instead of 206, so that
                // parts of two versions are never joined without notice.
                if let Some(etag) = &self.etag {
                    request = request.header(header::IF_RANGE, etag.clone());
                }
            }
            let failure = match self.client.send_once(&request).await {
                Ok(response) if RetryPolicy::is_temporary(response.status()) => {
                    let headers = response.headers().clone();
                    let error = response.into_error().await;
                    FailedAttempt {
                        headers: Some(headers),
                        ..FailedAttempt::from_cause(describe_status(&error))
                    }
                }
                Ok(response) => match self.accept_response(response).await? {
                    Some(failure) => failure,
                    None => return Ok(()),
                },
                Err(SendError::Final(error)) => return Err(error),
                Err(SendError::Temporary(failure)) => failure,
            };
            self.record_failure(failure).await?;
        }
    }

    /// Checks that a response continues at the position. `Some` is a failure that may be retried.
    async fn accept_response(
        &mut self,
        mut response: HttpResponse,
    ) -> Result<Option<FailedAttempt>> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.header("content-range").unwrap_or_default().to_owned();
                // Checked here: bytes from a wrong offset would else show only as a digest mismatch at
                // the end of the blob.
                let (start, total) = parse_content_range(&range).ok_or_else(|| {
                    self.range_error(&format!("its Content-Range {range:?} is not valid"))
                })?;
                if start != self.position {
                    let asked = self.position;
                    return Err(self.range_error(&format!(
                        "bytes from {asked} on were requested, but it sent those from {start} on"
                    )));
                }
                self.check_size(total)?;
            }
            StatusCode::OK => {
                self.check_size(response.content_length())?;
                // The server does not support ranges, or the content changed: skip the bytes that are
                // there. If the content changed, the digest of the whole will not match.
                let mut passed = 0;
                while passed < self.position {
                    match response.next_chunk().await {
                        Ok(Some(mut chunk)) => {
                            let wanted = (self.position - passed).min(chunk.len() as u64);
                            let rest = chunk.split_off(wanted as usize);
                            self.rest = Some(rest).filter(|rest| !rest.is_empty());
                            passed += wanted;
                        }
                        Ok(None) => {
                            return Err(
                                self.range_error("it is shorter than what was downloaded before")
                            );
                        }
                        Err(cause) => {
                            return Ok(Some(FailedAttempt::from_cause(cause)));
                        }
                    }
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(self.range_error("it is shorter than what was downloaded before"));
            }
            _ => return Err(response.into_error().await),
        }
        // A weak ETag does not promise the same bytes, so it must not be used in If-Range (RFC 9110,
        // 13.1.5).
        let is_strong = |etag: &&HeaderValue| etag.as_bytes().first() == Some(&b'"');
        let etag = response.headers().get(header::ETAG).filter(is_strong).cloned();
        self.etag = etag.or(self.etag.take());
        self.response = Some(response);
        Ok(None)
    }

    fn check_size(&self, length: Option<u64>) -> Result<()> {
        match (self.size, length) {
            (Some(size), Some(length)) if size != length => {
                Err(self.range_error(&format!("it has {length} bytes instead of {size}")))
            }
            _ => Ok(()),
        }
    }

    async fn record_failure(&mut self, failure: FailedAttempt) -> Result<()> {
        let policy = self.client.retry_policy().clone();
        self.history.record_failure(&policy, failure, true).await
    }

    fn range_error(&self, reason: &str) -> Error {
        Error::Range { url: self.request.redacted_url(), reason: reason.to_owned() }
    }
}

/// The first byte and the whole length of a `Content-Range: bytes 5-9/10`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.trim().parse().ok()?) };
    Some((start.trim().parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_in_its_forms() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(parse_content_range("bytes */10"), None);
        assert_eq!(parse_content_range("items 5-9/10"), None);
    }
}
