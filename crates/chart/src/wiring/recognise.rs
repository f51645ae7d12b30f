//! Decides whether a container is one that a rule describes: by its name, its image, the command
//! that it runs, its arguments, or its environment variables, in this order.

use std::collections::BTreeMap;

use serde_json::Value;
use types::Reference;
use types::input::wiring::ContainerCriteria;

use super::pods::{list_field, text_field};

/// The environment variables of a container, as [`crate::phone_home`] reads them. The value is
/// `None` if only the cluster knows it (`valueFrom`).
pub(super) type ContainerVariables = BTreeMap<String, Option<String>>;

/// Why a rule describes a container, for the report: "it runs vllm serve". `None` if it does not.
pub(super) fn match_rule(
    known: &ContainerCriteria,
    container: &Value,
    variables: &ContainerVariables,
) -> Option<String> {
    let name = text_field(container, "name");
    if known.containers.iter().any(|own| own == name) {
        return Some(format!("its name is {name}"));
    }
    let image = image_text(container);
    let has = |parts: &[String]| parts.iter().any(|part| image.contains(part.as_str()));
    // The exceptions (an exporter for vllm) also rule out commands, arguments and variables below;
    // only a container that is named outright is above them.
    if has(&known.except) {
        return None;
    }
    if has(&known.images) {
        return Some(format!("its image is {image}"));
    }
    let words = command_words(container);
    // In one line, so that a rule's command may have several words.
    let line = format!(" {} ", words.join(" "));
    if let Some(command) = known.commands.iter().find(|command| runs_command(&line, command)) {
        return Some(format!("it runs {command}"));
    }
    if let Some((flag, model)) = find_model_argument(known, &words) {
        return Some(format!("its argument {flag} is {model}"));
    }
    let own = variables.keys().find(|name| {
        known.environment.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => *name == wanted,
        })
    })?;
    Some(format!("it has the variable {own}"))
}

/// The image of a container as `name:tag`, as the rules of [`crate::phone_home`] see it.
fn image_text(container: &Value) -> String {
    let image = text_field(container, "image");
    match image.parse::<Reference>() {
        Ok(reference) => {
            format!("{}:{}", reference.name(), reference.tag().unwrap_or_default())
        }
        Err(_) => image.to_owned(),
    }
}

/// The words of a container's command and arguments; programs without their folder, so that
/// `/opt/venv/bin/vllm` is `vllm`.
fn command_words(container: &Value) -> Vec<&str> {
    let all = ["command", "args"].into_iter().flat_map(|key| list_field(container, key));
    let words = all.filter_map(Value::as_str).flat_map(str::split_whitespace);
    words
        .map(|word| match word.strip_prefix('/') {
            Some(path) if !path.ends_with('/') => path.rsplit('/').next().unwrap_or(path),
            _ => word,
        })
        .collect()
}

/// Whether a line of words runs a command: the command starts a word and is not the start of a
/// longer one. The line may be a shell script.
fn runs_command(line: &str, command: &str) -> bool {
    line.match_indices(command).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let behind = line[start + command.len()..].chars().next();
        before.is_none_or(|c| " ;&|('\"".contains(c))
            && behind.is_none_or(|c| !c.is_ascii_alphanumeric() && !"-_".contains(c))
    })
}

/// The flag of a rule that the words have, and the model's id after it.
fn find_model_argument<'a>(
    known: &'a ContainerCriteria,
    words: &[&'a str],
) -> Option<(&'a str, &'a str)> {
    known.arguments.iter().find_map(|flag| {
        words.iter().enumerate().find_map(|(index, word)| {
            let value = match word.strip_prefix(flag.as_str())? {
                // `--model org/name` and `--model=org/name`.
                "" => *words.get(index + 1)?,
                rest => rest.strip_prefix('=')?,
            };
            is_model_id(value).then_some((flag.as_str(), value))
        })
    })
}

/// Whether a text is a model's id on the Hugging Face Hub (`org/name`), with an optional
/// `:quantization`, and not the path of a file.
fn is_model_id(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    matches!(text.split_once('/'), Some((org, name)) if is_name(org) && is_name(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known_by(key: &str, value: &str) -> ContainerCriteria {
        let list = vec![value.to_owned()];
        match key {
            "commands" => ContainerCriteria { commands: list, ..ContainerCriteria::default() },
            "arguments" => ContainerCriteria { arguments: list, ..ContainerCriteria::default() },
            "environment" => {
                ContainerCriteria { environment: list, ..ContainerCriteria::default() }
            }
            "containers" => ContainerCriteria { containers: list, ..ContainerCriteria::default() },
            _ => ContainerCriteria {
                images: list,
                except: vec!["exporter".into()],
                ..ContainerCriteria::default()
            },
        }
    }

    #[test]
    fn a_container_is_known_by_what_it_is_and_what_it_runs() {
        let container = json!({
            "name": "own", "image": "registry.internal:5000/ai/vllm-openai:v1",
            "command": ["/opt/venv/bin/vllm", "serve"],
            "args": ["--model-id", "org/name", "--hf-repo=a/b:Q4", "--model", "/models/a"],
        });
        let variables: ContainerVariables = [("OLLAMA_HOST".to_owned(), None)].into();
        for (key, value, expected) in [
            ("images", "vllm-openai", true),
            ("images", "/vllm:", false),
            ("commands", "vllm serve", true),
            ("commands", "lm serve", false),
            ("commands", "vllm ser", false),
            ("arguments", "--model-id", true),
            ("arguments", "--hf-repo", true),
            ("arguments", "--model", false),
            ("environment", "OLLAMA_*", true),
            ("environment", "OLLAMA", false),
            ("containers", "own", true),
        ] {
            let met = match_rule(&known_by(key, value), &container, &variables);
            assert_eq!(met.is_some(), expected, "{key} {value}");
        }
        let other = json!({"image": "vllm-openai-exporter:1"});
        assert_eq!(
            match_rule(&known_by("images", "vllm"), &other, &ContainerVariables::new()),
            None
        );
    }
}
