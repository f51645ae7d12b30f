//! The HTTP exchange with a model server: several requests under one deadline, retries when the
//! server says "later", and failures that name the next step. The files of the protocols are built
//! on it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use net::{Client, HttpRequest, HttpResponse, RequestBody};
use serde_json::Value;
use types::input::checks::CheckExpectation;

use super::InferenceProbe;

/// The longest answer that is read. Answers have a few kilobytes; the limit stops an endless one.
const MOST_BYTES: u64 = 16 << 20;
/// The wait after an answer that means "later" but has no `Retry-After`.
const LATER: Duration = Duration::from_secs(2);
/// The longest wait between two requests, even if `Retry-After` asks for more: servers
/// overestimate.
const LONGEST_LATER: Duration = Duration::from_secs(30);
/// How often a connection is tried. A port forward breaks when its pod has just been replaced.
const CONNECTIONS: u32 = 3;

/// Why a model server gave no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferenceFailure {
    /// What went wrong.
    pub why: String,
    /// What the user can do.
    pub next: String,
    /// Whether the server only refused for lack of a credential (401, 403).
    pub needs_key: bool,
}

/// The result of asking with one protocol.
pub(super) type InferenceResult = Result<ProtocolAnswer, InferenceFailure>;

/// A good answer, as the protocols report it; [`super::InferenceAnswer`] adds the retries.
pub(super) struct ProtocolAnswer {
    pub(super) model: Option<String>,
    pub(super) first: Duration,
    pub(super) says: String,
}

impl InferenceFailure {
    pub(super) fn new(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { why: why.into(), next: next.into(), needs_key: false }
    }

    pub(super) fn from_timeout(probe: &InferenceProbe, last: &str) -> Self {
        Self::new(
            format!("no good answer within {} s: {last}", probe.timeout.as_secs()),
            "read the server's log; if it is still loading its model, wait, or set a longer timeout: for the check in gantry.yaml",
        )
    }
}

/// What to do with a response.
pub(super) enum RetryDecision {
    /// Take it as the answer.
    Final,
    /// Ask again later, as the server wishes.
    Later,
}

/// A response whose body was read.
pub(super) struct ServerReply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    address: String,
}

/// All requests of one probe, which share its deadline.
pub(super) struct Conversation<'a> {
    client: &'a Client,
    pub(super) probe: &'a InferenceProbe,
    pub(super) started: Instant,
    put_off: u32,
    judge: fn(&HttpResponse) -> RetryDecision,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(client: &'a Client, probe: &'a InferenceProbe, started: Instant) -> Self {
        Self { client, probe, started, put_off: 0, judge: decide_by_status }
    }

    pub(super) fn postponements(&self) -> u32 {
        self.put_off
    }

    /// Sets the rule that decides which responses mean "later".
    pub(super) fn set_retry_rule(&mut self, judge: fn(&HttpResponse) -> RetryDecision) {
        self.judge = judge;
    }

    /// Sends a GET and returns the response whatever its status is.
    pub(super) async fn get(&mut self, path: &str) -> Result<ServerReply, InferenceFailure> {
        self.send_request(Method::GET, path, None).await
    }

    /// Sends a GET that has to succeed, and parses the body as JSON.
    pub(super) async fn get_json(&mut self, path: &str) -> Result<Value, InferenceFailure> {
        self.get(path).await?.into_success()?.parse_json()
    }

    /// Sends a POST with JSON and returns the response whatever its status is.
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: &Value,
    ) -> Result<ServerReply, InferenceFailure> {
        self.send_request(Method::POST, path, Some(body)).await
    }

    /// Sends a POST with JSON that has to succeed and meet the expectations, and parses the body as
    /// JSON.
    pub(super) async fn post_json(
        &mut self,
        path: &str,
        body: &Value,
    ) -> Result<Value, InferenceFailure> {
        let reply = self.post(path, body).await?.into_success()?;
        reply.check_expectations(&self.probe.expect)?;
        reply.parse_json()
    }

    async fn send_request(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ServerReply, InferenceFailure> {
        let response = self.open_response(method, path, body).await?;
        let (status, address) = (response.status(), format!("{}{path}", self.probe.base));
        let body = self
            .wait_within_deadline(response.read_bytes(MOST_BYTES))
            .await?
            .map_err(|error| from_net_error(&error))?;
        Ok(ServerReply { status, body, address })
    }

    /// Sends a request and returns the response once its head has arrived. Retries as the server
    /// wishes.
    pub(super) async fn open_response(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<HttpResponse, InferenceFailure> {
        let request = self.build_request(method, path, body)?;
        let mut last = "the server was not reached".to_owned();
        let mut connections = 0;
        loop {
            let Some(left) = self.time_left() else {
                return Err(InferenceFailure::from_timeout(self.probe, &last));
            };
            let wait = match tokio::time::timeout(left, self.client.send_without_retry(&request))
                .await
            {
                Err(_) => {
                    return Err(InferenceFailure::from_timeout(
                        self.probe,
                        "the server sent no response",
                    ));
                }
                Ok(Ok(response)) => match (self.judge)(&response) {
                    RetryDecision::Final => return Ok(response),
                    RetryDecision::Later => {
                        self.put_off += 1;
                        let wait = response.retry_after().unwrap_or(LATER).min(LONGEST_LATER);
                        last = format!("the last response was: {}", response.into_error().await);
                        wait
                    }
                },
                // Only connection errors: a wrong certificate or address does not mend itself.
                Ok(Err(error @ net::Error::Request { .. })) => {
                    connections += 1;
                    if connections >= CONNECTIONS {
                        return Err(from_net_error(&error));
                    }
                    last = error.to_string();
                    Duration::from_millis(500)
                }
                Ok(Err(error)) => return Err(from_net_error(&error)),
            };
            // Never past the deadline: the next round then reports it, with the last reason.
            tokio::time::sleep(wait.min(left)).await;
        }
    }

    fn build_request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<HttpRequest, InferenceFailure> {
        let address = format!("{}{path}", self.probe.base);
        let mut request =
            HttpRequest::new(method, &address).map_err(|error| from_net_error(&error))?;
        for (name, value) in &self.probe.headers {
            request = request.header(name.clone(), value.clone());
        }
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(RequestBody::Bytes(body.to_string().into()));
        }
        Ok(request)
    }

    /// Waits for `work`, at most until the deadline of the probe.
    pub(super) async fn wait_within_deadline<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, InferenceFailure> {
        let left = self.time_left().unwrap_or_default();
        let late = |_| InferenceFailure::from_timeout(self.probe, "its response did not end");
        tokio::time::timeout(left, work).await.map_err(late)
    }

    fn time_left(&self) -> Option<Duration> {
        self.probe.timeout.checked_sub(self.started.elapsed()).filter(|left| !left.is_zero())
    }
}

