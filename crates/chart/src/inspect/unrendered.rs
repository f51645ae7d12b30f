//! Finds images in the values of a chart that are in no rendered manifest: what else the chart can
//! run, and which values would enable it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::condition::{self, Answer};
use super::is_handed_down;
use super::uses::Uses;
use crate::chart::Chart;
use crate::find::names;
use crate::find::{self, Confidence, Findings, Found, Pattern, Role};
use crate::manifest::Document;
use crate::path::{Path, Step};

/// The images in a chart's values, and how the templates use them. Computed without a render.
pub(super) struct Candidates {
    found: Vec<Found>,
    uses: Uses,
}

impl Candidates {
    /// Finds the images in the values and the places in the templates that use them.
    pub(super) fn new(chart: &Chart, effective: &Value) -> Self {
        // Most templates use the chart's appVersion where `tag` is empty; with it filled in, such
        // images are found as repository and tag.
        let mut values = effective.clone();
        chart.each(&Path::default(), &mut |chart, scope| {
            let Some(version) = app_version(chart) else { return };
            let own = scope.steps().iter().try_fold(&mut values, |value, step| match step {
                Step::Key(key) => value.get_mut(key),
                _ => None,
            });
            if let Some(own) = own {
                let dependencies: Vec<&str> =
                    chart.dependencies.iter().map(|dependency| dependency.key.as_str()).collect();
                fill_tags(own, &version, &dependencies);
            }
        });
        let name = chart.name().to_owned();
        let metadata = serde_json::json!({"kind": "values", "metadata": {"name": name}});
        let template = Some(format!("{name}/values.yaml"));
        let document = Document { template, text: String::new(), value: metadata };
        let mut found = find::in_values(&document, &values);
        found.retain(|found| !is_handed_down(&found.place.path));
        let paths: Vec<Path> = found.iter().flat_map(used_paths).collect();
        Self { uses: Uses::read(chart, &paths), found }
    }

    /// Adds the images that were not rendered. `seen` are the values that came out in a render.
    pub(super) fn add(
        self,
        chart: &Chart,
        effective: &Value,
        seen: &BTreeSet<&Path>,
        findings: &mut Findings,
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
            let Some(reasons) = reasons(chart, effective, &uses, &found) else { continue };
            let mut notes = Vec::new();
            if !reasons.is_empty() {
                notes.push(format!("not rendered while {}", reasons.join(" and ")));
            }
            notes.extend(tag_note(effective, &uses, &mut found));
            found.note = (!notes.is_empty()).then(|| notes.join("; "));
            found.confidence = Confidence::Possible;
            found.pattern = Pattern::Value;
            found.values = found.parts.iter().map(|part| part.path.clone()).collect();
            if reported.insert(found.reference.to_string()) {
                findings.images.push(found);
            }
        }
    }
}

/// The paths of the values of an image, up to the first list: templates name the list, not its
/// items.
fn used_paths(found: &Found) -> Vec<Path> {
    let outside = |path: &Path| -> Path {
        path.steps().iter().take_while(|step| matches!(step, Step::Key(_))).cloned().collect()
    };
    found.parts.iter().map(|part| outside(&part.path)).collect()
}

/// Explains why a value was not rendered, as far as the values tell. Empty if nothing is known;
/// `None` if no template uses the value.
fn reasons(chart: &Chart, effective: &Value, uses: &Uses, found: &Found) -> Option<Vec<String>> {
    let ways = uses.ways(&used_paths(found));
    if ways.is_empty() && !uses.is_hidden(&found.place.path, own_key(&found.place.path)) {
        return None;
    }
    let mut reasons = off_dependencies(chart, effective, &found.place.path);
    let answered: Vec<(Vec<String>, Option<&str>)> = ways
        .iter()
        .map(|way| {
            let mut off = Vec::new();
            let mut unknown = None;
            for condition in way {
                match condition::answer(&condition.text, effective, &condition.scope) {
                    Answer::Holds => {}
                    Answer::Not(why) => off.extend(why),
                    Answer::Unknown => unknown = Some(condition.text.as_str()),
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
        None => reasons.extend(switch_above(effective, &found.place.path)),
    }
    let mut told = BTreeSet::new();
    reasons.retain(|reason| told.insert(reason.clone()));
    Some(reasons)
}

/// The key that distinguishes an image from others of its chart: `testFramework` in
/// `grafana.testFramework.image.tag`.
fn own_key(path: &Path) -> &str {
    let says = |key: &&str| names::piece(key).is_none() && !names::is_image(key);
    let keys = || {
        path.steps().iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            _ => None,
        })
    };
    keys().rev().find(says).or_else(|| keys().next()).unwrap_or_default()
}

/// The conditions of the subcharts that a value belongs to, as far as they are false.
fn off_dependencies(chart: &Chart, effective: &Value, path: &Path) -> Vec<String> {
    let mut off = Vec::new();
    chart.each(&Path::default(), &mut |chart, scope| {
        for dependency in &chart.dependencies {
            if !scope.key(&dependency.key).is_above(path) {
                continue;
            }
            // As in helm: of several conditions the first that is set to a boolean decides.
            let mut conditions = dependency.conditions.iter().map(|condition| {
                condition.split('.').fold(scope.clone(), |path, key| path.key(key))
            });
            let decides =
                conditions.find_map(|path| Some((path.find(effective)?.as_bool()?, path)));
            if let Some((false, switch)) = decides {
                off.push(format!("{switch} is off"));
            }
        }
    });
    off
}

/// Finds a switch that is off, such as `enabled: false`, beside a value or in a map above it.
fn switch_above(effective: &Value, path: &Path) -> Option<String> {
    const SWITCHES: &[&str] = &["enabled", "enable", "create", "install", "deploy"];
    let mut above = path.parent();
    loop {
        for key in SWITCHES {
            let switch = above.key(*key);
            if switch.find(effective) == Some(&Value::Bool(false)) {
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
fn tag_note(effective: &Value, uses: &Uses, found: &mut Found) -> Option<String> {
    let tag = found.parts.iter().position(|part| part.role == Role::Tag);
    let Some(tag) = tag else {
        let is_open =
            found.parts.iter().all(|part| !matches!(part.role, Role::Digest | Role::Whole));
        return is_open.then(|| "its template chooses the tag".to_owned());
    };
    let path = found.parts[tag].path.clone();
    if path.find(effective).is_some_and(|tag| !tag.is_null() && tag.as_str() != Some("")) {
        return None;
    }
    let paths: Vec<Path> = found.parts.iter().map(|part| part.path.parent()).collect();
    if uses.is_said(&paths, "KubeVersion") {
        found.parts.remove(tag);
        if let Ok(reference) = found.reference.name().parse() {
            found.reference = reference;
        }
        return Some("its template chooses the tag by the version of Kubernetes".into());
    }
    Some("the tag is a guess from the chart's appVersion".into())
}

/// The chart's appVersion, with a `v` in front if its templates add one to make a tag.
fn app_version(chart: &Chart) -> Option<String> {
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
