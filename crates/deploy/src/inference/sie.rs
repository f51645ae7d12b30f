//! The Superlinked inference engine: `POST /v1/encode/{org}/{model}`, of a worker or the gateway.

use net::Response;
use serde_json::{Value, json};

use super::ask::{Conversation, Good, Outcome, Verdict};
use super::{Failure, TEXT, openai, vector};

/// The codes of a 503 after which to come back; any other one is final.
const LATER: [&str; 4] = ["PROVISIONING", "MODEL_LOADING", "LORA_LOADING", "RESOURCE_EXHAUSTED"];

pub(super) async fn encode(conversation: &mut Conversation<'_>) -> Outcome {
    has_workers(conversation).await?;
    conversation.judge_by(judge);
    let model = model(conversation).await?;
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
        return Err(Failure::new(
            format!("the model says that it has {told} dimensions, not {declared}"),
            "is it the model that was meant? name it under checks: in gantry.yaml",
        ));
    }
    let values = dense.and_then(|dense| dense.get("values"));
    let says = vector::judge(values, told.or(declared))?;
    Ok(Good { model: Some(model), first: conversation.started.elapsed(), says })
}

/// The gateway is always ready; what counts is whether it has workers. A worker does not tell any.
async fn has_workers(conversation: &mut Conversation<'_>) -> Result<(), Failure> {
    let ready = conversation.get("/readyz").await?;
    let workers =
        ready.json().ok().and_then(|json| json.get("healthy_workers").and_then(Value::as_u64));
    if workers == Some(0) {
        return Err(Failure::new(
            "the gateway has no healthy worker (healthy_workers of /readyz is 0)",
            "look at the worker pods: is a pool enabled (workers.pools.…), and is its model cache reachable?",
        ));
    }
    Ok(())
}

/// As declared; else as listed; else of the lock, since a gateway lists nothing.
async fn model(conversation: &mut Conversation<'_>) -> Result<String, Failure> {
    let likely = conversation.probe.likely.first().cloned();
    match (openai::model(conversation, |_| true).await, likely) {
        (Ok(model), likely) if model == "default" => likely.ok_or_else(|| {
            Failure::new(
                "the server lists no models, and the lock has none",
                "name the model under checks: in gantry.yaml",
            )
        }),
        (Err(_), Some(likely)) => Ok(likely),
        (asked, _) => asked,
    }
}

/// 202 while a worker is being brought up, 503 with a code that passes by itself; 502
/// `MODEL_LOAD_FAILED` is final.
fn judge(response: &Response) -> Verdict {
    let code = response.header("x-sie-error-code").unwrap_or_default();
    match response.status().as_u16() {
        202 => Verdict::Later,
        503 if LATER.contains(&code) => Verdict::Later,
        _ => Verdict::Final,
    }
}
