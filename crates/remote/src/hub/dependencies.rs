//! Other models that a model needs although nobody named them: the repository with its code, the base
//! model of an adapter. A runtime that is offline fails for them.

use serde_json::Value;
use types::ModelId;
use types::lock::{Blob, LockedModelFile};

/// The files that may name other models: configurations of transformers, diffusers,
/// sentence-transformers and PEFT.
const CONFIGURATIONS: [&str; 8] = [
    "adapter_config.json",
    "config.json",
    "image_processor_config.json",
    "model_index.json",
    "modules.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
];
/// Limit for such a file. Tokenizer configurations with many added tokens reach some 100 KB.
pub const MAX_CONFIGURATION: u64 = 4 << 20;

/// A model that another one needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelDependency {
    /// Its id.
    pub id: ModelId,
    /// Its branch, tag or commit; `main` where none is named.
    pub revision: String,
    /// The file that names it, and what for.
    pub reason: String,
}

/// The files of a model that may name other models.
pub fn list_configurations(files: &[LockedModelFile]) -> Vec<(&str, Blob)> {
    files
        .iter()
        .filter(|file| file.size <= MAX_CONFIGURATION)
        .filter(|file| {
            let name = file.path.rsplit('/').next().unwrap_or(&file.path);
            CONFIGURATIONS.contains(&name)
        })
        .map(|file| (file.path.as_str(), Blob { digest: file.digest, size: file.size }))
        .collect()
}

/// The models that a configuration file of the model `own` names. A file that is not JSON names none:
/// what reads it will say so.
pub fn find_dependencies(own: &ModelId, path: &str, bytes: &[u8]) -> Vec<ModelDependency> {
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else { return Vec::new() };
    let mut found = Vec::new();
    let mut add = |text: &str, revision: Option<&str>, what: &str| {
        // A path of the machine on which an adapter was trained is no id, and a plain name without an
        // owner could be either.
        if !text.contains('/') {
            return;
        }
        if let Ok(id) = text.parse::<ModelId>()
            && id != *own
        {
            let revision = revision.unwrap_or("main").to_owned();
            found.push(ModelDependency { id, revision, reason: format!("{what} in {path}") });
        }
    };
    // PEFT, `PeftConfig`: the model that an adapter was trained on.
    if let Some(base) = document["base_model_name_or_path"].as_str() {
        add(base, document["revision"].as_str().filter(|text| !text.is_empty()), "base model");
    }
    // transformers, `auto_map`: `org/repository--module.Class` is code of another repository.
    let mut classes = Vec::new();
    collect_texts(&document["auto_map"], &mut classes);
    // sentence-transformers, modules.json: a list whose `type` may be such a class.
    for module in document.as_array().into_iter().flatten() {
        collect_texts(&module["type"], &mut classes);
    }
    for class in classes {
        if let Some((repository, _)) = class.split_once("--") {
            add(repository, None, "code");
        }
    }
    found.sort();
    found.dedup();
    found
}

fn collect_texts<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect_texts(value, texts)),
        Value::Object(values) => values.values().for_each(|value| collect_texts(value, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn code_and_base_models_of_other_repositories_are_found() {
        for (path, text, expected) in [
            (
                "config.json",
                r#"{"auto_map":{"AutoConfig":"Org/code--c.C","AutoModel":"Org/code--m.M"}}"#,
                &[("Org/code", "main")][..],
            ),
            (
                "tokenizer_config.json",
                r#"{"auto_map":{"AutoTokenizer":["Org/tok--t.T",null]}}"#,
                &[("Org/tok", "main")],
            ),
            ("1_Custom/config.json", r#"{"auto_map":{"AutoModel":"own_module.M"}}"#, &[]),
            ("config.json", r#"{"auto_map":{"AutoModel":"Org/own--m.M"}}"#, &[]),
            (
                "modules.json",
                r#"[{"type":"Org/st--custom.T"},{"type":"a.b.Pooling"}]"#,
                &[("Org/st", "main")],
            ),
            (
                "adapter_config.json",
                r#"{"base_model_name_or_path":"Org/base-7b","revision":"v2"}"#,
                &[("Org/base-7b", "v2")],
            ),
            (
                "adapter_config.json",
                r#"{"base_model_name_or_path":"/home/me/base","revision":null}"#,
                &[],
            ),
            ("adapter_config.json", r#"{"base_model_name_or_path":"./base"}"#, &[]),
            ("adapter_config.json", r#"{"base_model_name_or_path":"Org/own"}"#, &[]),
            ("config.json", "not JSON", &[]),
        ] {
            let found = find_dependencies(&"Org/own".parse().unwrap(), path, text.as_bytes());
            let found: Vec<_> =
                found.iter().map(|one| (one.id.as_str(), one.revision.as_str())).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
