//! Finds containers that lack an environment variable which keeps their program from connecting to
//! the internet, such as `HF_HUB_DISABLE_TELEMETRY`.

use std::collections::BTreeMap;

use serde_json::Value;
use types::input::rules::PhoneHomeVariable;

use super::finding::PhoneHomeFinding;
use crate::find::{Confidence, ManifestLocation};
use crate::inspect::Inspection;
use crate::manifest::{ManifestDocument, Manifests};

/// Finds the containers of known images that lack a variable. ConfigMaps and Secrets of the same
/// render that they take variables from are considered.
pub(super) fn find_missing_variables(
    variables: &[PhoneHomeVariable],
    inspection: &Inspection,
    findings: &mut Vec<PhoneHomeFinding>,
) {
    let manifests = &inspection.manifests;
    let mut lacking: BTreeMap<(usize, String), Vec<ManifestLocation>> = BTreeMap::new();
    for found in &inspection.findings.images {
        if found.confidence != Confidence::Certain || found.place.path.last_key() != Some("image") {
            continue;
        }
        // Patterns of rules may match the tag as well, to leave out versions of a program.
        let name =
            format!("{}:{}", found.reference.name(), found.reference.tag().unwrap_or_default());
        let names = |parts: &[String]| parts.iter().any(|part| name.contains(part.as_str()));
        let mut meant = variables
            .iter()
            .enumerate()
            .filter(|(_, variable)| names(&variable.images) && !names(&variable.except))
            .peekable();
        let document = manifests.documents.get(found.place.document);
        let (Some(_), Some(document)) = (meant.peek(), document) else { continue };
        let path = found.place.path.parent();
        let Some(container) = path.find_value(&document.value) else { continue };
        if is_idle_container(container) {
            continue;
        }
        let set = self::read_container_variables(container, manifests);
        for (index, variable) in meant {
            let keeps = |(name, value): (&String, &Option<String>)| match value {
                // A reference to a Secret or field: its value is unknown, but somebody set it on
                // purpose.
                None => *name == variable.name,
                Some(value) if *name == variable.name => keeps_inside(variable, value),
                Some(_) => variable.instead.contains(name),
            };
            // A value of the chart sets the variable, and is reported instead.
            let is_value = set.contains_key(&variable.name)
                && findings.iter().any(|finding| match finding {
                    PhoneHomeFinding::Value { path, .. } => path.last_key() == Some(&variable.name),
                    _ => false,
                });
            if !is_value && !set.iter().any(keeps) {
                let places = lacking.entry((index, found.reference.name())).or_default();
                places.push(ManifestLocation { path: path.clone(), ..found.place.clone() });
            }
        }
    }
    findings.extend(lacking.into_iter().map(|((index, image), places)| {
        PhoneHomeFinding::Environment {
            name: variables[index].name.clone(),
            off: variables[index].off.clone(),
            image,
            places,
            why: variables[index].why.clone(),
        }
    }));
}

/// Whether a container does nothing but pull its image or wait: its command is a script of `exit`,
/// `true`, `echo` and `sleep`. Charts pull large images in advance that way.
pub(crate) fn is_idle_container(container: &Value) -> bool {
    const IDLE: &[&str] =
        &["/bin/bash", "/bin/sh", "bash", "echo", "exit", "sh", "sleep", "true", ":"];
    let Some(command) = container.get("command").and_then(Value::as_array) else { return false };
    let args = container.get("args").and_then(Value::as_array);
    let words = command.iter().chain(args.into_iter().flatten()).filter_map(Value::as_str);
    let mut commands = words.flat_map(|text| text.split(['\n', ';', '&', '|']));
    commands.all(|command| {
        let first = command.split_whitespace().next().unwrap_or_default();
        let is_plain = first.starts_with('-') || first.is_empty();
        is_plain || IDLE.contains(&first) || first.parse::<u32>().is_ok() || first == "infinity"
    })
}

/// Whether a value of the variable prevents the connection.
pub(super) fn keeps_inside(variable: &PhoneHomeVariable, value: &str) -> bool {
    has_same_meaning(value, &variable.off)
}

/// Whether two values of a variable mean the same: `1`, `true`, `yes` and `on` do, and so do `0`,
/// `false`, `no` and `off`.
pub(crate) fn has_same_meaning(one: &str, other: &str) -> bool {
    let said = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    };
    // `s3://bucket/weights/` is the same folder without the slash at its end.
    let bare = |text: &str| match text.trim() {
        text if text.contains('/') => text.trim_end_matches('/').to_owned(),
        text => text.to_owned(),
    };
    bare(one).eq_ignore_ascii_case(&bare(other)) || said(one).is_some() && said(one) == said(other)
}

/// The environment variables of a container, from `env` and from `envFrom` as far as the ConfigMap
/// or Secret is in the render. A value is `None` if only the cluster knows it.
pub(crate) fn read_container_variables(
    container: &Value,
    manifests: &Manifests,
) -> BTreeMap<String, Option<String>> {
    let mut set = BTreeMap::new();
    let list = |key: &str| container.get(key).and_then(Value::as_array).into_iter().flatten();
    for source in list("envFrom") {
        let prefix = source.get("prefix").and_then(Value::as_str).unwrap_or_default();
        for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
            let name = source.get(field).and_then(|r| r.get("name")).and_then(Value::as_str);
            let of_it = |d: &&ManifestDocument| d.kind() == kind && Some(d.name()) == name;
            let documents = manifests.documents.iter().filter(of_it);
            for (data, is_plain) in documents.flat_map(|d| {
                [(d.value.get("data"), kind != "Secret"), (d.value.get("stringData"), true)]
            }) {
                for (key, value) in data.and_then(Value::as_object).into_iter().flatten() {
                    let value = value.as_str().filter(|_| is_plain).map(str::to_owned);
                    set.insert(format!("{prefix}{key}"), value);
                }
            }
        }
    }
    // After envFrom, since in Kubernetes `env` wins over it.
    for variable in list("env") {
        if let Some(name) = variable.get("name").and_then(Value::as_str) {
            let value = variable.get("value").and_then(Value::as_str).map(str::to_owned);
            set.insert(name.to_owned(), value);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::has_same_meaning;

    #[test]
    fn switches_and_folders_mean_the_same_however_they_are_written() {
        for (one, other) in [("1", "true"), ("s3://b/weights/", "s3://b/weights"), ("/a/", "/a")] {
            assert!(has_same_meaning(one, other), "{one} {other}");
        }
        for (one, other) in [("0", "true"), ("s3://b/weights", "s3://b/other"), ("a", "a/b")] {
            assert!(!has_same_meaning(one, other), "{one} {other}");
        }
    }
}
