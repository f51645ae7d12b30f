//! Recognises model servers: which protocol a container speaks and on which port, by its image, its
//! command line and its environment. The rules are data: `rules/inference.yaml`, and `inference:`
//! in `gantry.yaml`.

use std::sync::OnceLock;

use cluster::objects::api::core::v1::{Container, PodSpec, Service};
use cluster::objects::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use types::input::checks::{CheckKind, ModelServerRule};

/// Rules that recognise model servers, tried in order.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InferenceRules {
    inference: Vec<ModelServerRule>,
}

/// A container that was recognised as a model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecognisedServer {
    /// The rule that recognised it.
    pub rule: String,
    /// The protocol that it speaks.
    pub kind: CheckKind,
    /// The container's name.
    pub container: String,
    /// The port that it listens on.
    pub port: u16,
    /// The model name that its arguments set, if any.
    pub model: Option<String>,
}

impl InferenceRules {
    /// The rules that are part of Gantry.
    pub fn builtin() -> &'static Self {
        static RULES: OnceLock<InferenceRules> = OnceLock::new();
        RULES.get_or_init(|| {
            let text = include_str!("../../../../rules/inference.yaml");
            // A test parses the same text, so the default is never used.
            types::yaml::read_document("rules/inference.yaml", text).unwrap_or_default()
        })
    }

    /// These rules with `own` in front of them. A rule of the same name is replaced.
    #[must_use]
    pub fn with_own_rules(&self, own: &[ModelServerRule]) -> Self {
        let others =
            self.inference.iter().filter(|rule| own.iter().all(|other| other.name != rule.name));
        Self { inference: own.iter().chain(others).cloned().collect() }
    }

    /// Recognises the model servers among the containers of a pod.
    pub fn recognise_pod(&self, pod: &PodSpec) -> Vec<RecognisedServer> {
        pod.containers.iter().filter_map(|container| self.recognise_container(container)).collect()
    }

    fn recognise_container(&self, container: &Container) -> Option<RecognisedServer> {
        let words = list_command_words(container);
        let rule = self.inference.iter().find(|rule| is_rule_match(rule, container, &words))?;
        Some(RecognisedServer {
            rule: rule.name.clone(),
            kind: rule.kind,
            container: container.name.clone(),
            port: find_port(rule, container, &words)?,
            model: find_argument(&words, &rule.model_args).map(str::to_owned),
        })
    }
}

/// Finds a Service that leads to `port` of a pod with these `labels`. Returns its name, and the
/// port of the Service.
pub fn find_service<'a>(
    services: &'a [Service],
    labels: &std::collections::BTreeMap<String, String>,
    pod: &PodSpec,
    port: u16,
) -> Option<(&'a str, u16)> {
    services.iter().find_map(|service| {
        let spec = service.spec.as_ref()?;
        let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
        if !selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            return None;
        }
        // Without a `targetPort` the Service uses its own port number (core/v1 ServicePort).
        let own = spec.ports.iter().flatten().find(|candidate| {
            let target = candidate.target_port.clone();
            let target = target.unwrap_or(IntOrString::Int(candidate.port));
            match target {
                IntOrString::Int(number) => number == i32::from(port),
                IntOrString::String(name) => {
                    let ports = pod.containers.iter().flat_map(|c| c.ports.iter().flatten());
                    ports
                        .filter(|p| p.name.as_deref() == Some(name.as_str()))
                        .any(|p| p.container_port == i32::from(port))
                }
            }
        })?;
        Some((service.metadata.name.as_deref()?, u16::try_from(own.port).ok()?))
    })
}

/// Splits command and args into words. An argument may be a whole script (`sh -c "exec vllm serve
/// …"`), so each one is split at white space.
fn list_command_words(container: &Container) -> Vec<String> {
    let texts = container.command.iter().chain(&container.args).flatten();
    texts.flat_map(|text| text.split_whitespace()).map(str::to_owned).collect()
}

/// Whether a container meets every condition that a rule has: image, words and environment.
fn is_rule_match(rule: &ModelServerRule, container: &Container, words: &[String]) -> bool {
    // A rule without conditions would match every container.
    if rule.images.is_empty() && rule.words.is_empty() && rule.env.is_empty() {
        return false;
    }
    let image = container.image.as_deref().unwrap_or_default();
    // Exactly, or with a value attached (`--embeddings=true`); never as a part of a longer word.
    let has_word = |wanted: &String| {
        words.iter().any(|word| {
            word == wanted
                || word.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('='))
        })
    };
    let has_variable =
        |wanted: &String| container.env.iter().flatten().any(|variable| variable.name == *wanted);
    (rule.images.is_empty() || rule.images.iter().any(|part| image.contains(part.as_str())))
        && (rule.words.is_empty() || rule.words.iter().any(has_word))
        && (rule.env.is_empty() || rule.env.iter().any(has_variable))
}

