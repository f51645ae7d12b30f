//! The conversation with a server: requests with one deadline over all of them, come-back-later
//! answers obeyed, and every failure with its next step.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use net::{Body, Client, Request, Response};
use serde_json::Value;
use types::input::checks::Expect;

use super::Probe;

/// Answers are a few kilobytes; a stream without end is not read so.
const MOST_BYTES: u64 = 16 << 20;
/// Where a server says "later" without saying when.
const LATER: Duration = Duration::from_secs(2);
/// A server may ask for longer than it needs; so often at least it is asked again.
const LONGEST_LATER: Duration = Duration::from_secs(30);
/// A connection that breaks is tried so often: a forward to a pod that was just replaced.
const CONNECTIONS: u32 = 3;

/// Why there is no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub why: String,
    /// What to do.
    pub next: String,
    /// Whether only a credential is missing.
    pub needs_key: bool,
}

/// What a kind's question gives.
pub(super) type Outcome = Result<Good, Failure>;

/// A good answer as the kinds give it.
pub(super) struct Good {
    pub(super) model: Option<String>,
    pub(super) first: Duration,
    pub(super) says: String,
}

impl Failure {
    pub(super) fn new(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { why: why.into(), next: next.into(), needs_key: false }
    }

    pub(super) fn late(probe: &Probe, last: &str) -> Self {
        Self::new(
            format!("no good answer within {} s; {last}", probe.timeout.as_secs()),
            "look at the server's log; if it is still loading, wait, or give the check a longer timeout: in gantry.yaml",
        )
    }
}

/// What an answer means for the conversation.
pub(super) enum Verdict {
    /// It is the answer.
    Final,
    /// The server asks to come back.
    Later,
}

/// An answer that was read.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    address: String,
}

pub(super) struct Conversation<'a> {
    client: &'a Client,
    pub(super) probe: &'a Probe,
    pub(super) started: Instant,
    put_off: u32,
    judge: fn(&Response) -> Verdict,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(client: &'a Client, probe: &'a Probe, started: Instant) -> Self {
        Self { client, probe, started, put_off: 0, judge: usual }
    }

    pub(super) fn put_off(&self) -> u32 {
        self.put_off
    }

    /// Another rule for what "later" looks like.
    pub(super) fn judge_by(&mut self, judge: fn(&Response) -> Verdict) {
        self.judge = judge;
    }

    /// A GET whose answer is taken whatever its status.
    pub(super) async fn get(&mut self, path: &str) -> Result<Reply, Failure> {
        self.send(Method::GET, path, None).await
    }

    /// A GET that has to succeed, as JSON.
    pub(super) async fn get_json(&mut self, path: &str) -> Result<Value, Failure> {
        self.get(path).await?.success()?.json()
    }

    /// A POST of JSON whose answer is taken whatever its status.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Reply, Failure> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// A POST that has to succeed, as JSON.
    pub(super) async fn post_json(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        let reply = self.post(path, body).await?.success()?;
        reply.meets(&self.probe.expect)?;
        reply.json()
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, Failure> {
        let response = self.open(method, path, body).await?;
        let (status, address) = (response.status(), format!("{}{path}", self.probe.base));
        let body =
            self.within(response.bytes(MOST_BYTES)).await?.map_err(|error| broken(&error))?;
        Ok(Reply { status, body, address })
    }

    /// The answer to a request as soon as its head is there, with "later" obeyed.
    pub(super) async fn open(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, Failure> {
        let request = self.request(method, path, body)?;
        let mut last = "it was not reached".to_owned();
        let mut connections = 0;
        loop {
            let Some(left) = self.left() else { return Err(Failure::late(self.probe, &last)) };
            let wait = match tokio::time::timeout(left, self.client.ask(&request)).await {
                Err(_) => return Err(Failure::late(self.probe, "it was still silent then")),
                Ok(Ok(response)) => match (self.judge)(&response) {
                    Verdict::Final => return Ok(response),
                    Verdict::Later => {
                        self.put_off += 1;
                        let wait = response.retry_after().unwrap_or(LATER).min(LONGEST_LATER);
                        last = format!("the last one: {}", response.into_error().await);
                        wait
                    }
                },
                Ok(Err(error @ net::Error::Request { .. })) => {
                    connections += 1;
                    if connections >= CONNECTIONS {
                        return Err(broken(&error));
                    }
                    last = error.to_string();
                    Duration::from_millis(500)
                }
                Ok(Err(error)) => return Err(broken(&error)),
            };
            tokio::time::sleep(wait.min(left)).await;
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request, Failure> {
        let address = format!("{}{path}", self.probe.base);
        let mut request = Request::new(method, &address).map_err(|error| broken(&error))?;
        for (name, value) in &self.probe.headers {
            request = request.header(name.clone(), value.clone());
        }
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(Body::Bytes(body.to_string().into()));
        }
        Ok(request)
    }

    /// Waits for something as long as there is time.
    pub(super) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let left = self.left().unwrap_or_default();
        let late = |_| Failure::late(self.probe, "its answer did not come to an end");
        tokio::time::timeout(left, work).await.map_err(late)
    }

    fn left(&self) -> Option<Duration> {
        self.probe.timeout.checked_sub(self.started.elapsed()).filter(|left| !left.is_zero())
    }
}

impl Reply {
    /// The reply, if it is a success.
    pub(super) fn success(self) -> Result<Self, Failure> {
        if self.status.is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    /// Why a status is no success, with the server's own words.
    pub(super) fn refusal(&self) -> Failure {
        let words = net::words(&self.body);
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        let why = format!("{} answered {}{words}", self.address, self.status.as_u16());
        match self.status.as_u16() {
            401 | 403 => Failure {
                needs_key: true,
                ..Failure::new(
                    why,
                    "declare it under checks: in gantry.yaml, with headers: and a secretRef that holds its key",
                )
            },
            404 => Failure::new(
                why,
                "is this the right port, path and model? declare them under checks: in gantry.yaml",
            ),
            _ => Failure::new(why, "look at the server's log"),
        }
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let begin: String = String::from_utf8_lossy(&self.body).chars().take(80).collect();
            Failure::new(
                format!("{} answered no JSON: {begin:?}", self.address),
                "is this the right port and path? declare them under checks: in gantry.yaml",
            )
        })
    }

    /// Whether it is what was declared.
    pub(super) fn meets(&self, expect: &Expect) -> Result<(), Failure> {
        let next = "compare the answer with expect: of the check in gantry.yaml";
        let text = || String::from_utf8_lossy(&self.body);
        if let Some(part) = &expect.contains
            && !text().contains(part.as_str())
        {
            let begin: String = text().chars().take(120).collect();
            return Err(Failure::new(format!("the answer has no {part:?}: {begin:?}"), next));
        }
        let Some(path) = &expect.json_path else { return Ok(()) };
        let json = self.json()?;
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
        Err(Failure::new(format!("the path {path} of the answer finds {found}{wanted}"), next))
    }
}

/// Too many requests and not yet ready: llama.cpp, vLLM and TGI answer so while they load.
fn usual(response: &Response) -> Verdict {
    match response.status().as_u16() {
        429 | 503 => Verdict::Later,
        _ => Verdict::Final,
    }
}

/// The server is not there, or does not speak HTTP.
pub(super) fn broken(error: &net::Error) -> Failure {
    let next = match error {
        net::Error::Untrusted { .. } => {
            "give its authority's file with registry.ca or SSL_CERT_FILE"
        }
        _ => {
            "is it listening on this port, on all addresses (0.0.0.0 or ::), and does it speak HTTP there?"
        }
    };
    Failure::new(error.to_string(), next)
}