impl ServerReply {
    /// Returns the response if its status is a success.
    pub(super) fn into_success(self) -> Result<Self, InferenceFailure> {
        if self.status.is_success() { Ok(self) } else { Err(self.to_failure()) }
    }

    /// Describes an unsuccessful status with the server's own message.
    pub(super) fn to_failure(&self) -> InferenceFailure {
        let words = net::extract_error_message(&self.body);
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        let why = format!("{} answered {}{words}", self.address, self.status.as_u16());
        match self.status.as_u16() {
            // The server is alive and only wants a key: for a recognised server a warning.
            401 | 403 => InferenceFailure {
                needs_key: true,
                ..InferenceFailure::new(
                    why,
                    "declare it under checks: in gantry.yaml, with headers: and a secretRef that holds its key",
                )
            },
            404 => InferenceFailure::new(
                why,
                "check the port, the path and the model; set them under checks: in gantry.yaml",
            ),
            _ => InferenceFailure::new(why, "read the server's log"),
        }
    }

    /// Parses the body as JSON.
    pub(super) fn parse_json(&self) -> Result<Value, InferenceFailure> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let begin: String = String::from_utf8_lossy(&self.body).chars().take(80).collect();
            InferenceFailure::new(
                format!("the answer of {} is not valid JSON: {begin:?}", self.address),
                "check the port and the path; set them under checks: in gantry.yaml",
            )
        })
    }

    /// Checks the body against the expectations of the check (`expect:`).
    pub(super) fn check_expectations(
        &self,
        expect: &CheckExpectation,
    ) -> Result<(), InferenceFailure> {
        let next = "compare the answer with expect: of the check in gantry.yaml";
        let text = || String::from_utf8_lossy(&self.body);
        if let Some(part) = &expect.contains
            && !text().contains(part.as_str())
        {
            let begin: String = text().chars().take(120).collect();
            return Err(InferenceFailure::new(
                format!("the answer does not contain {part:?}: {begin:?}"),
                next,
            ));
        }
        let Some(path) = &expect.json_path else { return Ok(()) };
        let json = self.parse_json()?;
        let found = path.query(&json).all();
        let is_met = match &expect.equals {
            Some(wanted) => found.contains(&wanted),
            None => !found.is_empty(),
        };
        if is_met {
            return Ok(());
        }
        let found: Vec<String> = found.iter().take(3).map(ToString::to_string).collect();
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        let wanted =
            expect.equals.as_ref().map(|wanted| format!(", not {wanted}")).unwrap_or_default();
        Err(InferenceFailure::new(
            format!("the path {path} in the answer yields {found}{wanted}"),
            next,
        ))
    }
}

/// 429 and 503 mean "later": llama.cpp, vLLM and TGI answer so while they load their model.
fn decide_by_status(response: &HttpResponse) -> RetryDecision {
    match response.status().as_u16() {
        429 | 503 => RetryDecision::Later,
        _ => RetryDecision::Final,
    }
}

/// Describes an error of the HTTP client: the server does not answer, or does not speak HTTP.
pub(super) fn from_net_error(error: &net::Error) -> InferenceFailure {
    let next = match error {
        net::Error::Untrusted { .. } => {
            "name the file with its CA certificate in registry.ca of site.yaml or in SSL_CERT_FILE"
        }
        net::Error::PlainHttp { .. } => "give the check an https:// address, or no secret header",
        _ => {
            "is it listening on this port, on all addresses (0.0.0.0 or ::), and does it speak HTTP there?"
        }
    };
    InferenceFailure::new(error.to_string(), next)
}
