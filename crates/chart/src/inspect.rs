//! Everything that a chart may run: what it renders, with the values behind each image, what its
//! values name and did not render, and what Chart.yaml says. One render as it is and one with
//! marked values, side by side.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::chart::Chart;
use crate::find::{self, Confidence, Findings, Found, Pattern};
use crate::manifest::{self, Document, Manifests};
use crate::path::{Path, Step};
use crate::relocate::scopes::Scopes;
use crate::relocate::site::{Rendered, Site};
use crate::relocate::slot::{self, Reason, Slot};
use crate::render::{self, Render};
use crate::rules::Rules;
use crate::{Result, form, relocate, values};

/// What was found in a chart or a stream, and what it was found in.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// The images.
    pub findings: Findings,
    /// What was rendered.
    pub manifests: Manifests,
    /// The values that templates saw; null for a stream, which has none.
    pub effective: Value,
    /// The values of dependencies that rendered nothing.
    off: Vec<Path>,
}

impl Inspection {
    /// Whether nothing can come of a value: it belongs to a dependency that renders nothing, or is
    /// a global that was handed down.
    pub(crate) fn is_off(&self, path: &Path) -> bool {
        is_handed_down(path) || self.off.iter().any(|off| off.is_above(path))
    }
}

/// Inspects plain manifests: what `kustomize build` or a person wrote.
pub fn stream(rendered: &str, rules: &Rules) -> Inspection {
    let manifests = Manifests::read(rendered);
    let mut findings = find::in_manifests(&manifests);
    rules.apply(&manifests, &mut findings);
    Inspection { findings, manifests, ..Inspection::default() }
}

/// Inspects what a chart rendered with the user's values, without what only rules and values tell.
pub fn rendered(chart: &Chart, user: &Value, manifests: Manifests) -> Inspection {
    let findings = find::in_manifests(&manifests);
    let off = silent(chart, &manifests);
    Inspection { findings, manifests, effective: chart.effective(user), off }
}

/// Inspects a chart with the user's values.
pub fn chart(chart: &Chart, user: &Value, render: &Render, rules: &Rules) -> Result<Inspection> {
    let effective = chart.effective(user);
    let slots = slot::slots(chart, &effective, &[]);
    let chosen: Vec<usize> =
        (0..slots.len()).filter(|slot| slots[*slot].reason == Reason::Likely).collect();
    let mut marked = slot::tainted(&slots, &chosen, &effective);
    for guard in relocate::guards(&Scopes::new(chart, &effective), &effective) {
        values::set(&mut marked, &guard, Value::Bool(true), &effective);
    }
    let mut rendered = render::streams(render, &[None, Some(marked.to_string())]).into_iter();
    let manifests = match rendered.next() {
        Some(stream) => Manifests::read(&stream?),
        None => Manifests::default(),
    };
    let mut findings = find::in_manifests(&manifests);
    let mut seen = BTreeSet::new();
    // A chart that refuses the markers still has its images; only the values behind are not known.
    let before = match rendered.next() {
        Some(Ok(stream)) => {
            seen.extend(
                slot::cleaned(&stream)
                    .1
                    .iter()
                    .filter_map(|(slot, _)| Some(&slots.get(*slot)?.path)),
            );
            let marked = Rendered::new(Manifests::read_like(&stream, &manifests));
            let before = Rendered::new(manifests);
            values_behind(&mut findings, &before, &marked, &slots, &mut seen);
            before
        }
        _ => Rendered::new(manifests),
    };
    let manifests = before.manifests;
    rules.apply(&manifests, &mut findings);
    unrendered(chart, &effective, &seen, &mut findings);
    hints(chart, &mut findings);
    let off = silent(chart, &manifests);
    Ok(Inspection { findings, manifests, effective, off })
}

/// The values of dependencies of which the render has nothing. Helm names templates by the
/// dependency's key: `top/charts/key/templates/x.yaml`.
fn silent(chart: &Chart, manifests: &Manifests) -> Vec<Path> {
    let templates: BTreeSet<&str> =
        manifests.documents.iter().filter_map(|d| d.template.as_deref()).collect();
    let mut silent = Vec::new();
    chart.each(&Path::default(), &mut |_, scope| {
        let mut folder = format!("{}/", chart.name());
        for step in scope.steps() {
            if let Step::Key(key) = step {
                folder = format!("{folder}charts/{key}/");
            }
        }
        if !templates.iter().any(|template| template.starts_with(&folder)) {
            silent.push(scope.clone());
        }
    });
    silent
}

