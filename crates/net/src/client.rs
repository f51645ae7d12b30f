//! The HTTP client: connection pools, proxies, certificates, credentials, and the retry loop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::{Cause, SecretUrl};
use url::Url;

use crate::attempt::{FailedAttempt, SendError, describe_status};
use crate::error::chain_of_request;
use crate::history::AttemptHistory;
use crate::mirrors::is_loopback;
use crate::origin::is_same_origin;
use crate::plain_http::PlainHttpServers;
use crate::redirect::{MOST_REDIRECTS, follow_redirect};
use crate::stall::UploadWatch;
use crate::token_cache::{AccessRefusal, TokenCache};
use crate::transports::{LoopbackScheme, Transports};

use crate::{
    BandwidthLimit, Credentials, Error, HttpRequest, HttpResponse, RepeatPolicy, RequestAttempt,
    RequestBody, Result, RetryPolicy,
};

/// How long a server on this machine may take for a TLS handshake, when it did not answer http.
const LOOPBACK_PATIENCE: Duration = Duration::from_secs(1);

/// The body of a redirect that is worth reading.
const MOST_REDIRECT_BYTES: u64 = 64 << 10;

/// The HTTP client. Cheap to clone; clones share connections, tokens and the limit of transfers.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<ClientInner>,
}

pub(crate) struct ClientInner {
    pub(crate) transports: Arc<Transports>,
    pub(crate) retry: RetryPolicy,
    pub(crate) tokens: TokenCache,
    pub(crate) transfer_permits: Arc<Semaphore>,
    pub(crate) concurrency: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    /// By their public form.
    pub(crate) secret_urls: Mutex<HashMap<String, SecretUrl>>,
    pub(crate) bandwidth: Option<BandwidthLimit>,
    pub(crate) plain_http: PlainHttpServers,
}

