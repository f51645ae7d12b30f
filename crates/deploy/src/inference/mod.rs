//! First inference: sends one real request to a model server and judges its answer. It needs only a
//! base address; the caller provides the connection (a port forward, or a URL).
//!
//! Data flow: [`recognise`] finds out which protocol a pod serves, an [`InferenceProbe`] describes
//! the request, [`run_probe`] sends it with the file of that protocol, and the result is an
//! [`InferenceAnswer`] or an [`InferenceFailure`]. `check::infer` is the caller.

mod ask;
mod kserve;
mod ollama;
mod openai;
mod plain;
pub mod recognise;
mod sie;
mod tei;
mod vector;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::HeaderMap;
use types::input::checks::{CheckExpectation, CheckKind};

pub use self::ask::InferenceFailure;
use self::ask::{Conversation, InferenceResult};

/// The input of every request: plain words that any tokenizer accepts.
const TEXT: &str = "hello world";

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

/// A good answer of a model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferenceAnswer {
    /// The model that answered.
    pub model: Option<String>,
    /// The time from the first request to the first good answer, retries included: the cold start.
    pub first: Duration,
    /// What the server answered, in one sentence.
    pub says: String,
    /// How often the server asked to retry later.
    pub put_off: u32,
}

/// Sends the request and judges the answer.
///
/// # Errors
/// Why there is no good answer, with the next step.
pub async fn run_probe(
    client: &net::Client,
    probe: &InferenceProbe,
) -> Result<InferenceAnswer, InferenceFailure> {
    let started = Instant::now();
    let mut conversation = Conversation::new(client, probe, started);
    let asked = async {
        match probe.kind {
            CheckKind::OpenaiChat => openai::ask_chat(&mut conversation).await,
            CheckKind::OpenaiEmbeddings => openai::ask_embeddings(&mut conversation).await,
            CheckKind::SieEncode => sie::ask_sie(&mut conversation).await,
            CheckKind::Ollama => ollama::ask_ollama(&mut conversation).await,
            CheckKind::Tei => tei::ask_tei(&mut conversation).await,
            CheckKind::KserveV2 => kserve::ask_kserve(&mut conversation).await,
            CheckKind::Http => plain::ask_http(&mut conversation).await,
            CheckKind::Tcp => plain::ask_tcp(&mut conversation).await,
        }
    };
    // Every wait inside ends at the deadline and reports what it waited for. This one only catches
    // a wait that does not, hence the extra seconds.
    let limit = probe.timeout + Duration::from_secs(5);
    let outcome: InferenceResult = match tokio::time::timeout(limit, asked).await {
        Ok(outcome) => outcome,
        Err(_) => return Err(InferenceFailure::from_timeout(probe, "the check did not finish")),
    };
    outcome.map(|good| InferenceAnswer {
        model: good.model,
        first: good.first,
        says: good.says,
        put_off: conversation.postponements(),
    })
}

/// Builds a client for such requests. A model may compute for a long time before its first byte, so
/// the idle timeout is as long as the `longest` deadline.
///
/// # Errors
/// A certificate file that cannot be read or used.
pub fn build_client(ca: &[PathBuf], longest: Duration) -> net::Result<net::Client> {
    net::Client::builder().ca_files(ca.iter().cloned()).idle_timeout(longest).build()
}
