//! The one HTTP client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Tokens;
use crate::error::causes;
use crate::mirrors::is_loopback;
use crate::{
    Attempt, Body, Credentials, Download, Error, Repeat, Request, Response, Result, RetryPolicy,
};

/// A connection that is not made in this time will not be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A body that gives no byte in this time is stalled. Registries that hash on request can be quiet
/// for some seconds; a dead middlebox is quiet for ever.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Transfers at once over all hosts: enough to fill a line over a few hosts' delays, few enough
/// that their buffers stay small.
const CONCURRENCY: usize = 6;

/// The one HTTP client; a clone is the same client.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    /// With the proxies of the environment.
    outside: reqwest::Client,
    /// For this machine: never through a proxy.
    loopback: reqwest::Client,
    retry: RetryPolicy,
    tokens: Tokens,
    places: Arc<Semaphore>,
    concurrency: usize,
}

/// A place among the transfers that run at once; given back when dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// What a client is made from.
#[derive(Debug, Clone)]
pub struct Builder {
    ca: Vec<PathBuf>,
    credentials: Credentials,
    retry: RetryPolicy,
    idle_timeout: Duration,
    concurrency: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            ca: Vec::new(),
            credentials: Credentials::system(),
            retry: RetryPolicy::default(),
            idle_timeout: IDLE_TIMEOUT,
            concurrency: CONCURRENCY,
        }
    }
}

impl Builder {
    /// Further certificate authorities: PEM files. Those of the system (and of `SSL_CERT_FILE`)
    /// are always taken.
    #[must_use]
    pub fn ca(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.ca.extend(files);
        self
    }

    /// Where credentials come from.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// What is tried again.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// After how long without a byte a transfer counts as stalled.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Transfers at once.
    #[must_use]
    pub fn concurrency(mut self, transfers: usize) -> Self {
        self.concurrency = transfers.max(1);
        self
    }

    /// The client.
    pub fn build(self) -> Result<Client> {
        let mut certificates = Vec::new();
        for path in &self.ca {
            let unusable = |reason: String| Error::Tls { path: path.clone(), reason };
            let pem = std::fs::read(path).map_err(|cause| unusable(cause.to_string()))?;
            let found = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|cause| unusable(format!("no PEM certificates: {}", causes(&cause))))?;
            if found.is_empty() {
                return Err(unusable("it has no PEM certificate".into()));
            }
            certificates.extend(found);
        }
        let basis = || {
            reqwest::Client::builder()
                .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(self.idle_timeout)
                .tls_certs_merge(certificates.clone())
                .pool_max_idle_per_host(self.concurrency)
                // Retries are ours alone: one policy, one history.
                .retry(reqwest::retry::never())
        };
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|cause| Error::Setup {
                what: "the HTTP client cannot be set up".into(),
                cause: causes(&cause),
            })
        };
        Ok(Client {
            inner: Arc::new(Inner {
                outside: build(basis())?,
                loopback: build(basis().no_proxy())?,
                retry: self.retry,
                tokens: Tokens::new(self.credentials),
                places: Arc::new(Semaphore::new(self.concurrency)),
                concurrency: self.concurrency,
            }),
        })
    }
}

impl Client {
    /// What a client is made from.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Transfers at once.
    pub fn concurrency(&self) -> usize {
        self.inner.concurrency
    }

    /// Waits for a place among the transfers that run at once.
    pub async fn place(&self) -> Place {
        match Arc::clone(&self.inner.places).acquire_owned().await {
            Ok(permit) => Place(permit),
            // The semaphore is never closed; it lives as long as the client.
            Err(_) => unreachable!("the pool of places is never closed"),
        }
    }

    /// Sends a request, again if need be, and gives any answer that is not temporary; a 401 is
    /// answered with a credential first, where there is one.
    pub async fn send(&self, request: &Request, repeat: Repeat) -> Result<Response> {
        let mut history = History::new(request);
        loop {
            let failure = match self.send_once(request).await {
                Ok(response) if !RetryPolicy::is_temporary(response.status()) => {
                    return Ok(response);
                }
                Ok(response) => {
                    let headers = response.headers().clone();
                    let error = response.into_error().await;
                    Failure { cause: answer(&error), unreachable: false, headers: Some(headers) }
                }
                Err(SendError::Final(error)) => return Err(error),
                Err(SendError::Temporary(failure)) => failure,
            };
            // What never reached the server may always be sent again.
            let may_repeat = repeat == Repeat::Safe || failure.unreachable;
            history.failed(&self.inner.retry, failure, may_repeat).await?;
        }
    }