/// The permission to run one of the concurrent transfers; given back when dropped.
#[derive(Debug)]
pub struct TransferPermit(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Client {
    /// A client with the same connections and certificates, and other credentials.
    #[must_use]
    pub fn with_credentials(&self, credentials: Credentials) -> Self {
        let inner = &self.inner;
        Self {
            inner: Arc::new(ClientInner {
                transports: Arc::clone(&inner.transports),
                retry: inner.retry.clone(),
                tokens: TokenCache::new(credentials),
                transfer_permits: Arc::clone(&inner.transfer_permits),
                concurrency: inner.concurrency,
                idle_timeout: inner.idle_timeout,
                answer_timeout: inner.answer_timeout,
                bandwidth: inner.bandwidth.clone(),
                plain_http: inner.plain_http.clone(),
                secret_urls: Mutex::default(),
            }),
        }
    }

    /// Remembers a URL with its secrets: a request for its public form, as a lock has it, is sent to it.
    pub fn remember_secret_url(&self, url: &SecretUrl) {
        if url.has_secrets() {
            let mut known = self.inner.secret_urls.lock().unwrap_or_else(PoisonError::into_inner);
            // As requests have it, which may differ from how it was written.
            let public = url.public_text();
            let key = public.parse().map_or(public, |parsed: Url| parsed.to_string());
            known.insert(key, url.clone());
        }
    }

    /// The URL with the secrets that were remembered for it.
    fn restore_secrets(&self, url: &Url) -> Option<Url> {
        let known = self.inner.secret_urls.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(url.as_str())?.expose_secrets().parse().ok()
    }

    /// How many transfers may run concurrently.
    pub fn concurrency(&self) -> usize {
        self.inner.concurrency
    }

    /// Waits until another transfer may run.
    pub async fn acquire_permit(&self) -> TransferPermit {
        match Arc::clone(&self.inner.transfer_permits).acquire_owned().await {
            Ok(permit) => TransferPermit(permit),
            // The semaphore is never closed; it lives as long as the client.
            Err(_) => unreachable!("the semaphore is never closed"),
        }
    }

    /// Sends a request, retries as `repeat` and the policy allow, and returns the first response whose
    /// status is not temporary, whether it is a success or not. A 401 is answered with a credential
    /// first, where there is one.
    pub async fn send(&self, request: &HttpRequest, repeat: RepeatPolicy) -> Result<HttpResponse> {
        let mut history = AttemptHistory::new(request);
        loop {
            let mut is_put_off = false;
            let failure = match self.send_once(request).await {
                Ok(response) if !RetryPolicy::is_temporary(response.status()) => {
                    return Ok(response);
                }
                Ok(response) => {
                    // With these two the server says that it did not process the request.
                    is_put_off = matches!(response.status().as_u16(), 429 | 503);
                    let headers = response.headers().clone();
                    let error = response.into_error().await;
                    FailedAttempt {
                        headers: Some(headers),
                        ..FailedAttempt::from_cause(describe_status(&error))
                    }
                }
                Err(SendError::Final(error)) => return Err(error),
                Err(SendError::Temporary(failure)) => failure,
            };
            // A request that never reached the server may always be sent again.
            let may_repeat = failure.unreachable
                || match repeat {
                    RepeatPolicy::Safe => true,
                    RepeatPolicy::PutOff => is_put_off,
                    RepeatPolicy::Never => false,
                };
            history.record_failure(&self.inner.retry, failure, may_repeat).await?;
        }
    }

    /// Sends a request without retries and returns any response, also a 503: for callers that decide by
    /// themselves what a response means.
    pub async fn send_without_retry(&self, request: &HttpRequest) -> Result<HttpResponse> {
        match self.send_once(request).await {
            Ok(response) => Ok(response),
            Err(SendError::Final(error)) => Err(error),
            Err(SendError::Temporary(failure)) => Err(Error::Request {
                method: request.method.to_string(),
                url: request.redacted_url(),
                attempts: vec![RequestAttempt { after: Duration::ZERO, cause: failure.cause }],
                unreachable: failure.unreachable,
            }),
        }
    }

    /// Waits as the policy says after the given number of failures in a row, for work that consists of
    /// several requests; returns `false` at once when no retry is left.
    pub async fn wait_before_retry(&self, failures: u32) -> bool {
        let Some(wait) = self.inner.retry.next_wait(failures, None) else { return false };
        tokio::time::sleep(wait).await;
        true
    }

    pub(crate) fn tokens(&self) -> &TokenCache {
        &self.inner.tokens
    }

    /// The servers that may get secrets without TLS.
    pub(crate) fn plain_http_servers(&self) -> &PlainHttpServers {
        &self.inner.plain_http
    }

    pub(crate) fn retry_policy(&self) -> &RetryPolicy {
        &self.inner.retry
    }

    pub(crate) async fn send_once(&self, request: &HttpRequest) -> Result<HttpResponse, SendError> {
        let authorization = match &request.access {
            Some(access) => self.inner.tokens.cached_header(access),
            None => None,
        };
        let response = self.send_authorized(request, authorization.clone()).await?;
        let Some(access) = &request.access else { return Ok(response) };
        // Also for a 403: the server knows who asks, so another token would not help.
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges: Vec<String> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        // After redirects: the host that sent the challenge, not the one that was asked first. A stranger
        // gets no credential, whatever it says that it needs one for.
        let asked_by = response.url().clone();
        let said = read_error_message(response).await;
        if !is_same_origin(&asked_by, &request.url) {
            return Err(SendError::Final(Error::Unauthorized {
                server: access.server.clone(),
                message: said,
                next: format!(
                    "it redirected to {}, which asks for a credential; none was sent there: contact \
                     the registry's operator",
                    asked_by.origin().ascii_serialization()
                ),
            }));
        }
        // An expired token; another request may have fetched a new one already.
        if let Some(refused) = &authorization {
            self.inner.tokens.forget_header(access, refused);
        }
        let tokens = &self.inner.tokens;
        let question = AccessRefusal { access, challenges: &challenges, said: &said };
        let authorization = self.answer_challenge(&question).await?;
        // Once only: a server that refuses a fresh token would refuse the next one as well.
        let response = self.send_authorized(request, Some(authorization.clone())).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            tokens.forget_header(access, &authorization);
            let said = read_error_message(response).await;
            return Err(SendError::Final(tokens.refusal_error(access, &said).await?));
        }
        Ok(response)
    }

    /// Sends a request and follows its redirects.
    async fn send_authorized(
        &self,
        request: &HttpRequest,
        authorization: Option<http::HeaderValue>,
    ) -> Result<HttpResponse, SendError> {
        let mut current = request.clone();
        if let Some(url) = self.restore_secrets(&request.url) {
            current.url = url;
        }
        if let Some(value) = authorization {
            current.headers.insert(header::AUTHORIZATION, value);
        }
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send_hop(&current).await?;
            let Some(next) = follow_redirect(&current, &response) else {
                // Errors name the request as the caller knows it.
                let address = request.redacted_url();
                return Ok(HttpResponse { address, ..response });
            };
            // A small body is read, so that its connection can be used again.
            if response.content_length().is_some_and(|length| length <= MOST_REDIRECT_BYTES) {
                let _ = response.read_bytes(MOST_REDIRECT_BYTES).await;
            }
            current = next;
        }
        Err(SendError::Final(Error::Request {
            method: request.method.to_string(),
            url: request.redacted_url(),
            attempts: vec![RequestAttempt {
                after: Duration::ZERO,
                cause: format!("it redirected more than {MOST_REDIRECTS} times").into(),
            }],
            unreachable: false,
        }))
    }

    /// Sends a request to one server. That a server on this machine speaks TLS is found out by asking it:
    /// nothing but its port is known.
    async fn send_hop(&self, request: &HttpRequest) -> Result<HttpResponse, SendError> {
        let is_open = request.url.scheme() == "http"
            && request.url.port().is_some()
            && request.url.host_str().is_some_and(is_loopback);
        if !is_open {
            return self.send_to_server(request).await;
        }
        let transports = &self.inner.transports;
        let over_tls = || {
            let mut request = request.clone();
            // Fails only for schemes that are not http.
            let _ = request.url.set_scheme("https");
            request
        };
        match transports.known_scheme(&request.url) {
            Some(LoopbackScheme::Http) => return self.send_to_server(request).await,
            Some(LoopbackScheme::Https) => return self.send_to_server(&over_tls()).await,
            None => {}
        }
        let over_http = self.send_to_server(request).await;
        let may_be_tls = match &over_http {
            // How Go and nginx answer http on a port for https.
            Ok(response) => response.status() == StatusCode::BAD_REQUEST,
            // Others end the connection.
            Err(SendError::Temporary(failure)) => failure.is_foreign_protocol,
            Err(SendError::Final(_)) => false,
        };
        if may_be_tls {
            let request = over_tls();
            let attempt = tokio::time::timeout(LOOPBACK_PATIENCE, self.send_to_server(&request));
            match attempt.await {
                Ok(Ok(response)) => {
                    transports.remember_scheme(&request.url, LoopbackScheme::Https);
                    return Ok(response);
                }
                // It speaks TLS, with a certificate that is not trusted: that is what is wrong.
                Ok(Err(SendError::Final(error @ Error::Untrusted { .. }))) => {
                    return Err(SendError::Final(error));
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        if over_http.is_ok() {
            transports.remember_scheme(&request.url, LoopbackScheme::Http);
        }
        over_http
    }

    async fn send_to_server(&self, request: &HttpRequest) -> Result<HttpResponse, SendError> {
        self.inner.plain_http.check_request(request)?;
        let mut builder = self
            .inner
            .transports
            .find_transport(&request.url)?
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        // There is no limit for the whole request: 40 GB over a slow line take hours. Instead, `watch`
        // ends a request that is stalled before its response, `HttpResponse::next_chunk` one after.
        let (idle, answer) = (self.inner.idle_timeout, self.inner.answer_timeout);
        let watch = UploadWatch::default();
        if let (Some(limit), RequestBody::Bytes(bytes)) = (&self.inner.bandwidth, &request.body) {
            limit.wait_for_bytes(bytes.len() as u64).await;
        }
        builder = match &request.body {
            RequestBody::Empty => builder,
            RequestBody::Bytes(bytes) => builder.body(bytes.clone()),
            RequestBody::Stream { length, open } => builder
                // Without it a stream is sent chunked, which S3 and some registries refuse (411).
                .header(header::CONTENT_LENGTH, *length)
                .body(reqwest::Body::wrap_stream(
                    watch.count_body(open(), self.inner.bandwidth.clone()),
                )),
        };
        tracing::debug!(method = %request.method, url = %request.redacted_url(), "request");
        let sent = tokio::select! {
            sent = builder.send() => sent,
            stalled = watch.wait_until_stalled(&request.body, idle, answer) => {
                return Err(SendError::Temporary(FailedAttempt::from_cause(stalled)));
            }
        };
        match sent {
            Ok(inner) => {
                let (method, address) = (request.method.clone(), request.redacted_url());
                let bandwidth = self.inner.bandwidth.clone();
                Ok(HttpResponse { inner, method, address, idle, bandwidth })
            }
            Err(error) => Err(classify_send_error(error, request)),
        }
    }
}

/// Turns a failed attempt into an error, and decides whether another attempt may help.
fn classify_send_error(error: reqwest::Error, request: &HttpRequest) -> SendError {
    let is_final = error.is_builder() || error.is_redirect();
    let unreachable = error.is_connect();
    let untrusted = find_certificate_error(&error);
    let is_foreign_protocol = !unreachable && has_foreign_answer(&error);
    // The address of a redirect may contain a signature (S3 and CDN URLs), which no log should have.
    let error = error.without_url();
    if let Some(reason) = untrusted {
        let host = request.url.host_str().unwrap_or_default().to_owned();
        return SendError::Final(Error::Untrusted { host, reason });
    }
    let cause = Cause::described(chain_of_request(&error), error);
    if is_final {
        return SendError::Final(Error::Request {
            method: request.method.to_string(),
            url: request.redacted_url(),
            attempts: vec![RequestAttempt { after: Duration::ZERO, cause }],
            unreachable: false,
        });
    }
    SendError::Temporary(FailedAttempt { cause, unreachable, is_foreign_protocol, headers: None })
}

/// Why a server's certificate is not trusted, if that is what failed. Such a failure is final: it is
/// the same at every attempt.
fn find_certificate_error(
    error: &(dyn std::error::Error + 'static),
) -> Option<rustls::CertificateError> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return Some(reason.clone());
        }
        // `io::Error::source` skips the inner error itself, which is the one that is looked for.
        current = match error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Whether a server did not answer in HTTP: with other bytes, or by closing the connection.
fn has_foreign_answer(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(inner) = error.downcast_ref::<hyper::Error>() {
            return inner.is_parse() || inner.is_incomplete_message();
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionReset;
        }
        current = error.source();
    }
    false
}

/// The error message in a server's response.
async fn read_error_message(response: HttpResponse) -> String {
    match response.into_error().await {
        Error::Status { message, .. } => message,
        other => other.to_string(),
    }
}
