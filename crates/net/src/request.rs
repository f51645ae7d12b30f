//! HTTP requests that can be sent again, and the responses to them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use types::Cause;
use url::Url;

use crate::error::chain_of_request;
use crate::origin::{RedirectPolicy, is_same_origin, remove_secret_headers};
use crate::{BandwidthLimit, Error, Result};

/// A request. It can be sent several times, since its body can be opened again for each attempt.
#[derive(Clone)]
pub struct HttpRequest {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RequestBody,
    pub(crate) access: Option<AccessScope>,
    pub(crate) redirects: RedirectPolicy,
}

/// The server and the scope that a request needs a credential for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessScope {
    /// The server's name in docker's configuration ([`crate::UpstreamEndpoint::server_address`]).
    pub server: String,
    /// The scope of a token: `repository:library/nginx:pull`.
    pub scope: String,
}

/// The body of a request.
#[derive(Clone, Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A large body, opened again for each attempt.
    Stream {
        /// Its length in bytes.
        length: u64,
        /// Opens it from the start.
        open: Arc<dyn Fn() -> BoxStream<'static, std::io::Result<Bytes>> + Send + Sync>,
    },
}

/// Whether a request may be sent again after it may have reached the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatPolicy {
    /// Yes: sending it twice has the effect of sending it once (GET, HEAD, a PUT by digest).
    Safe,
    /// Only after a response that says that the server did nothing (429, 503); for the body of an
    /// upload. After an interruption the caller first asks the server how much of it arrived.
    PutOff,
    /// No; the caller decides what to do after a failure.
    Never,
}

impl HttpRequest {
    /// A request without headers and body.
    pub fn new(method: Method, url: &str) -> Result<Self> {
        let parsed = url.parse().map_err(|_| Error::Url {
            text: url.to_owned(),
            reason: "write https://host/path".into(),
        })?;
        Ok(Self {
            method,
            url: parsed,
            headers: HeaderMap::new(),
            body: RequestBody::Empty,
            access: None,
            redirects: RedirectPolicy::Any,
        })
    }

    /// A GET without headers.
    pub fn get(url: &str) -> Result<Self> {
        Self::new(Method::GET, url)
    }

    /// Adds or replaces a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a query parameter.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Changes the method (HEAD for GET).
    pub fn set_method(&mut self, method: Method) {
        self.method = method;
    }

    /// The address with everything in it, for another request to the same place. Messages and logs
    /// have [`Self::redacted_url`].
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Changes the address to that of a `Link` or `Location` header: absolute, or relative to the current
    /// one. A server that is asked with TLS and names itself without (a proxy that ends TLS and does
    /// not say so, with `X-Forwarded-Proto`) is asked with TLS again.
    pub fn follow_location(&mut self, location: &str) -> Result<()> {
        let mut target = self.url.join(location).map_err(|_| Error::Url {
            text: location.to_owned(),
            reason: "the server sent it as the next address to use".to_owned(),
        })?;
        let names_itself = target.host_str() == self.url.host_str()
            && (target.port().is_none() || target.port() == self.url.port());
        if self.url.scheme() == "https" && target.scheme() == "http" && names_itself {
            // Both fail only for addresses without a host.
            let _ = target.set_scheme("https");
            let _ = target.set_port(self.url.port());
        }
        if !is_same_origin(&target, &self.url) {
            // A credential is never sent to another host than the one it is for.
            self.access = None;
            remove_secret_headers(&mut self.headers);
        }
        self.url = target;
        Ok(())
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: RequestBody) -> Self {
        self.body = body;
        self
    }

    /// Sets which redirects are followed.
    #[must_use]
    pub fn redirects(mut self, policy: RedirectPolicy) -> Self {
        self.redirects = policy;
        self
    }

    /// Sets what a credential is needed for.
    #[must_use]
    pub fn access(mut self, access: AccessScope) -> Self {
        self.access = Some(access);
        self
    }

    /// The address without user, password and query, for messages and logs: a query may contain a
    /// signature.
    pub fn redacted_url(&self) -> String {
        redact_url(&self.url)
    }
}

pub(crate) fn redact_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs without a host, which have no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// A server's response. Its body is received while it is read.
#[derive(Debug)]
pub struct HttpResponse {
    pub(crate) inner: reqwest::Response,
    pub(crate) method: Method,
    pub(crate) address: String,
    /// The longest wait for the next bytes of the body.
    pub(crate) idle: Duration,
    pub(crate) bandwidth: Option<BandwidthLimit>,
}

/// How much of the body of an error response is read: enough for any JSON error, and a server that
/// streams without end is cut off.
const MOST_ERROR_BYTES: usize = 16 << 10;

impl HttpResponse {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// The address that sent the response, after redirects.
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// The length of the body, where the server says it; also for a HEAD, whose body is empty (reqwest's
    /// own method says 0 there).
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The next bytes of the body, or `None` at the end. The error is the cause alone; the caller knows the request.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, Cause> {
        match tokio::time::timeout(self.idle, self.inner.chunk()).await {
            Ok(Ok(chunk)) => {
                if let (Some(limit), Some(bytes)) = (&self.bandwidth, &chunk) {
                    limit.wait_for_bytes(bytes.len() as u64).await;
                }
                Ok(chunk)
            }
            // The address of a redirect may contain a signature.
            Ok(Err(error)) => {
                let error = error.without_url();
                Err(Cause::described(chain_of_request(&error), error))
            }
            Err(_) => Err(format!("no data was received for {:?}", self.idle).into()),
        }
    }

