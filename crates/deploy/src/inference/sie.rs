//! The API of the Superlinked Inference Engine: `POST /v1/encode/{org}/{model}`, of a worker or of
//! the gateway in front of the workers.

use net::HttpResponse;
use serde_json::{Value, json};

use super::ask::{Conversation, InferenceResult, ProtocolAnswer, RetryDecision};
use super::probe::TEXT;
use super::{InferenceFailure, openai, vector};

/// The error codes of a 503 that are worth a retry; any other one is final.
const LATER: [&str; 4] = ["PROVISIONING", "MODEL_LOADING", "LORA_LOADING", "RESOURCE_EXHAUSTED"];

/// Asks for an embedding.
pub(super) async fn ask_sie(conversation: &mut Conversation<'_>) -> InferenceResult {
    require_workers(conversation).await?;
    conversation.set_retry_rule(decide_by_error_code);
    let model = find_model_name(conversation).await?;
    let path = conversation.probe.path.clone().unwrap_or_else(|| format!("/v1/encode/{model}"));
    let question = json!({
        "items": [{"id": "1", "text": TEXT}],
        "params": {"output_types": ["dense"], "output_dtype": "float32"},
    });
    let answer = conversation.post_json(&path, &question).await?;
    let dense = answer.pointer("/items/0/dense");
    let declared = conversation.probe.expect.dimensions.map(u64::from);
    let told = dense.and_then(|dense| dense.get("dims")).and_then(Value::as_u64);
    if let (Some(declared), Some(told)) = (declared, told)
        && declared != told
    {
        return Err(InferenceFailure::new(
            format!("the model reports {told} dimensions instead of {declared}"),
            "check that it is the intended model; set model: of the check in gantry.yaml",
        ));
    }
    let values = dense.and_then(|dense| dense.get("values"));
    let says = vector::judge_vector(values, told.or(declared))?;
    Ok(ProtocolAnswer { model: Some(model), first: conversation.started.elapsed(), says })
}

/// Fails if a gateway has no workers: it reports itself as ready even then. The answer of a worker
/// has no such field and passes.
async fn require_workers(conversation: &mut Conversation<'_>) -> Result<(), InferenceFailure> {
    let ready = conversation.get("/readyz").await?;
    let workers = ready
        .parse_json()
        .ok()
        .and_then(|json| json.get("healthy_workers").and_then(Value::as_u64));
    if workers == Some(0) {
        return Err(InferenceFailure::new(
            "the gateway has no healthy worker (healthy_workers of /readyz is 0)",
            "check the worker pods: a pool has to be enabled (workers.pools.…), and its model cache reachable",
        ));
    }
    Ok(())
}

/// Returns the name of the model: as configured, else as the server lists it, else from the lock,
/// since a gateway lists no models.
async fn find_model_name(conversation: &mut Conversation<'_>) -> Result<String, InferenceFailure> {
    let likely = conversation.probe.likely.first().cloned();
    match (openai::find_model_name(conversation, |_| true).await, likely) {
        // "default" means that there is no list; this API has the model in its path and needs a
        // name.
        (Ok(model), likely) if model == "default" => likely.ok_or_else(|| {
            InferenceFailure::new(
                "the server lists no models, and the lock contains none",
                "set model: of the check in gantry.yaml",
            )
        }),
        (Err(_), Some(likely)) => Ok(likely),
        (asked, _) => asked,
    }
}

/// 202 means that a worker is starting, and some codes of a 503 pass by themselves. Anything else
/// is final, such as a 502 with `MODEL_LOAD_FAILED`.
fn decide_by_error_code(response: &HttpResponse) -> RetryDecision {
    let code = response.header("x-sie-error-code").unwrap_or_default();
    match response.status().as_u16() {
        202 => RetryDecision::Later,
        503 if LATER.contains(&code) => RetryDecision::Later,
        _ => RetryDecision::Final,
    }
}
