//! The HTTP client: connection pools, proxies, certificates, credentials, and the retry loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::Cause;

use crate::attempt::{FailedAttempt, SendError, describe_status};
use crate::error::chain_of_request;
use crate::history::AttemptHistory;
use crate::mirrors::is_loopback;
use crate::stall::UploadWatch;
use crate::token_cache::{AccessRefusal, TokenCache};
use crate::{
    Credentials, Error, HttpRequest, HttpResponse, RepeatPolicy, RequestAttempt, RequestBody,
    Result, RetryPolicy,
};

/// A connection that is not established in this time is not going to be: TCP's own retries have waits
/// of 1, 2, 4 and 8 seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A response of which no byte arrives in this time is stalled. Registries that hash on request can be
/// silent for some seconds; a firewall that forgot the connection is silent for ever.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Concurrent transfers over all hosts: enough to use a line fully in spite of each host's latency,
/// few enough that their buffers stay small.
const CONCURRENCY: usize = 6;

/// The HTTP client. Cheap to clone; clones share connections, tokens and the limit of transfers.
#[derive(Clone)]
pub struct Client {
    inner: Arc<ClientInner>,
}

struct ClientInner {
    /// For other hosts, through the proxies of the environment.
    outside: reqwest::Client,
    /// For loopback addresses, never through a proxy: an inherited HTTPS_PROXY without NO_PROXY would
    /// make a local registry or depot unreachable.
    loopback: reqwest::Client,
    retry: RetryPolicy,
    tokens: TokenCache,
    places: Arc<Semaphore>,
    concurrency: usize,
    idle_timeout: Duration,
}

/// The permission to run one of the concurrent transfers; given back when dropped.
#[derive(Debug)]
pub struct TransferPermit(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// The settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    ca: Vec<PathBuf>,
    credentials: Credentials,
    retry: RetryPolicy,
    idle_timeout: Duration,
    concurrency: usize,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            ca: Vec::new(),
            credentials: Credentials::from_system(),
            retry: RetryPolicy::default(),
            idle_timeout: IDLE_TIMEOUT,
            concurrency: CONCURRENCY,
        }
    }
}

impl ClientBuilder {
    /// PEM files with further certificate authorities. Those of the system (and of `SSL_CERT_FILE`) are
    /// always trusted.
    #[must_use]
    pub fn ca_files(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.ca.extend(files);
        self
    }

    /// Where credentials come from.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Which failures are retried, and when.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How long a transfer may go without a byte before it counts as stalled.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How many transfers may run concurrently; at least 1.
    #[must_use]
    pub fn concurrency(mut self, transfers: usize) -> Self {
        self.concurrency = transfers.max(1);
        self
    }

    /// Reads the CA files and makes the client.
    pub fn build(self) -> Result<Client> {
        let mut certificates = Vec::new();
        for path in &self.ca {
            let unusable = |reason: Cause| Error::Tls { path: path.clone(), reason };
            let pem = std::fs::read(path).map_err(|cause| unusable(cause.into()))?;
            let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|cause| {
                let text = format!("not a PEM file: {}", chain_of_request(&cause));
                unusable(Cause::described(text, cause))
            })?;
            if found.is_empty() {
                return Err(unusable("it contains no PEM certificate".into()));
            }
            certificates.extend(found);
        }
        let basis = || {
            reqwest::Client::builder()
                .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .tls_certs_merge(certificates.clone())
                // One idle connection per transfer: small files would otherwise pay for a handshake each.
                .pool_max_idle_per_host(self.concurrency)
                // Only `RetryPolicy` retries, so that every attempt is counted and reported.
                .retry(reqwest::retry::never())
        };
        let build = |builder: &dyn Fn() -> reqwest::ClientBuilder| {
            // On a system without any CA certificate (a minimal container) the first build fails. The
            // client still works for http; https then fails with an error that says what to configure.
            let without_system = || builder().tls_certs_only(certificates.clone()).build();
            builder().build().or_else(|_| without_system()).map_err(|cause| Error::Setup {
                what: "the HTTP client cannot be set up".into(),
                cause: Cause::described(chain_of_request(&cause), cause),
            })
        };
        Ok(Client {
            inner: Arc::new(ClientInner {
                outside: build(&basis)?,
                loopback: build(&|| basis().no_proxy())?,
                retry: self.retry,
                tokens: TokenCache::new(self.credentials),
                places: Arc::new(Semaphore::new(self.concurrency)),
                concurrency: self.concurrency,
                idle_timeout: self.idle_timeout,
            }),
        })
    }
}

impl Client {
    /// The default settings, to be changed before [`ClientBuilder::build`].
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// How many transfers may run concurrently.
    pub fn concurrency(&self) -> usize {
        self.inner.concurrency
    }

    /// Waits until another transfer may run.
    pub async fn acquire_permit(&self) -> TransferPermit {
        match Arc::clone(&self.inner.places).acquire_owned().await {
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
        // After redirects: the host that sent the challenge, not the one that was asked first.
        let asked_by = response.url().clone();
        let said = read_error_message(response).await;
        // An expired token; another request may have fetched a new one already.
        if let Some(refused) = &authorization {
            self.inner.tokens.forget_header(access, refused);
        }
        let tokens = &self.inner.tokens;
        let question =
            AccessRefusal { access, asked_by: &asked_by, challenges: &challenges, said: &said };
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

    async fn send_authorized(
        &self,
        request: &HttpRequest,
        authorization: Option<http::HeaderValue>,
    ) -> Result<HttpResponse, SendError> {
        let is_local = request.url.host_str().is_some_and(is_loopback);
        let client = if is_local { &self.inner.loopback } else { &self.inner.outside };
        let mut builder = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        if let Some(value) = authorization {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        // There is no limit for the whole request: 40 GB over a slow line take hours. Instead, `watch`
        // ends a request that is stalled before its response, `Response::chunk` one after.
        let idle = self.inner.idle_timeout;
        let watch = UploadWatch::default();
        builder = match &request.body {
            RequestBody::Empty => builder,
            RequestBody::Bytes(bytes) => builder.body(bytes.clone()),
            RequestBody::Stream { length, open } => builder
                // Without it a stream is sent chunked, which S3 and some registries refuse (411).
                .header(header::CONTENT_LENGTH, *length)
                .body(reqwest::Body::wrap_stream(watch.count_body(open()))),
        };
        tracing::debug!(method = %request.method, url = %request.redacted_url(), "request");
        let sent = tokio::select! {
            sent = builder.send() => sent,
            stalled = watch.wait_until_stalled(&request.method, &request.body, idle) => {
                return Err(SendError::Temporary(FailedAttempt::from_cause(stalled)));
            }
        };
        match sent {
            Ok(inner) => {
                let (method, address) = (request.method.clone(), request.redacted_url());
                Ok(HttpResponse { inner, method, address, idle })
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
    SendError::Temporary(FailedAttempt { cause, unreachable, headers: None })
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

/// The error message in a server's response.
async fn read_error_message(response: HttpResponse) -> String {
    match response.into_error().await {
        Error::Status { message, .. } => message,
        other => other.to_string(),
    }
}
