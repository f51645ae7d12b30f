//! The OpenAI API, which llama.cpp, vLLM, SGLang, TGI, LiteLLM and others serve: chat completions,
//! plain and streamed, and embeddings.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use super::ask::{Conversation, InferenceResult, ProtocolAnswer};
use super::probe::TEXT;
use super::{InferenceFailure, vector};

/// The most tokens of an answer: enough for a word, even after the first thoughts of a reasoning
/// model.
const TOKENS: u32 = 32;
/// The most bytes of a stream that are read; 32 tokens take a few kilobytes.
const MOST_STREAM: usize = 4 << 20;

/// Asks for a chat completion, first as one answer, then streamed: proxies that buffer or cut
/// streams break only the second.
pub(super) async fn ask_chat(conversation: &mut Conversation<'_>) -> InferenceResult {
    let path = request_path(conversation, "/v1/chat/completions");
    let model = find_model_name(conversation, is_chat_model).await?;
    let mut question = json!({
        "model": model,
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": TOKENS,
        "temperature": 0,
    });
    // The plain answer first: its errors have a body that explains them, those of a stream often
    // not.
    let answer = conversation.post_json(&path, &question).await?;
    let message = answer.pointer("/choices/0/message");
    let Some(text) = message.and_then(find_text) else {
        let cut: String = answer.to_string().chars().take(200).collect();
        return Err(InferenceFailure::new(
            format!("the answer has no text: {cut}"),
            "check that it is a chat model with a chat template, and read the server's log",
        ));
    };
    let first = conversation.started.elapsed();
    let begin: String = text.trim().chars().take(40).collect();
    question["stream"] = true.into();
    let streamed = ask_streamed(conversation, &path, &question).await?;
    let model = answering_model(&answer, &model);
    let says = format!(
        "answered {begin:?}; streamed {} chunks, the first after {} ms",
        streamed.pieces,
        streamed.first.as_millis()
    );
    Ok(ProtocolAnswer { model: Some(model), first, says })
}

/// Asks for an embedding.
pub(super) async fn ask_embeddings(conversation: &mut Conversation<'_>) -> InferenceResult {
    let path = request_path(conversation, "/v1/embeddings");
    let model = find_model_name(conversation, |name| !is_chat_model(name)).await?;
    let answer = conversation.post_json(&path, &json!({"model": model, "input": TEXT})).await?;
    let dimensions = conversation.probe.expect.dimensions.map(u64::from);
    let says = vector::judge_vector(answer.pointer("/data/0/embedding"), dimensions)?;
    let first = conversation.started.elapsed();
    Ok(ProtocolAnswer { model: Some(answering_model(&answer, &model)), first, says })
}

/// Returns the name of the model: as configured, or the first one that the server lists and that
/// `fits`.
pub(super) async fn find_model_name(
    conversation: &mut Conversation<'_>,
    fits: fn(&str) -> bool,
) -> Result<String, InferenceFailure> {
    if let Some(model) = &conversation.probe.model {
        return Ok(model.clone());
    }
    let listed = conversation.get("/v1/models").await?;
    // Servers of a single model may have no list, and then accept any name.
    if listed.status.as_u16() == 404 {
        return Ok(conversation.probe.likely.first().cloned().unwrap_or_else(|| "default".into()));
    }
    let listed = listed.into_success()?.parse_json()?;
    let names: Vec<&str> = listed
        .pointer("/data")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|model| model.get("id")?.as_str())
        .collect();
    let fitting = names.iter().find(|name| fits(name)).or_else(|| names.first());
    fitting.map(|name| (*name).to_owned()).ok_or_else(|| {
        InferenceFailure::new(
            "the server lists no models (GET /v1/models)",
            "read its log, as the model may not be loaded; or set model: of the check in gantry.yaml",
        )
    })
}

/// Whether a name looks like that of a chat model. The API does not tell chat and embedding models
/// apart, and a server may have both.
fn is_chat_model(name: &str) -> bool {
    let name = name.to_lowercase();
    !["embed", "rerank", "bge-", "e5-", "gte-", "minilm"].iter().any(|part| name.contains(part))
}

/// Returns the configured request path, or the usual one.
fn request_path(conversation: &Conversation<'_>, usual: &str) -> String {
    conversation.probe.path.clone().unwrap_or_else(|| usual.to_owned())
}

