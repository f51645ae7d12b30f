//! What a model is called: everything by which a user may name it, as gantry.yaml does or otherwise.

use remote::ollama::OllamaName;
use types::carried_file::CarriedFile;
use types::lock::LockedModel;
use types::snapshot::Snapshot;
use types::{Manifest, Reference, Root, RootKind};

/// A model (or a file) as it is called in a source or a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    reference: Reference,
    own: OwnModelName,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum OwnModelName {
    Hub { id: String, commit: String, revision: Option<String> },
    Ollama,
    File { title: String },
}

impl ModelName {
    /// The name of a model or file of a source; `None` for other roots.
    pub fn from_root(root: &Root, manifest: &Manifest) -> Option<Self> {
        let own = match root.kind {
            RootKind::Model => {
                let snapshot = Snapshot::from_root(root, manifest)?;
                let commit = snapshot.commit.to_string();
                OwnModelName::Hub { id: snapshot.id, commit, revision: snapshot.revision }
            }
            RootKind::Ollama => OwnModelName::Ollama,
            RootKind::File => {
                OwnModelName::File { title: CarriedFile::from_root(root, manifest)?.title }
            }
            RootKind::Image | RootKind::Chart | RootKind::Manifests | RootKind::Attached => {
                return None;
            }
        };
        Some(Self { reference: root.name.clone(), own })
    }

    /// The name of a locked model.
    pub fn from_lock(model: &LockedModel) -> Self {
        let own = match model {
            LockedModel::Hub(model) => OwnModelName::Hub {
                id: model.hf.to_string(),
                commit: model.commit.to_string(),
                revision: Some(model.revision.clone()),
            },
            LockedModel::Ollama(_) => OwnModelName::Ollama,
            LockedModel::Url(model) => OwnModelName::File { title: model.title.clone() },
        };
        Self { reference: model.reference().clone(), own }
    }

    /// The short name, for messages: `BAAI/bge-m3`, an Ollama model's reference, a file's name.
    pub fn short_name(&self) -> String {
        match &self.own {
            OwnModelName::Hub { id, .. } => id.clone(),
            OwnModelName::Ollama => self.reference.to_string(),
            OwnModelName::File { title } => title.clone(),
        }
    }

    /// Whether a user who writes `text` means this model. Accepted are, in any case of letters:
    ///
    /// | model | written as |
    /// |---|---|
    /// | any | its full reference |
    /// | Hugging Face | `BAAI/bge-m3`, `BAAI/bge-m3@main`, `BAAI/bge-m3@<commit>`, with `hf:` or the Hub's address in front |
    /// | Ollama | as `ollama pull` takes it, with or without `ollama:` |
    /// | URL, file | the URL or path in gantry.yaml, with or without `url:`, or the file's name |
    pub fn is_called(&self, text: &str) -> bool {
        let text = text.trim();
        if text.eq_ignore_ascii_case(&self.reference.to_string()) {
            return true;
        }
        match &self.own {
            OwnModelName::Hub { id, commit, revision } => {
                let text = strip_any_prefix(text, &HUB_PREFIXES);
                let (asked, at) = match text.split_once('@') {
                    Some((asked, at)) => (asked, Some(at)),
                    None => (text, None),
                };
                asked.trim_end_matches('/').eq_ignore_ascii_case(id)
                    && at.is_none_or(|at| {
                        at.eq_ignore_ascii_case(commit) || Some(at) == revision.as_deref()
                    })
            }
            OwnModelName::Ollama => {
                let text = strip_any_prefix(text, &["ollama:"]);
                let asked = text.parse::<OllamaName>().and_then(|name| name.reference());
                asked.is_ok_and(|asked| {
                    asked.to_string().eq_ignore_ascii_case(&self.reference.to_string())
                })
            }
            OwnModelName::File { title } => {
                let text = strip_any_prefix(text, &["url:", "file:"]);
                // Of a URL and of a path, the name of the file is the last segment.
                let is_url = text.contains("://");
                let end =
                    if is_url { text.find(['?', '#']).unwrap_or(text.len()) } else { text.len() };
                let last = text[..end].rsplit('/').next().unwrap_or_default();
                last.eq_ignore_ascii_case(title)
                    || is_url && remote::http::decode_file_name(last).eq_ignore_ascii_case(title)
            }
        }
    }
}