    /// The body of a GET from the byte `from` on, over cuts and stalls.
    pub fn download(&self, request: Request, from: u64, size: Option<u64>) -> Download {
        Download::new(self.clone(), request, from, size)
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.inner.retry
    }

    pub(crate) async fn send_once(&self, request: &Request) -> Result<Response, SendError> {
        let authorization = match &request.access {
            Some(access) => self.inner.tokens.known(access),
            None => None,
        };
        let had_one = authorization.is_some();
        let response = self.send_plain(request, authorization).await?;
        let Some(access) = &request.access else { return Ok(response) };
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges: Vec<String> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        let refused = response.into_error().await;
        let said = match &refused {
            Error::Status { message, .. } => message.clone(),
            other => other.to_string(),
        };
        if had_one {
            self.inner.tokens.forget(access);
        }
        let authorization = self.inner.tokens.answer(self, access, &challenges, &said).await?;
        let response = self.send_plain(request, Some(authorization)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.inner.tokens.forget(access);
            return Err(SendError::Final(self.inner.tokens.refused(access, &said)));
        }
        Ok(response)
    }

    async fn send_plain(
        &self,
        request: &Request,
        authorization: Option<http::HeaderValue>,
    ) -> Result<Response, SendError> {
        let is_local = request.url.host_str().is_some_and(is_loopback);
        let client = if is_local { &self.inner.loopback } else { &self.inner.outside };
        let mut builder = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone());
        if let Some(value) = authorization {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        builder = match &request.body {
            Body::Empty => builder,
            Body::Bytes(bytes) => builder.body(bytes.clone()),
            Body::Stream { length, open } => builder
                .header(header::CONTENT_LENGTH, *length)
                .body(reqwest::Body::wrap_stream(open())),
        };
        tracing::debug!(method = %request.method, url = %request.shown(), "request");
        match builder.send().await {
            Ok(inner) => {
                Ok(Response { inner, method: request.method.clone(), address: request.shown() })
            }
            Err(error) if error.is_builder() || error.is_redirect() => {
                Err(SendError::Final(Error::Request {
                    method: request.method.to_string(),
                    url: request.shown(),
                    attempts: vec![Attempt { after: Duration::ZERO, cause: causes(&error) }],
                    unreachable: false,
                }))
            }
            Err(error) => Err(SendError::Temporary(Failure {
                unreachable: error.is_connect(),
                cause: causes(&error),
                headers: None,
            })),
        }
    }
}

/// How a single try failed.
pub(crate) enum SendError {
    /// Trying again would not help.
    Final(Error),
    /// Trying again may help.
    Temporary(Failure),
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A failed try.
pub(crate) struct Failure {
    pub(crate) cause: String,
    pub(crate) unreachable: bool,
    pub(crate) headers: Option<HeaderMap>,
}

/// What an answer says as the cause of a failed try.
pub(crate) fn answer(error: &Error) -> String {
    match error {
        Error::Status { status, message, .. } if message.is_empty() => format!("status {status}"),
        Error::Status { status, message, .. } => format!("status {status} ({message})"),
        other => other.to_string(),
    }
}

/// The tries of one request.
pub(crate) struct History {
    method: String,
    url: String,
    started: Instant,
    attempts: Vec<Attempt>,
    failures: u32,
}

/// Older tries than these are forgotten in a long download.
const MOST_ATTEMPTS_TOLD: usize = 16;

impl History {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            method: request.method.to_string(),
            url: request.shown(),
            started: Instant::now(),
            attempts: Vec::new(),
            failures: 0,
        }
    }

    /// Something came through: the budget of tries starts anew.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// Notes a failed try and waits for the next one, or gives the error with all that was tried.
    pub(crate) async fn failed(
        &mut self,
        policy: &RetryPolicy,
        failure: Failure,
        may_repeat: bool,
    ) -> Result<()> {
        self.failures += 1;
        if self.attempts.len() == MOST_ATTEMPTS_TOLD {
            self.attempts.remove(0);
        }
        let cause = failure.cause;
        self.attempts.push(Attempt { after: self.started.elapsed(), cause });
        let wait = policy.wait(self.failures, failure.headers.as_ref()).filter(|_| may_repeat);
        let Some(wait) = wait else {
            return Err(Error::Request {
                method: self.method.clone(),
                url: self.url.clone(),
                attempts: std::mem::take(&mut self.attempts),
                unreachable: failure.unreachable,
            });
        };
        if let Some(last) = self.attempts.last() {
            let (method, url, cause) = (&self.method, &self.url, &last.cause);
            tracing::info!(target: "gantry", "{method} {url}: {cause}; again in {wait:.1?}");
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