/// Returns the model that an answer names, or the one that was asked for.
fn answering_model(answer: &Value, asked: &str) -> String {
    answer.get("model").and_then(Value::as_str).unwrap_or(asked).to_owned()
}

/// Returns the text of a message, or of a chunk of one. The thoughts of a reasoning model count as
/// text.
fn find_text(message: &Value) -> Option<&str> {
    ["content", "reasoning_content", "reasoning"]
        .iter()
        .find_map(|key| message.get(key)?.as_str().filter(|text| !text.is_empty()))
}

/// Figures about a streamed answer.
struct StreamStatistics {
    /// The time until the first chunk with text.
    first: Duration,
    /// The number of chunks with text.
    pieces: usize,
}

/// Asks for a streamed answer and reads it to its end.
async fn ask_streamed(
    conversation: &mut Conversation<'_>,
    path: &str,
    question: &Value,
) -> Result<StreamStatistics, InferenceFailure> {
    let asked = Instant::now();
    let mut response = conversation.open_response(Method::POST, path, Some(question)).await?;
    let next =
        "check whether a proxy in between buffers or cuts streams, and read the server's log";
    if !response.status().is_success() {
        let cause = response.into_error().await;
        return Err(InferenceFailure::new(format!("the streamed answer failed: {cause}"), next));
    }
    let mut reader = EventReader::default();
    let mut streamed = None;
    loop {
        let chunk = conversation.wait_within_deadline(response.next_chunk()).await?;
        let chunk = chunk.map_err(|cause| {
            InferenceFailure::new(format!("the stream was interrupted: {cause}"), next)
        })?;
        let Some(chunk) = chunk else { break };
        for event in reader.read_events(&chunk) {
            if event.pointer("/choices/0/delta").and_then(find_text).is_some() {
                let now =
                    streamed.get_or_insert(StreamStatistics { first: asked.elapsed(), pieces: 0 });
                now.pieces += 1;
            }
        }
        // Some servers keep the connection open after the last event.
        if reader.is_done || reader.read > MOST_STREAM {
            break;
        }
    }
    match streamed {
        Some(streamed) if reader.is_done => Ok(streamed),
        Some(_) => Err(InferenceFailure::new("the stream ended without its final [DONE]", next)),
        None => Err(InferenceFailure::new("the streamed answer has no text", next)),
    }
}

/// Parses server-sent events, as far as this API uses them: one `data:` line each (HTML standard,
/// "Server-sent events"). Comments and other fields are skipped.
#[derive(Default)]
struct EventReader {
    rest: Vec<u8>,
    read: usize,
    is_done: bool,
}

impl EventReader {
    /// Takes the next bytes of the stream and returns the events that are complete by now.
    fn read_events(&mut self, chunk: &[u8]) -> Vec<Value> {
        self.read += chunk.len();
        self.rest.extend_from_slice(chunk);
        let mut events = Vec::new();
        // A chunk may end anywhere, even inside a UTF-8 sequence: only whole lines are decoded.
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some(data) = line.trim().strip_prefix("data:").map(str::trim) else { continue };
            if data == "[DONE]" {
                self.is_done = true;
            } else if let Ok(event) = serde_json::from_str(data) {
                events.push(event);
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_the_bytes_are_cut() {
        let bytes = b"data: {\"choices\":[{\"delta\":{\"content\":\"h\xc3\xa9\"}}]}\r\n\r\n: ping\ndata: [DONE]\n\n";
        for size in 1..bytes.len() {
            let mut reader = EventReader::default();
            let events: Vec<Value> =
                bytes.chunks(size).flat_map(|chunk| reader.read_events(chunk)).collect();
            assert_eq!(events.len(), 1);
            assert_eq!(events[0].pointer("/choices/0/delta").and_then(find_text), Some("hé"));
            assert!(reader.is_done);
        }
    }

    #[test]
    fn the_thoughts_of_a_reasoning_model_count_and_an_empty_text_does_not() {
        assert_eq!(find_text(&json!({"content": "", "reasoning_content": "hm"})), Some("hm"));
        assert_eq!(find_text(&json!({"content": null})), None);
    }
}