/// What may stand in front of the id of a model of the Hub.
const HUB_PREFIXES: [&str; 5] =
    ["hf:", "https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"];

/// The text without the first of these prefixes that it has, in any case of letters, and without the
/// space that YAML has behind a key.
fn strip_any_prefix<'a>(text: &'a str, prefixes: &[&str]) -> &'a str {
    let has = |prefix: &&&str| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let found = prefixes.iter().find(has);
    found.map_or(text, |prefix| text[prefix.len()..].trim_start())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(reference: &str, own: OwnModelName) -> ModelName {
        ModelName { reference: reference.parse().unwrap(), own }
    }

    #[test]
    fn a_model_of_the_hub_is_named_as_in_the_input_and_as_the_hub_shows_it() {
        let commit = "ab".repeat(20);
        let model = name(
            &format!("huggingface.co/baai/bge-m3:{commit}"),
            OwnModelName::Hub {
                id: "BAAI/bge-m3".into(),
                commit: commit.clone(),
                revision: Some("main".into()),
            },
        );
        for text in [
            "BAAI/bge-m3",
            "baai/BGE-M3",
            "hf:BAAI/bge-m3",
            "hf: BAAI/bge-m3",
            "HF:baai/bge-m3",
            "https://huggingface.co/BAAI/bge-m3",
            "hf.co/BAAI/bge-m3/",
            "BAAI/bge-m3@main",
            &format!("BAAI/bge-m3@{commit}"),
            &format!("huggingface.co/baai/bge-m3:{commit}"),
        ] {
            assert!(model.is_called(text), "{text}");
        }
        for text in ["bge-m3", "BAAI/bge-m3@v2", "ollama:BAAI/bge-m3", "BAAI/bge", "hf:", ""] {
            assert!(!model.is_called(text), "{text}");
        }
    }

    #[test]
    fn an_ollama_model_is_named_as_ollama_pull_takes_it() {
        let model = name("registry.ollama.ai/library/qwen2.5:3b", OwnModelName::Ollama);
        for text in [
            "qwen2.5:3b",
            "Qwen2.5:3B",
            "ollama:qwen2.5:3b",
            "library/qwen2.5:3b",
            "registry.ollama.ai/library/qwen2.5:3b",
        ] {
            assert!(model.is_called(text), "{text}");
        }
        for text in ["qwen2.5", "qwen2.5:7b", "me/qwen2.5:3b", "hf:qwen2.5:3b"] {
            assert!(!model.is_called(text), "{text}");
        }
        let latest = name("registry.ollama.ai/library/nomic:latest", OwnModelName::Ollama);
        assert!(latest.is_called("nomic") && latest.is_called("nomic:latest"));
    }

    #[test]
    fn a_file_is_named_by_its_url_its_path_or_itself() {
        let title = "Qwen (Q4).gguf".to_owned();
        let model = name("files.gantry/qwen-q4-gguf:0123456789ab", OwnModelName::File { title });
        for text in [
            "Qwen (Q4).gguf",
            "qwen (q4).GGUF",
            "docs/Qwen (Q4).gguf",
            "https://x.site/a/Qwen%20(Q4).gguf?sig=1",
            "url: https://x.site/a/Qwen%20(Q4).gguf",
            "files.gantry/qwen-q4-gguf:0123456789ab",
        ] {
            assert!(model.is_called(text), "{text}");
        }
        for text in ["Qwen", "https://x.site/Qwen (Q4).gguf/other", ""] {
            assert!(!model.is_called(text), "{text}");
        }
    }
}
