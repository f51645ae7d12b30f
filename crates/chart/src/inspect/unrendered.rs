//! Finds images in the values of a chart that are in no rendered manifest: what else the chart can
//! run, and which values would enable it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::condition::{self, ConditionTruth};
use super::inspection::is_inherited_global;
use super::uses::ValueUses;
use crate::chart::HelmChart;
use crate::find::names;
use crate::find::{self, Confidence, FoundImage, ImageScan, LocationKind, PartRole};
use crate::manifest::ManifestDocument;
use crate::path::{DocumentPath, PathStep};

/// The images in a chart's values, and how the templates use them. Computed without a render.
pub(super) struct UnrenderedImages {
    found: Vec<FoundImage>,
    uses: ValueUses,
}

impl UnrenderedImages {
    /// Finds the images in the values and the places in the templates that use them.
    pub(super) fn new(chart: &HelmChart, effective: &Value) -> Self {
        // Most templates use the chart's appVersion where `tag` is empty; with it filled in, such
        // images are found as repository and tag.
        let mut values = effective.clone();
        chart.visit_charts(&DocumentPath::default(), &mut |chart, scope| {
            let Some(version) = read_app_version(chart) else { return };
            if let Some(own) = scope.find_value_mut(&mut values) {
                let dependencies: Vec<&str> =
                    chart.dependencies.iter().map(|dependency| dependency.key.as_str()).collect();
                fill_tags(own, &version, &dependencies);
            }
        });
        let name = chart.name().to_owned();
        let metadata = serde_json::json!({"kind": "values", "metadata": {"name": name}});
        let template = Some(format!("{name}/values.yaml"));
        let document = ManifestDocument { template, text: String::new(), value: metadata };
        let mut found = find::find_images_in_values(&document, &values);
        found.retain(|found| !is_inherited_global(&found.place.path));
        let paths: Vec<DocumentPath> = found.iter().flat_map(list_used_paths).collect();
        Self { uses: ValueUses::read(chart, &paths), found }
    }

    /// Adds the images that were not rendered. `seen` are the values that came out in a render.
    pub(super) fn add_to_scan(
        self,
        chart: &HelmChart,
        effective: &Value,
        seen: &BTreeSet<&DocumentPath>,
        findings: &mut ImageScan,
    ) {
        let Self { found, uses } = self;
        // Several values may name the same image; it is reported once.
        let mut reported: BTreeSet<String> =
            findings.images.iter().map(|found| found.reference.to_string()).collect();
        for mut found in found {
            if found.parts.iter().any(|part| seen.contains(&part.path)) {
                continue;
            }
            // A value that no template uses cannot come out with any setting.
            let Some(reasons) = explain_unrendered(chart, effective, &uses, &found) else {
                continue;
            };
            let mut notes = Vec::new();
            if !reasons.is_empty() {
                notes.push(format!("not rendered while {}", reasons.join(" and ")));
            }
            notes.extend(explain_tag(effective, &uses, &mut found));
            found.note = (!notes.is_empty()).then(|| notes.join("; "));
            found.confidence = Confidence::Possible;
            found.pattern = LocationKind::Value;
            found.values = found.parts.iter().map(|part| part.path.clone()).collect();
            if reported.insert(found.reference.to_string()) {
                findings.images.push(found);
            }
        }
    }
}

/// The paths of the values of an image, up to the first list: templates name the list, not its
/// items.
fn list_used_paths(found: &FoundImage) -> Vec<DocumentPath> {
    let outside = |path: &DocumentPath| -> DocumentPath {
        path.steps().iter().take_while(|step| matches!(step, PathStep::Key(_))).cloned().collect()
    };
    found.parts.iter().map(|part| outside(&part.path)).collect()
}

/// Explains why a value was not rendered, as far as the values tell. Empty if nothing is known;
/// `None` if no template uses the value.
fn explain_unrendered(
    chart: &HelmChart,
    effective: &Value,
    uses: &ValueUses,
    found: &FoundImage,
) -> Option<Vec<String>> {
    let ways = uses.find_condition_chains(&list_used_paths(found));
    if ways.is_empty()
        && !uses
            .is_looked_up_dynamically(&found.place.path, find_distinctive_key(&found.place.path))
    {
        return None;
    }
    let mut reasons = find_disabled_subcharts(chart, effective, &found.place.path);
    let answered: Vec<(Vec<String>, Option<&str>)> = ways
        .iter()
        .map(|way| {
            let mut off = Vec::new();
            let mut unknown = None;
            for condition in way {
                match condition::evaluate_condition(&condition.text, effective, &condition.scope) {
                    ConditionTruth::Holds => {}
                    ConditionTruth::Fails(why) => off.extend(why),
                    ConditionTruth::Unknown => unknown = Some(condition.text.as_str()),
                }
            }
            (off, unknown)
        })
        .collect();
    // The use with the fewest false conditions needs the fewest changes by the user.
    match answered.into_iter().min_by_key(|(off, _)| off.len()) {
        // The values do not explain it: the template's own condition is better than nothing.
        Some((off, Some(unknown))) if off.is_empty() && reasons.is_empty() => {
            reasons.push(format!("the condition `{unknown}` is false"));
        }
        Some((off, _)) => reasons.extend(off),
        None => reasons.extend(find_switch_above(effective, &found.place.path)),
    }
    let mut told = BTreeSet::new();
    reasons.retain(|reason| told.insert(reason.clone()));
    Some(reasons)
}

