//! The API of Hugging Face's text-embeddings-inference: `/info` names the type of the model, which
//! decides between `/embed`, `/rerank` and `/predict`.

use serde_json::{Value, json};

use super::ask::{Conversation, InferenceResult, ProtocolAnswer};
use super::probe::TEXT;
use super::{InferenceFailure, vector};

/// Asks a text-embeddings-inference server.
pub(super) async fn ask_tei(conversation: &mut Conversation<'_>) -> InferenceResult {
    let info = conversation.get_json("/info").await?;
    let model = info.get("model_id").and_then(Value::as_str).map(str::to_owned);
    if let (Some(wanted), Some(has)) = (&conversation.probe.model, &model)
        && wanted != has
    {
        return Err(InferenceFailure::new(
            format!("the server has the model {has} instead of {wanted}"),
            "set its --model-id or MODEL_ID, or model: of the check in gantry.yaml",
        ));
    }
    // `{"model_type": {"embedding": {…}}}`, or with the key `reranker` or `classifier`.
    let is = |kind: &str| info.pointer(&format!("/model_type/{kind}")).is_some();
    let says = if is("reranker") {
        let question = json!({"query": TEXT, "texts": [TEXT, "a stone"]});
        let path = request_path(conversation, "/rerank");
        let answer = conversation.post_json(&path, &question).await?;
        describe_scores(&answer)?
    } else if is("classifier") {
        let path = request_path(conversation, "/predict");
        let answer = conversation.post_json(&path, &json!({"inputs": TEXT})).await?;
        describe_scores(&answer)?
    } else {
        let path = request_path(conversation, "/embed");
        let answer = conversation.post_json(&path, &json!({"inputs": [TEXT]})).await?;
        let dimensions = conversation.probe.expect.dimensions.map(u64::from);
        vector::judge_vector(answer.get(0), dimensions)?
    };
    Ok(ProtocolAnswer { model, first: conversation.started.elapsed(), says })
}

/// Returns the configured request path, or the usual one.
fn request_path(conversation: &Conversation<'_>, usual: &str) -> String {
    conversation.probe.path.clone().unwrap_or_else(|| usual.to_owned())
}

/// Counts the scores of an answer, and fails if one is not a finite number.
fn describe_scores(answer: &Value) -> Result<String, InferenceFailure> {
    let scores: Vec<Option<f64>> = answer
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| one.get("score").and_then(Value::as_f64).filter(|score| score.is_finite()))
        .collect();
    if scores.is_empty() || scores.contains(&None) {
        return Err(InferenceFailure::new(
            "the answer has no scores, or some of them are not numbers",
            "read the server's log; the model's files may be damaged: check them with gantry models verify",
        ));
    }
    Ok(format!("{} scores", scores.len()))
}
