//! The Open Inference Protocol (KServe v2), which Triton, MLServer, OpenVINO and KServe serve. The
//! request is generated from the metadata of the model, which names its input tensors and their
//! shapes.

use serde_json::{Value, json};

use super::InferenceFailure;
use super::ask::{Conversation, InferenceResult, ProtocolAnswer};
use super::probe::TEXT;

/// The most values of a generated input tensor; a shape from the server could ask for any number.
const MOST_VALUES: i64 = 1 << 16;

/// Asks a server that speaks the Open Inference Protocol.
pub(super) async fn ask_kserve(conversation: &mut Conversation<'_>) -> InferenceResult {
    conversation.get("/v2/health/ready").await?.into_success()?;
    let model = find_model_name(conversation).await?;
    let ready = conversation.get(&format!("/v2/models/{model}/ready")).await?;
    if !ready.status.is_success() {
        let failure = ready.to_failure();
        return Err(InferenceFailure::new(
            format!("the model is not ready: {}", failure.why),
            failure.next,
        ));
    }
    let metadata = conversation.get_json(&format!("/v2/models/{model}")).await?;
    let inputs: Vec<Value> = metadata
        .get("inputs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(build_input)
        .collect::<Result<_, _>>()?;
    let first;
    let says = if inputs.is_empty() {
        // Some servers leave the inputs out of their metadata; then readiness is all that can be
        // checked.
        first = conversation.started.elapsed();
        "the model is ready; its metadata lists no inputs, so no inference was made".to_owned()
    } else {
        let path =
            conversation.probe.path.clone().unwrap_or_else(|| format!("/v2/models/{model}/infer"));
        let answer = conversation.post_json(&path, &json!({"id": "1", "inputs": inputs})).await?;
        first = conversation.started.elapsed();
        describe_outputs(&answer)?
    };
    Ok(ProtocolAnswer { model: Some(model), first, says })
}

/// Returns the name of the model: as configured, or the first one that the server lists.
async fn find_model_name(conversation: &mut Conversation<'_>) -> Result<String, InferenceFailure> {
    if let Some(model) = &conversation.probe.model {
        return Ok(model.clone());
    }
    // KServe lists models at /v2/models; Triton and MLServer have the repository extension instead.
    let listed = conversation.get("/v2/models").await?;
    let listed = if listed.status.is_success() { listed.parse_json().ok() } else { None };
    if let Some(name) = listed.as_ref().and_then(|list| list.pointer("/models/0")?.as_str()) {
        return Ok(name.to_owned());
    }
    let index = conversation.post("/v2/repository/index", &json!({"ready": true})).await?;
    let index = if index.status.is_success() { index.parse_json().ok() } else { None };
    let name = index.as_ref().and_then(|list| list.pointer("/0/name")?.as_str());
    name.map(str::to_owned).ok_or_else(|| {
        InferenceFailure::new(
            "the server lists no models",
            "set model: of the check in gantry.yaml",
        )
    })
}

/// Generates an input tensor for its metadata. Free dimensions (-1) become 1.
fn build_input(metadata: &Value) -> Result<Value, InferenceFailure> {
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let shape: Vec<i64> = metadata
        .get("shape")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        // -1 is a dimension of any size; whatever is not a positive number is treated like it.
        .map(|size| size.as_i64().filter(|size| *size > 0).unwrap_or(1))
        .collect();
    let count = shape.iter().try_fold(1_i64, |all, size| all.checked_mul(*size));
    let Some(count) = count.filter(|count| *count <= MOST_VALUES) else {
        return Err(InferenceFailure::new(
            format!(
                "the input {:?} has the shape {shape:?}, which is too large to generate",
                text("name")
            ),
            "add a check of kind http with a request of your own under checks: in gantry.yaml",
        ));
    };
    let value = match text("datatype") {
        // The protocol's name for strings.
        "BYTES" => json!(TEXT),
        "BOOL" => json!(false),
        datatype if datatype.starts_with("FP") || datatype == "BF16" => json!(0.5),
        _ => json!(1),
    };
    let data = vec![value; usize::try_from(count).unwrap_or_default()];
    Ok(json!({
        "name": text("name"), "datatype": text("datatype"), "shape": shape, "data": data
    }))
}

/// Describes the output tensors of an answer, and fails if they are empty or not numbers.
fn describe_outputs(answer: &Value) -> Result<String, InferenceFailure> {
    let outputs: Vec<&Value> =
        answer.get("outputs").and_then(Value::as_array).into_iter().flatten().collect();
    let values = |output: &Value| output.get("data").and_then(Value::as_array).map_or(0, Vec::len);
    let described: Vec<String> = outputs
        .iter()
        .map(|output| {
            let name = output.get("name").and_then(Value::as_str).unwrap_or("output");
            format!("{name}: {} values", values(output))
        })
        .collect();
    // JSON has no NaN: a value that is not a number arrives as null.
    let is_null = |output: &&Value| {
        let data = output.get("data").and_then(Value::as_array);
        data.into_iter().flatten().any(Value::is_null)
    };
    if outputs.iter().all(|output| values(output) == 0) || outputs.iter().any(is_null) {
        return Err(InferenceFailure::new(
            format!("the answer has no complete output ({})", described.join(", ")),
            "read the server's log",
        ));
    }
    Ok(described.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_input_is_made_up_from_the_metadata() {
        let made =
            build_input(&json!({"name": "x", "datatype": "FP32", "shape": [-1, 3]})).unwrap();
        assert_eq!(made["shape"], json!([1, 3]));
        assert_eq!(made["data"], json!([0.5, 0.5, 0.5]));
        let text = build_input(&json!({"name": "t", "datatype": "BYTES", "shape": [-1]})).unwrap();
        assert_eq!(text["data"], json!([TEXT]));
        assert!(
            build_input(&json!({"name": "x", "datatype": "FP32", "shape": [9999, 9999]})).is_err()
        );
    }
}
