//! First inference: one real question to a model server, and a judgement of its answer. Pure over a
//! base address: the way there (a port forward, or a URL) is the caller's.
//!
//! The way of the data: [`recognise`] says of a pod what it serves, [`Probe`] is what is asked,
//! [`infer`] asks it by the file of its kind, [`Answer`] or [`Failure`] is what came of it.

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
use types::input::checks::{Expect, Kind};

pub use self::ask::Failure;
use self::ask::{Conversation, Outcome};

/// A text that every tokenizer takes.
const TEXT: &str = "hello world";

/// What is asked.
#[derive(Debug, Clone)]
pub struct Probe {
    /// `http://host:port`; for TCP `tcp://host:port`.
    pub base: String,
    /// How it is reached.
    pub via: Via,
    /// What is asked.
    pub kind: Kind,
    /// The model; the server is asked for its models when absent.
    pub model: Option<String>,
    /// Models of the lock: an Ollama has to have all of them, another server has one of them where it
    /// does not list its own.
    pub likely: Vec<String>,
    /// The path, where it is not the kind's own.
    pub path: Option<String>,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// How long all of it may take.
    pub timeout: Duration,
    /// What the answer has to be.
    pub expect: Expect,
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// At its own address.
    Direct,
    /// Through a port forward, which takes every connection and closes it when the pod does not.
    Forward,
}

impl Probe {
    /// What a recognised server is asked: the kind's own question.
    pub fn new(base: &str, kind: Kind) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            via: Via::Direct,
            kind,
            model: None,
            likely: Vec::new(),
            path: None,
            headers: HeaderMap::new(),
            timeout: types::input::checks::TIMEOUT,
            expect: Expect::default(),
        }
    }
}

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The model that answered.
    pub model: Option<String>,
    /// From the first question to the first good answer, put-offs included: the cold start.
    pub first: Duration,
    /// What was seen, in a sentence.
    pub says: String,
    /// How often the server asked to come back later.
    pub put_off: u32,
}

/// Asks, and judges the answer.
pub async fn infer(client: &net::Client, probe: &Probe) -> Result<Answer, Failure> {
    let started = Instant::now();
    let mut conversation = Conversation::new(client, probe, started);
    let asked = async {
        match probe.kind {
            Kind::OpenaiChat => openai::chat(&mut conversation).await,
            Kind::OpenaiEmbeddings => openai::embeddings(&mut conversation).await,
            Kind::SieEncode => sie::encode(&mut conversation).await,
            Kind::Ollama => ollama::generate(&mut conversation).await,
            Kind::Tei => tei::embed(&mut conversation).await,
            Kind::KserveV2 => kserve::infer(&mut conversation).await,
            Kind::Http => plain::http(&mut conversation).await,
            Kind::Tcp => plain::tcp(&mut conversation).await,
        }
    };
    // Each wait ends at the deadline by itself and then says what it waited for; this is the last resort.
    let limit = probe.timeout + Duration::from_secs(5);
    let outcome: Outcome = match tokio::time::timeout(limit, asked).await {
        Ok(outcome) => outcome,
        Err(_) => return Err(Failure::late(probe, "it did not come to an end")),
    };
    outcome.map(|good| Answer {
        model: good.model,
        first: good.first,
        says: good.says,
        put_off: conversation.put_off(),
    })
}

/// A client for such questions: a model may think for long before its first byte.
pub fn client(ca: &[PathBuf], longest: Duration) -> net::Result<net::Client> {
    net::Client::builder().ca(ca.iter().cloned()).idle_timeout(longest).build()
}