    /// Reads a whole small body into memory; one of more than `most` bytes is refused.
    pub async fn read_bytes(mut self, most: u64) -> Result<Bytes> {
        let too_large = || Error::TooLarge { url: self.address.clone(), most };
        // Refused by its header if it has one, else as soon as more bytes arrive.
        if self.content_length().is_some_and(|length| length > most) {
            return Err(too_large());
        }
        let mut all = BytesMut::new();
        loop {
            match self.next_chunk().await {
                Ok(Some(chunk)) if (all.len() + chunk.len()) as u64 > most => {
                    return Err(Error::TooLarge { url: self.address.clone(), most });
                }
                Ok(Some(chunk)) => all.extend_from_slice(&chunk),
                Ok(None) => return Ok(all.freeze()),
                Err(cause) => {
                    return Err(Error::Request {
                        method: self.method.to_string(),
                        url: self.address.clone(),
                        attempts: vec![crate::RequestAttempt { after: Duration::ZERO, cause }],
                        unreachable: false,
                    });
                }
            }
        }
    }

    /// How long the server asks to wait before the next attempt (`Retry-After`, RFC 9110, 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        crate::retry::parse_retry_after(self.headers())
    }

    /// The response itself if its status is a success, else an error with the server's message.
    pub async fn require_success(self) -> Result<Self> {
        if self.status().is_success() { Ok(self) } else { Err(self.into_error().await) }
    }

    /// Turns the response into an error with the server's message, whatever its status.
    pub async fn into_error(mut self) -> Error {
        let mut body = Vec::new();
        while body.len() < MOST_ERROR_BYTES {
            match self.next_chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                _ => break,
            }
        }
        body.truncate(MOST_ERROR_BYTES);
        // The Hub puts its message into this header, also for a HEAD (huggingface_hub, `hf_raise_for_status`).
        let header = self.header("x-error-message").map(str::to_owned);
        Error::Status {
            method: self.method.to_string(),
            url: self.address.clone(),
            status: self.status().as_u16(),
            message: header.unwrap_or_else(|| extract_error_message(&body)),
        }
    }
}

/// Extracts the message of an error response's body: from the JSON of a registry
/// (distribution-spec, "Error Codes"), of the Hub or of a model server, else its first line. At most
/// 300 characters; empty for an HTML page.
pub fn extract_error_message(body: &[u8]) -> String {
    const SHOWN: usize = 300;
    let text = String::from_utf8_lossy(body);
    let from_json = serde_json::from_slice::<serde_json::Value>(body).ok().and_then(|json| {
        if let Some(errors) = json.get("errors").and_then(|errors| errors.as_array()) {
            let one = |error: &serde_json::Value| {
                let part = |key: &str| error.get(key).and_then(|v| v.as_str()).unwrap_or_default();
                // distribution puts the missing tag or digest there.
                let detail = match error.get("detail") {
                    None | Some(serde_json::Value::Null) => String::new(),
                    Some(detail) => format!(" {detail}"),
                };
                format!("{}: {}{detail}", part("code"), part("message"))
            };
            return Some(errors.iter().map(one).collect::<Vec<_>>().join("; "));
        }
        // The Hub and Ollama have `error` as a string, OpenAI's API as an object with a `message`.
        ["/error", "/error/message", "/message", "/details", "/detail", "/detail/message"]
            .iter()
            .find_map(|pointer| json.pointer(pointer)?.as_str().map(str::to_owned))
    });
    // Proxies and load balancers respond with HTML, which says nothing in one line.
    let is_page = text.trim_start().starts_with('<');
    let words = from_json.unwrap_or_else(|| {
        if is_page { String::new() } else { text.lines().next().unwrap_or_default().to_owned() }
    });
    words.trim().chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let request =
            HttpRequest::get("https://user:secret@cdn.example/blob?sig=secret#x").unwrap();
        assert_eq!(request.redacted_url(), "https://cdn.example/blob");
    }

    #[test]
    fn a_location_without_tls_on_the_same_server_is_followed_with_tls() {
        for (asked, location, followed) in [
            ("https://site:5443/v2/", "http://site:5443/u?s=1", "https://site:5443/u?s=1"),
            ("https://site:5443/v2/", "http://site/u", "https://site:5443/u"),
            ("https://site/v2/", "http://site/u", "https://site/u"),
            ("https://site/v2/", "http://site:8080/u", "http://site:8080/u"),
            ("https://site/v2/", "http://other/u", "http://other/u"),
            ("http://site/v2/", "/u", "http://site/u"),
        ] {
            let mut request = HttpRequest::get(asked).unwrap();
            request.follow_location(location).unwrap();
            assert_eq!(request.url().as_str(), followed, "{asked} {location}");
        }
    }

    #[test]
    fn a_registry_s_own_words_are_kept() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"1"}}]}"#;
        assert_eq!(
            extract_error_message(body),
            r#"MANIFEST_UNKNOWN: manifest unknown {"Tag":"1"}"#
        );
        assert_eq!(
            extract_error_message(br#"{"error":"Repository not found"}"#),
            "Repository not found"
        );
        assert_eq!(
            extract_error_message(br#"{"error":{"message":"Loading model","code":503}}"#),
            "Loading model"
        );
        assert_eq!(extract_error_message(b"<html>"), "");
    }
}
