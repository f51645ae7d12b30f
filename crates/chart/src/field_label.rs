//! Names a field of a Kubernetes object as its author would: the variable `HF_ENDPOINT` of the
//! container `vllm`, not `spec.template.spec.containers[0].env[0].value`.

use std::fmt;

use serde_json::Value;

use crate::path::{DocumentPath, PathStep};

/// A field of an object, by names instead of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldLabel {
    /// The container that it belongs to.
    pub container: Option<String>,
    /// The field: `variable HF_ENDPOINT`, `image`, `key app.yaml`; empty for a container or an object as
    /// a whole.
    pub name: String,
}

impl FieldLabel {
    /// Names the field at `path` of an object.
    pub fn of_field(object: &Value, path: &DocumentPath) -> Self {
        let steps = path.steps();
        match find_container(steps) {
            Some(end) => {
                let container = resolve_steps(object, &steps[..end]);
                let name = container.and_then(|container| container.get("name")?.as_str());
                let number = || format!("{}", DocumentPath::default().then(steps[end - 1].clone()));
                Self {
                    container: Some(name.map_or_else(number, str::to_owned)),
                    name: name_in_container(container, &steps[end..]),
                }
            }
            None => Self { container: None, name: name_in_object(path) },
        }
    }
}

impl fmt::Display for FieldLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.container, self.name.as_str()) {
            (Some(container), "") => write!(f, "container {container}"),
            (Some(container), name) => write!(f, "container {container}: {name}"),
            (None, name) => f.write_str(name),
        }
    }
}

/// Where the step into the last container on a path ends.
fn find_container(steps: &[PathStep]) -> Option<usize> {
    let is_container = |pair: &[PathStep]| match pair {
        [PathStep::Key(key), PathStep::Index(_)] => {
            matches!(key.as_str(), "containers" | "initContainers" | "ephemeralContainers")
        }
        _ => false,
    };
    steps.windows(2).rposition(is_container).map(|at| at + 2)
}

/// The value below an object; `None` where a text would have to be decoded.
fn resolve_steps<'a>(object: &'a Value, steps: &[PathStep]) -> Option<&'a Value> {
    steps.iter().try_fold(object, |value, step| match step {
        PathStep::Key(key) => value.get(key),
        PathStep::Index(index) => value.get(index),
        PathStep::Inside(_) => None,
    })
}

fn name_in_container(container: Option<&Value>, steps: &[PathStep]) -> String {
    match steps {
        [PathStep::Key(list), item @ PathStep::Index(index), ..] if list == "env" => {
            let variable = container.and_then(|container| container.get("env")?.get(index));
            match variable.and_then(|variable| variable.get("name")?.as_str()) {
                Some(name) => format!("variable {name}"),
                None => format!("variable {}", DocumentPath::default().then(item.clone())),
            }
        }
        [PathStep::Key(list), PathStep::Index(index), ..]
            if list == "args" || list == "command" =>
        {
            let text = container.and_then(|container| container.get(list)?.get(index)?.as_str());
            let flag = text.filter(|text| text.starts_with('-'));
            match flag.and_then(|text| text.split('=').next()) {
                Some(flag) => format!("argument {flag}"),
                None if list == "args" => format!("argument {}", index + 1),
                None => format!("word {} of the command", index + 1),
            }
        }
        rest => format_steps(rest),
    }
}

fn name_in_object(path: &DocumentPath) -> String {
    match path.steps() {
        [PathStep::Key(data), PathStep::Key(key), rest @ ..]
            if matches!(data.as_str(), "data" | "stringData" | "binaryData") =>
        {
            let inner = DocumentPath::default();
            let inner = rest.iter().fold(inner, |path, step| path.then(step.clone()));
            match inner.last_key() {
                Some(inner) => format!("{inner} in {key}"),
                None => format!("key {key}"),
            }
        }
        [PathStep::Key(metadata), PathStep::Key(list), PathStep::Key(key), ..]
            if metadata == "metadata" && list == "annotations" =>
        {
            format!("annotation {key}")
        }
        _ => path.to_string(),
    }
}

fn format_steps(steps: &[PathStep]) -> String {
    let path = steps.iter().fold(DocumentPath::default(), |path, step| path.then(step.clone()));
    path.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::path::TextEncoding;

    #[test]
    fn a_field_is_named_by_its_container_and_variable() {
        let pod = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "web"},
            {"name": "vllm", "env": [{"name": "HF_ENDPOINT", "value": "x"}], "args": ["serve", "--hub=https://x"]},
        ], "initContainers": [{}]}}}});
        let spec = DocumentPath::default().key("spec").key("template").key("spec");
        let vllm = spec.key("containers").index(1);
        for (path, label) in [
            (vllm.clone(), "container vllm"),
            (vllm.key("image"), "container vllm: image"),
            (vllm.key("env").index(0).key("value"), "container vllm: variable HF_ENDPOINT"),
            (vllm.key("env").index(7).key("value"), "container vllm: variable [7]"),
            (vllm.key("args").index(0), "container vllm: argument 1"),
            (vllm.key("args").index(1), "container vllm: argument --hub"),
            (vllm.key("command").index(0), "container vllm: word 1 of the command"),
            (vllm.key("livenessProbe").key("host"), "container vllm: livenessProbe.host"),
            (spec.key("initContainers").index(0).key("image"), "container [0]: image"),
            (spec.key("hostAliases"), "spec.template.spec.hostAliases"),
        ] {
            assert_eq!(FieldLabel::of_field(&pod, &path).to_string(), label);
        }
    }

    #[test]
    fn keys_of_a_config_map_and_annotations_are_named() {
        let data = DocumentPath::default().key("data").key("app.yaml");
        let inner = data.inside(TextEncoding::Yaml).key("hub").key("url");
        let annotation = DocumentPath::default().key("metadata").key("annotations").key("a/b");
        for (path, label) in
            [(data, "key app.yaml"), (inner, "url in app.yaml"), (annotation, "annotation a/b")]
        {
            assert_eq!(FieldLabel::of_field(&Value::Null, &path).to_string(), label);
        }
    }
}
