//! A request to a model server: where it goes, how, and what its answer has to be.

use std::time::Duration;

use http::HeaderMap;
use types::input::checks::{CheckExpectation, CheckKind};

/// The input of every request: plain words that any tokenizer accepts.
pub(super) const TEXT: &str = "hello world";

/// A request to one model server, and what its answer has to be.
#[derive(Debug, Clone)]
pub struct InferenceProbe {
    /// The address, without a slash at the end: `http://host:port`; for TCP `tcp://host:port`.
    pub base: String,
    /// How the server is reached.
    pub via: ServerConnection,
    /// The protocol that the server speaks.
    pub kind: CheckKind,
    /// The model to ask; if absent, the server is asked which models it has.
    pub model: Option<String>,
    /// Names of locked models. An Ollama server has to have all of them; any other server that does
    /// not list its models is asked for the first one.
    pub likely: Vec<String>,
    /// The request path, if it is not the usual one of the protocol.
    pub path: Option<String>,
    /// Headers that are sent with every request.
    pub headers: HeaderMap,
    /// How long everything may take together, loading of the model included.
    pub timeout: Duration,
    /// What the answer has to contain.
    pub expect: CheckExpectation,
}

/// How a connection to a server is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerConnection {
    /// Directly, at the server's own address.
    Direct,
    /// Through a port forward, which accepts every connection and closes it if the pod does not
    /// accept.
    Forward,
}

impl InferenceProbe {
    /// The default request of a protocol, as it is sent to recognised servers.
    pub fn new(base: &str, kind: CheckKind) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            via: ServerConnection::Direct,
            kind,
            model: None,
            likely: Vec::new(),
            path: None,
            headers: HeaderMap::new(),
            timeout: types::input::checks::TIMEOUT,
            expect: CheckExpectation::default(),
        }
    }
}