/// Notes at each find the values that it is made of, and that they came out.
fn values_behind<'a>(
    findings: &mut Findings,
    before: &Rendered,
    marked: &Rendered,
    slots: &'a [Slot],
    seen: &mut BTreeSet<&'a Path>,
) {
    for found in &mut findings.images {
        let site = Site::new(found, found.reference.clone());
        let Some(text) = site.text_in(before, marked) else { continue };
        for (slot, _) in slot::cleaned(&text).1 {
            let Some(slot) = slots.get(slot) else { continue };
            seen.insert(&slot.path);
            if !found.values.contains(&slot.path) {
                found.values.push(slot.path.clone());
            }
        }
    }
}

/// Values that look like images and came out nowhere, each with the switch that may turn it on.
fn unrendered(chart: &Chart, effective: &Value, seen: &BTreeSet<&Path>, findings: &mut Findings) {
    let mut values = effective.clone();
    chart.each(&Path::default(), &mut |chart, scope| {
        let version = chart.metadata.get("appVersion").and_then(Value::as_str).unwrap_or_default();
        let own = scope.steps().iter().try_fold(&mut values, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            _ => None,
        });
        if let Some(own) = own {
            let dependencies: Vec<&str> =
                chart.dependencies.iter().map(|dependency| dependency.key.as_str()).collect();
            fill_tags(own, version, &dependencies);
        }
    });
    let name = chart.name().to_owned();
    let metadata = serde_json::json!({"kind": "values", "metadata": {"name": name}});
    let template = Some(format!("{name}/values.yaml"));
    let document = Document { template, text: String::new(), value: metadata };
    let known: BTreeSet<String> =
        findings.images.iter().map(|found| found.reference.to_string()).collect();
    let mut reported = BTreeSet::new();
    for mut found in find::in_values(&document, &values) {
        let is_seen = found.parts.iter().any(|part| seen.contains(&part.path));
        let reference = found.reference.to_string();
        if is_seen
            || is_handed_down(&found.place.path)
            || known.contains(&reference)
            || !reported.insert(reference)
        {
            continue;
        }
        found.confidence = Confidence::Possible;
        found.pattern = Pattern::Value;
        found.values = found.parts.iter().map(|part| part.path.clone()).collect();
        found.note = switch(chart, effective, &found.place.path)
            .map(|switch| format!("not rendered while {switch} is off"));
        findings.images.push(found);
    }
}

/// Whether a path is that of a global below a dependency, where helm copies it from above.
fn is_handed_down(path: &Path) -> bool {
    path.steps().iter().skip(1).any(|step| *step == Step::Key("global".into()))
}

/// Gives images without a tag the version of their chart, as their templates would.
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

/// The nearest switch above a value that is off: `enabled: false` beside it or further up, or the
/// condition of the dependency that it belongs to.
fn switch(chart: &Chart, effective: &Value, path: &Path) -> Option<Path> {
    const SWITCHES: &[&str] = &["enabled", "enable", "create", "install", "deploy"];
    let mut above = path.parent();
    loop {
        for key in SWITCHES {
            let switch = above.key(*key);
            if switch.find(effective) == Some(&Value::Bool(false)) {
                return Some(switch);
            }
        }
        if above.steps().is_empty() {
            break;
        }
        above = above.parent();
    }
    let mut found = None;
    chart.each(&Path::default(), &mut |chart, scope| {
        for dependency in &chart.dependencies {
            if scope.key(&dependency.key).is_above(path) {
                for condition in &dependency.conditions {
                    let switch =
                        condition.split('.').fold(scope.clone(), |path, key| path.key(key));
                    if switch.find(effective) == Some(&Value::Bool(false)) {
                        found = Some(switch);
                    }
                }
            }
        }
    });
    found
}

/// The images that annotations of Chart.yaml list. Often old, often not all.
fn hints(chart: &Chart, findings: &mut Findings) {
    chart.each(&Path::default(), &mut |chart, _| {
        for key in ["artifacthub.io/images", "images"] {
            let list = chart.metadata.get("annotations").and_then(|all| all.get(key));
            let Some(list) = list.and_then(Value::as_str) else { continue };
            let Ok(list) = manifest::parse(list) else { continue };
            for (index, entry) in list.as_array().into_iter().flatten().enumerate() {
                let image = entry.get("image").and_then(Value::as_str);
                let Some((reference, _)) = image.and_then(form::image) else { continue };
                if findings.images.iter().any(|found| found.reference == reference) {
                    continue;
                }
                let path = Path::default().key("annotations").key(key).index(index).key("image");
                let hint = hint(chart, reference, path, image.unwrap_or_default());
                findings.images.push(hint);
            }
        }
    });
}

fn hint(chart: &Chart, reference: types::Reference, path: Path, text: &str) -> Found {
    let place = find::Place {
        template: Some(format!("{}/Chart.yaml", chart.name())),
        document: 0,
        kind: "Chart".into(),
        name: chart.name().to_owned(),
        path: path.clone(),
    };
    let part = find::Part { path, text: text.to_owned(), role: find::Role::Whole };
    Found::new(reference, vec![part], place, Pattern::Hint, Confidence::Possible)
}
