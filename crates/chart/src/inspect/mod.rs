//! Everything that a chart may run: what it renders, with the values behind each image, what its
//! values name and did not render, and what Chart.yaml says. One render as it is and one with
//! marked values, side by side.

mod condition;
mod unrendered;
mod uses;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::chart::Chart;
use crate::find::{self, Confidence, Findings, Found, Pattern};
use crate::manifest::{self, Manifests};
use crate::path::{Path, Step};
use crate::relocate::scopes::Scopes;
use crate::relocate::site::{Rendered, Site};
use crate::relocate::slot::{self, Slot};
use crate::render::{self, Render};
use crate::rules::Rules;
use crate::{Error, Result, form, relocate, values};
use unrendered::Candidates;

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
    let scopes = Scopes::new(chart, &effective);
    let slots = slot::likely(&scopes, &effective);
    let chosen: Vec<usize> = (0..slots.len()).collect();
    let mut marked = slot::tainted(&slots, &chosen, &effective);
    for guard in relocate::guards(&scopes, &effective) {
        values::set(&mut marked, &guard, Value::Bool(true), &effective);
    }
    let overlays = [None, Some(marked.to_string())];
    // The templates are read while helm is at work.
    let (rendered, candidates) = std::thread::scope(|scope| {
        let candidates = scope.spawn(|| Candidates::new(chart, &effective));
        let rendered = render::streams(render, &overlays);
        (rendered, candidates.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let mut rendered = rendered.into_iter();
    let plain = rendered.next().ok_or_else(|| Error::Render { message: "no output".into() })?;
    let manifests = Manifests::read(&plain?);
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
            repeated_values(&mut findings);
            before
        }
        _ => Rendered::new(manifests),
    };
    let manifests = before.manifests;
    rules.apply(&manifests, &mut findings);
    candidates.add(chart, &effective, &seen, &mut findings);
    hints(chart, &mut findings);
    let off = silent(chart, &manifests);
    Ok(Inspection { findings, manifests, effective, off })
}

/// The values of dependencies of which the render has nothing. Helm names templates by the
/// dependency's key: `top/charts/key/templates/x.yaml`.
pub(crate) fn silent(chart: &Chart, manifests: &Manifests) -> Vec<Path> {
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

/// A text that repeats the chart's values says less than the pod that the same values are in: its
/// template may have chosen another tag for it.
fn repeated_values(findings: &mut Findings) {
    let certain: BTreeSet<(Vec<Path>, String)> = findings
        .images
        .iter()
        .filter(|found| found.confidence == Confidence::Certain && !found.values.is_empty())
        .map(|found| (found.values.clone(), found.reference.to_string()))
        .collect();
    for found in findings.images.iter_mut().filter(|found| found.pattern == Pattern::Text) {
        let steps = found.place.path.steps();
        let inside = steps.iter().rposition(|step| matches!(step, Step::Inside(_)));
        let inner: Path = steps[inside.map_or(0, |at| at + 1)..].iter().cloned().collect();
        let mut same = certain.iter().filter(|(values, _)| *values == found.values).peekable();
        let reference = found.reference.to_string();
        let is_other = same.peek().is_some() && same.all(|(_, other)| *other != reference);
        if found.values.first() == Some(&inner) && is_other {
            found.confidence = Confidence::Possible;
            found.note =
                Some("the text repeats the chart's values; the pod has another tag".into());
        }
    }
}

/// Whether a path is that of a global below a dependency, where helm copies it from above.
fn is_handed_down(path: &Path) -> bool {
    path.steps().iter().skip(1).any(|step| *step == Step::Key("global".into()))
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
                // The values may name another registry; they know better.
                let is_it = |found: &Found| {
                    found.reference.repository() == reference.repository()
                        && found.reference.version() == reference.version()
                };
                if findings.images.iter().any(is_it) {
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