/// The key that distinguishes an image from others of its chart: `testFramework` in
/// `grafana.testFramework.image.tag`.
fn find_distinctive_key(path: &DocumentPath) -> &str {
    let says = |key: &&str| names::classify_key(key).is_none() && !names::is_image_key(key);
    let keys = || {
        path.steps().iter().filter_map(|step| match step {
            PathStep::Key(key) => Some(key.as_str()),
            _ => None,
        })
    };
    keys().rev().find(says).or_else(|| keys().next()).unwrap_or_default()
}

/// The conditions of the subcharts that a value belongs to, as far as they are false.
fn find_disabled_subcharts(
    chart: &HelmChart,
    effective: &Value,
    path: &DocumentPath,
) -> Vec<String> {
    let mut off = Vec::new();
    chart.visit_charts(&DocumentPath::default(), &mut |chart, scope| {
        for dependency in &chart.dependencies {
            if !scope.key(&dependency.key).is_above(path) {
                continue;
            }
            // As in helm: of several conditions the first that is set to a boolean decides.
            let mut conditions =
                dependency.conditions.iter().map(|condition| scope.keys(condition));
            let decides =
                conditions.find_map(|path| Some((path.find_value(effective)?.as_bool()?, path)));
            if let Some((false, switch)) = decides {
                off.push(format!("{switch} is off"));
            }
        }
    });
    off
}

/// Finds a switch that is off, such as `enabled: false`, beside a value or in a map above it.
fn find_switch_above(effective: &Value, path: &DocumentPath) -> Option<String> {
    const SWITCHES: &[&str] = &["enabled", "enable", "create", "install", "deploy"];
    let mut above = path.parent();
    loop {
        for key in SWITCHES {
            let switch = above.key(*key);
            if switch.find_value(effective) == Some(&Value::Bool(false)) {
                return Some(format!("{switch} is off"));
            }
        }
        if above.steps().is_empty() {
            return None;
        }
        above = above.parent();
    }
}

/// The remark about an image whose tag is not in the values but chosen by the template.
fn explain_tag(effective: &Value, uses: &ValueUses, found: &mut FoundImage) -> Option<String> {
    let tag = found.parts.iter().position(|part| part.role == PartRole::Tag);
    let Some(tag) = tag else {
        let is_open =
            found.parts.iter().all(|part| !matches!(part.role, PartRole::Digest | PartRole::Whole));
        return is_open.then(|| "its template chooses the tag".to_owned());
    };
    let path = found.parts[tag].path.clone();
    if path.find_value(effective).is_some_and(|tag| !tag.is_null() && tag.as_str() != Some("")) {
        return None;
    }
    let paths: Vec<DocumentPath> = found.parts.iter().map(|part| part.path.parent()).collect();
    if uses.is_mentioned_with(&paths, "KubeVersion") {
        found.parts.remove(tag);
        if let Ok(reference) = found.reference.name().parse() {
            found.reference = reference;
        }
        return Some("its template chooses the tag by the version of Kubernetes".into());
    }
    Some("the tag is a guess from the chart's appVersion".into())
}

/// The chart's appVersion, with a `v` in front if its templates add one to make a tag.
fn read_app_version(chart: &HelmChart) -> Option<String> {
    const WITH_V: &[&str] =
        &["\"v%s\" .Chart.AppVersion", "\"v%s\" $.Chart.AppVersion", "v{{ .Chart.AppVersion"];
    let version = chart.metadata.get("appVersion").and_then(Value::as_str)?;
    let has_v = || {
        let mut texts = chart.templates.values();
        texts.any(|text| WITH_V.iter().any(|words| text.contains(words)))
    };
    let is_bare = version.starts_with(|c: char| c.is_ascii_digit());
    Some(if is_bare && has_v() { format!("v{version}") } else { version.to_owned() })
}

/// Sets empty tags to the version of the chart, as most templates do. Subcharts have their own.
fn fill_tags(value: &mut Value, version: &str, dependencies: &[&str]) {
    match value {
        Value::Object(map) => {
            let is_image = map.contains_key("repository") || map.contains_key("registry");
            if let Some(tag) = map.get_mut("tag").filter(|_| is_image && !version.is_empty())
                && (tag.is_null() || tag.as_str() == Some(""))
            {
                *tag = Value::from(version);
            }
            for (key, value) in map.iter_mut() {
                if !dependencies.contains(&key.as_str()) {
                    fill_tags(value, version, &[]);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_tags(item, version, &[])),
        _ => {}
    }
}
