//! The Ollama API: lists the models (`/api/tags`), compares them with the lock, and lets the
//! smallest one answer (`/api/generate` or `/api/embed`).

use serde_json::{Value, json};

use super::ask::{Conversation, InferenceResult, ProtocolAnswer};
use super::probe::TEXT;
use super::{InferenceFailure, vector};

/// Asks an Ollama server.
pub(super) async fn ask_ollama(conversation: &mut Conversation<'_>) -> InferenceResult {
    let tags = conversation.get_json("/api/tags").await?;
    let models: Vec<ListedModel> = tags
        .get("models")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(ListedModel::from_json)
        .collect();
    // Before a model is asked: an incomplete store is a failure even if some model answers.
    let missing: Vec<&String> = conversation
        .probe
        .likely
        .iter()
        .filter(|wanted| !models.iter().any(|model| is_same_model(&model.name, wanted)))
        .collect();
    let has = || match models.is_empty() {
        true => "it has no models".to_owned(),
        false => {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            format!("it has {}", names.join(", "))
        }
    };
    if let Some(first) = missing.first() {
        return Err(InferenceFailure::new(
            format!("Ollama does not have the locked model {first}; {}", has()),
            "put the model on its volume: gantry models push BUNDLE_FILE… --to TARGET --layout ollama; and check that OLLAMA_MODELS is the path where the volume is mounted",
        ));
    }
    let model = match &conversation.probe.model {
        Some(wanted) => models.iter().find(|model| is_same_model(&model.name, wanted)),
        // The smallest model loads fastest. Chat models come first (`false` sorts before `true`):
        // an embedding model cannot show that text generation works.
        None => models.iter().min_by_key(|model| (model.embeds, model.size)),
    };
    let Some(model) = model else {
        let wanted = conversation.probe.model.as_deref().unwrap_or("any model");
        return Err(InferenceFailure::new(
            format!("Ollama does not have {wanted}; {}", has()),
            "put the model on its volume: gantry models push BUNDLE_FILE… --to TARGET --layout ollama",
        ));
    };
    let says = if model.embeds {
        let answer = conversation
            .post_json("/api/embed", &json!({"model": model.name, "input": TEXT}))
            .await?;
        let dimensions = conversation.probe.expect.dimensions.map(u64::from);
        vector::judge_vector(answer.pointer("/embeddings/0"), dimensions)?
    } else {
        let question = json!({
            "model": model.name,
            "prompt": "Say hello.",
            "stream": false,
            "options": {"num_predict": 16, "temperature": 0},
        });
        let answer = conversation.post_json("/api/generate", &question).await?;
        // A reasoning model may use up its 16 tokens on thoughts and leave `response` empty.
        let text = ["response", "thinking"]
            .iter()
            .find_map(|key| answer.get(key)?.as_str().filter(|text| !text.is_empty()));
        let Some(text) = text else {
            return Err(InferenceFailure::new(
                "the answer has no text",
                "check the model's files with gantry models verify, and read Ollama's log",
            ));
        };
        let begin: String = text.trim().chars().take(40).collect();
        format!("answered {begin:?}")
    };
    let first = conversation.started.elapsed();
    Ok(ProtocolAnswer {
        model: Some(model.name.clone()),
        first,
        says: format!("{says}; {}", has()),
    })
}

/// A model that the server lists.
struct ListedModel {
    name: String,
    size: u64,
    /// Whether it is an embedding model, which cannot generate text.
    embeds: bool,
}

impl ListedModel {
    fn from_json(value: &Value) -> Option<Self> {
        let name = value.get("name")?.as_str()?.to_owned();
        // `/api/tags` does not say what a model can do; BERT is the architecture of embedding
        // models.
        let family = value.pointer("/details/family").and_then(Value::as_str).unwrap_or_default();
        let embeds = family.contains("bert") || name.contains("embed");
        let size = value.get("size").and_then(Value::as_u64).unwrap_or(u64::MAX);
        Some(Self { name, size, embeds })
    }
}

/// Whether two names mean the same model: `qwen2.5` is `qwen2.5:latest`, and the server leaves out
/// the default registry and namespace (`registry.ollama.ai/library/`).
fn is_same_model(listed: &str, wanted: &str) -> bool {
    let bare = |name: &str| {
        let name = name.strip_prefix("registry.ollama.ai/").unwrap_or(name);
        let name = name.strip_prefix("library/").unwrap_or(name).to_owned();
        let last = name.rsplit('/').next().unwrap_or(&name);
        if last.contains(':') { name } else { format!("{name}:latest") }
    };
    bare(listed) == bare(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_the_same_by_its_short_and_its_full_name() {
        assert!(is_same_model("qwen2.5:3b", "registry.ollama.ai/library/qwen2.5:3b"));
        assert!(is_same_model("nomic-embed-text:latest", "nomic-embed-text"));
        assert!(!is_same_model("qwen2.5:7b", "qwen2.5:3b"));
        assert!(is_same_model("me/model:latest", "me/model"));
    }
}
