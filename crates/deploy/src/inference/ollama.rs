//! Ollama: what it has (`/api/tags`), and one answer of a model that is there.

use serde_json::{Value, json};

use super::ask::{Conversation, Good, Outcome};
use super::{Failure, TEXT, vector};

pub(super) async fn generate(conversation: &mut Conversation<'_>) -> Outcome {
    let tags = conversation.get_json("/api/tags").await?;
    let models: Vec<Model> = tags
        .get("models")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Model::of)
        .collect();
    let missing: Vec<&String> = conversation
        .probe
        .likely
        .iter()
        .filter(|wanted| !models.iter().any(|model| is_same(&model.name, wanted)))
        .collect();
    let has = || match models.is_empty() {
        true => "it has none".to_owned(),
        false => {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            format!("it has {}", names.join(", "))
        }
    };
    if let Some(first) = missing.first() {
        return Err(Failure::new(
            format!("Ollama has no model {first}, which is locked; {}", has()),
            "put it on its volume: gantry models push VOLUME… --to TARGET --layout ollama; and look whether OLLAMA_MODELS is where the volume is mounted",
        ));
    }
    let model = match &conversation.probe.model {
        Some(wanted) => models.iter().find(|model| is_same(&model.name, wanted)),
        // The smallest one answers first.
        None => models.iter().min_by_key(|model| (model.embeds, model.size)),
    };
    let Some(model) = model else {
        let wanted = conversation.probe.model.as_deref().unwrap_or("any model");
        return Err(Failure::new(
            format!("Ollama does not have {wanted}; {}", has()),
            "put it on its volume: gantry models push VOLUME… --to TARGET --layout ollama",
        ));
    };
    let says = if model.embeds {
        let answer = conversation
            .post_json("/api/embed", &json!({"model": model.name, "input": TEXT}))
            .await?;
        let dimensions = conversation.probe.expect.dimensions.map(u64::from);
        vector::judge(answer.pointer("/embeddings/0"), dimensions)?
    } else {
        let question = json!({
            "model": model.name,
            "prompt": "Say hello.",
            "stream": false,
            "options": {"num_predict": 16, "temperature": 0},
        });
        let answer = conversation.post_json("/api/generate", &question).await?;
        let text = ["response", "thinking"]
            .iter()
            .find_map(|key| answer.get(key)?.as_str().filter(|text| !text.is_empty()));
        let Some(text) = text else {
            return Err(Failure::new(
                "the answer has no text",
                "is the model whole? look at Ollama's log",
            ));
        };
        let begin: String = text.trim().chars().take(40).collect();
        format!("answered {begin:?}")
    };
    let first = conversation.started.elapsed();
    Ok(Good { model: Some(model.name.clone()), first, says: format!("{says}; {}", has()) })
}

struct Model {
    name: String,
    size: u64,
    embeds: bool,
}

impl Model {
    fn of(value: &Value) -> Option<Self> {
        let name = value.get("name")?.as_str()?.to_owned();
        let family = value.pointer("/details/family").and_then(Value::as_str).unwrap_or_default();
        let embeds = family.contains("bert") || name.contains("embed");
        let size = value.get("size").and_then(Value::as_u64).unwrap_or(u64::MAX);
        Some(Self { name, size, embeds })
    }
}

/// `qwen2.5` is `qwen2.5:latest`; the default registry and namespace are not listed.
fn is_same(listed: &str, wanted: &str) -> bool {
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
        assert!(is_same("qwen2.5:3b", "registry.ollama.ai/library/qwen2.5:3b"));
        assert!(is_same("nomic-embed-text:latest", "nomic-embed-text"));
        assert!(!is_same("qwen2.5:7b", "qwen2.5:3b"));
        assert!(is_same("me/model:latest", "me/model"));
    }
}