/// Finds the port of a server: the one in its arguments; else the usual port of the rule, if the
/// container declares it; else its port named `http` or `api`, or its first one; else the usual
/// port.
fn find_port(rule: &ModelServerRule, container: &Container, words: &[String]) -> Option<u16> {
    if let Some(told) = find_argument(words, &rule.port_args).and_then(|text| text.parse().ok()) {
        return Some(told);
    }
    let ports: Vec<_> = container.ports.iter().flatten().collect();
    let usual = |port: u16| ports.iter().any(|own| own.container_port == i32::from(port));
    if let Some(port) = rule.port.filter(|port| usual(*port)) {
        return Some(port);
    }
    let named = ports.iter().find(|port| matches!(port.name.as_deref(), Some("http" | "api")));
    let only = named.or_else(|| ports.first());
    only.and_then(|port| u16::try_from(port.container_port).ok()).or(rule.port)
}

/// Finds the value of an option, in the form `--port 80` or `--port=80`.
fn find_argument<'a>(words: &'a [String], names: &[String]) -> Option<&'a str> {
    words.iter().enumerate().find_map(|(index, word)| {
        names.iter().find_map(|name| match word.strip_prefix(name.as_str())? {
            "" => words.get(index + 1).map(String::as_str),
            rest => rest.strip_prefix('='),
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn recognise_first(container: Value) -> Option<(CheckKind, u16, Option<String>)> {
        let pod: PodSpec = serde_json::from_value(json!({"containers": [container]})).unwrap();
        InferenceRules::builtin()
            .recognise_pod(&pod)
            .into_iter()
            .next()
            .map(|s| (s.kind, s.port, s.model))
    }

    #[test]
    fn the_table_of_rules_is_read_and_each_rule_has_its_own_name() {
        let text = include_str!("../../../../rules/inference.yaml");
        let rules: InferenceRules =
            types::yaml::read_document("rules/inference.yaml", text).unwrap();
        let mut names: Vec<_> = rules.inference.iter().map(|rule| rule.name.clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), rules.inference.len());
        assert!(rules.inference.iter().all(|rule| rule.port.is_some()));
    }

    #[test]
    fn model_servers_are_recognised_with_their_ports_and_other_things_are_not() {
        for (container, expected) in [
            (
                json!({"name": "c", "image": "registry.internal/ai/ollama/ollama:0.6.2"}),
                Some((CheckKind::Ollama, 11434, None)),
            ),
            (
                json!({"name": "c", "image": "r/vllm/vllm-openai:v0.9", "args": ["--model", "/m", "--port=9000", "--served-model-name", "qwen"]}),
                Some((CheckKind::OpenaiChat, 9000, Some("qwen".into()))),
            ),
            (
                json!({"name": "c", "image": "r/vllm/vllm-openai:v0.9", "args": ["--task", "embed"], "ports": [{"containerPort": 8001}]}),
                Some((CheckKind::OpenaiEmbeddings, 8001, None)),
            ),
            (
                json!({"name": "c", "image": "r/own:1", "command": ["sh", "-c", "exec python3 -m llama_cpp.server --model /m --port 8080"]}),
                Some((CheckKind::OpenaiChat, 8080, None)),
            ),
            (
                json!({"name": "c", "image": "r/ggml-org/llama.cpp:server", "args": ["--embeddings"]}),
                Some((CheckKind::OpenaiEmbeddings, 8080, None)),
            ),
            (
                json!({"name": "c", "image": "r/huggingface/text-embeddings-inference:cpu-1.7", "ports": [{"name": "metrics", "containerPort": 9000}, {"name": "http", "containerPort": 8080}]}),
                Some((CheckKind::Tei, 8080, None)),
            ),
            (
                json!({"name": "c", "image": "r/superlinked/sie-server:v0.3.4-cpu-default"}),
                Some((CheckKind::SieEncode, 8080, None)),
            ),
            (
                json!({"name": "c", "image": "r/bitnami/postgresql:16", "ports": [{"containerPort": 5432}]}),
                None,
            ),
        ] {
            assert_eq!(recognise_first(container.clone()), expected, "{container}");
        }
    }

    #[test]
    fn a_service_is_found_by_its_selector_and_a_named_port() {
        let pod: PodSpec = serde_json::from_value(json!({"containers": [
            {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}
        ]}))
        .unwrap();
        let services: Vec<Service> = serde_json::from_value(json!([
            {"metadata": {"name": "other"}, "spec": {"selector": {"app": "b"}, "ports": [{"port": 8080}]}},
            {"metadata": {"name": "llm"}, "spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "http"}]}}
        ])).unwrap();
        let labels = [("app".to_owned(), "a".to_owned())].into();
        assert_eq!(find_service(&services, &labels, &pod, 8080), Some(("llm", 80)));
        assert_eq!(find_service(&services, &labels, &pod, 9090), None);
    }
}
