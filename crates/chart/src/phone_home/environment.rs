//! Variables that keep programs inside, and the containers that lack them.

use std::collections::BTreeMap;

use serde_json::Value;
use types::input::rules::Variable;

use super::Finding;
use crate::find::{Confidence, Place};
use crate::inspect::Inspection;
use crate::manifest::Manifests;

/// Finds the containers of known images that lack a variable, also in what they take from
/// ConfigMaps and Secrets of the render.
pub(super) fn find(variables: &[Variable], inspection: &Inspection, findings: &mut Vec<Finding>) {
    let manifests = &inspection.manifests;
    for found in &inspection.findings.images {
        if found.confidence != Confidence::Certain || found.place.path.last_key() != Some("image") {
            continue;
        }
        let name = format!("{}:", found.reference.name());
        let mut meant = variables
            .iter()
            .filter(|variable| variable.images.iter().any(|image| name.contains(image.as_str())))
            .peekable();
        let document = manifests.documents.get(found.place.document);
        let (Some(_), Some(document)) = (meant.peek(), document) else { continue };
        let container = found.place.path.parent();
        let set = set_in(container.find(&document.value), manifests);
        for variable in meant {
            let keeps = |(name, value): (&String, &Option<String>)| match value {
                // A reference to a Secret or field: a person has thought of it.
                None => *name == variable.name,
                Some(value) if *name == variable.name => keeps_inside(variable, value),
                Some(_) => variable.instead.contains(name),
            };
            if !set.iter().any(keeps) {
                findings.push(Finding::Environment {
                    name: variable.name.clone(),
                    off: variable.off.clone(),
                    place: Place { path: container.clone(), ..found.place.clone() },
                    why: variable.why.clone(),
                });
            }
        }
    }
}

/// Whether a value means the same as the one that keeps the program inside: `1`, `true` and `yes`
/// are one, and so are `0`, `false`, `no` and `off`.
pub(super) fn keeps_inside(variable: &Variable, value: &str) -> bool {
    let said = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    };
    value.trim().eq_ignore_ascii_case(&variable.off)
        || said(value).is_some() && said(value) == said(&variable.off)
}

/// The variables of a container; `None` for a value that only the cluster knows.
fn set_in(container: Option<&Value>, manifests: &Manifests) -> BTreeMap<String, Option<String>> {
    let mut set = BTreeMap::new();
    let list = |key: &str| {
        container.and_then(|c| c.get(key)).and_then(Value::as_array).into_iter().flatten()
    };
    for source in list("envFrom") {
        let prefix = source.get("prefix").and_then(Value::as_str).unwrap_or_default();
        for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
            let name = source.get(field).and_then(|r| r.get("name")).and_then(Value::as_str);
            let of_it = |d: &&crate::manifest::Document| d.kind() == kind && Some(d.name()) == name;
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
    for variable in list("env") {
        if let Some(name) = variable.get("name").and_then(Value::as_str) {
            let value = variable.get("value").and_then(Value::as_str).map(str::to_owned);
            set.insert(name.to_owned(), value);
        }
    }
    set
}
