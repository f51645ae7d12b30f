//! A large body that survives cuts, stalls and restarts of the server: it is asked for again from
//! where it was.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::client::{Failure, SendError, answer};
use crate::history::History;
use crate::{Client, Error, Request, Response, Result, RetryPolicy};

/// A body being downloaded. Dropping it stops the transfer; what was taken stays with the caller.
pub struct Download {
    client: Client,
    request: Request,
    position: u64,
    size: Option<u64>,
    etag: Option<HeaderValue>,
    response: Option<Response>,
    /// The rest of a piece that reached over the position, from a server without ranges.
    rest: Option<Bytes>,
    history: History,
}

impl Download {
    pub(crate) fn new(client: Client, request: Request, from: u64, size: Option<u64>) -> Self {
        let history = History::new(&request);
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

    /// The next piece, or `None` at the end. With a known size, exactly the bytes from the start
    /// offset to the size come, or an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.size == Some(self.position) {
                return Ok(None);
            }
            let Some(response) = &mut self.response else {
                self.open().await?;
                continue;
            };
            let next = match self.rest.take() {
                Some(rest) => Ok(Some(rest)),
                None => response.chunk().await,
            };
            let failure = match next {
                Ok(Some(chunk)) => {
                    self.position += chunk.len() as u64;
                    if self.size.is_some_and(|size| self.position > size) {
                        return Err(self.misfit("more bytes came than the content has"));
                    }
                    self.history.progressed();
                    return Ok(Some(chunk));
                }
                Ok(None) if self.size.is_none() => return Ok(None),
                Ok(None) => "the connection was closed early".to_owned(),
                Err(cause) => cause,
            };
            self.response = None;
            let cause = format!("{failure} at byte {}", self.position);
            self.failed(Failure::of(cause)).await?;
        }
    }

    /// Asks from the position on, again as long as the answer is temporary.
    async fn open(&mut self) -> Result<()> {
        loop {
            let mut request = self.request.clone();
            if self.position > 0 {
                let range = format!("bytes={}-", self.position);
                if let Ok(value) = HeaderValue::from_str(&range) {
                    request = request.header(header::RANGE, value);
                }
                if let Some(etag) = &self.etag {
                    request = request.header(header::IF_RANGE, etag.clone());
                }
            }
            let failure = match self.client.send_once(&request).await {
                Ok(response) if RetryPolicy::is_temporary(response.status()) => {
                    let headers = response.headers().clone();
                    let error = response.into_error().await;
                    Failure { headers: Some(headers), ..Failure::of(answer(&error)) }
                }
                Ok(response) => match self.accept(response).await? {
                    Some(failure) => failure,
                    None => return Ok(()),
                },
                Err(SendError::Final(error)) => return Err(error),
                Err(SendError::Temporary(failure)) => failure,
            };
            self.failed(failure).await?;
        }
    }

    /// Checks that an answer continues where we are. `Some` is a failure that may be tried again.
    async fn accept(&mut self, mut response: Response) -> Result<Option<Failure>> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.header("content-range").unwrap_or_default().to_owned();
                let (start, total) = content_range(&range)
                    .ok_or_else(|| self.misfit(&format!("its Content-Range {range:?} is none")))?;
                if start != self.position {
                    let asked = self.position;
                    return Err(self.misfit(&format!(
                        "it was asked for bytes from {asked} on and answered from {start} on"
                    )));
                }
                self.check_size(total)?;
            }
            StatusCode::OK => {
                self.check_size(response.content_length())?;
                // The server knows no ranges, or the content changed: what is there is passed over.
                // The digest of the whole tells whether it fits together.
                let mut passed = 0;
                while passed < self.position {
                    match response.chunk().await {
                        Ok(Some(mut chunk)) => {
                            let wanted = (self.position - passed).min(chunk.len() as u64);
                            let rest = chunk.split_off(wanted as usize);
                            self.rest = Some(rest).filter(|rest| !rest.is_empty());
                            passed += wanted;
                        }
                        Ok(None) => return Err(self.misfit("it is shorter than what came before")),
                        Err(cause) => {
                            return Ok(Some(Failure::of(cause)));
                        }
                    }
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(self.misfit("it is shorter than what came before"));
            }
            _ => return Err(response.into_error().await),
        }
        let is_strong = |etag: &&HeaderValue| etag.as_bytes().first() == Some(&b'"');
        let etag = response.headers().get(header::ETAG).filter(is_strong).cloned();
        self.etag = etag.or(self.etag.take());
        self.response = Some(response);
        Ok(None)
    }

    fn check_size(&self, length: Option<u64>) -> Result<()> {
        match (self.size, length) {
            (Some(size), Some(length)) if size != length => {
                Err(self.misfit(&format!("it has {length} bytes where {size} were promised")))
            }
            _ => Ok(()),
        }
    }

    async fn failed(&mut self, failure: Failure) -> Result<()> {
        let policy = self.client.retry().clone();
        self.history.failed(&policy, failure, true).await
    }

    fn misfit(&self, reason: &str) -> Error {
        Error::Range { url: self.request.shown(), reason: reason.to_owned() }
    }
}

/// The first byte and the whole length of a `Content-Range: bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
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
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */10"), None);
        assert_eq!(content_range("items 5-9/10"), None);
    }
}
