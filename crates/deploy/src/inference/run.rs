//! Sends the request of a probe with the file of its protocol, under its deadline.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use types::input::checks::CheckKind;

use super::ask::{Conversation, InferenceFailure, InferenceResult};
use super::probe::InferenceProbe;
use super::{kserve, ollama, openai, plain, sie, tei};

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

/// Builds a client for the requests of a probe. A model may compute for a long time before its first
/// byte, so the idle timeout is as long as the probe's deadline.
///
/// # Errors
/// A certificate file that cannot be read or used.
pub fn build_client(ca: &[PathBuf], probe: &InferenceProbe) -> net::Result<net::Client> {
    let longest = probe.timeout;
    net::Client::builder()
        .ca_files(ca.iter().cloned())
        // Address and headers of a check stand in one place: whoever wrote http:// wants them sent there.
        .plain_http_address(&probe.base)
        .idle_timeout(longest)
        .answer_timeout(longest)
        .build()
}
