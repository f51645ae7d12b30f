//! Finds everything that a chart may run: the images that it renders, with the values that each
//! comes from; images that its values name but that were not rendered (`unrendered`); and those
//! that annotations of Chart.yaml list.
//!
//! It renders the chart twice in parallel: as it is, and with markers in front of all values that
//! may be part of an image. A marker that comes out in an image shows which value is behind it.

mod condition;
mod unrendered;
mod uses;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::chart::HelmChart;
use crate::find::{self, Confidence, FoundImage, ImageScan, LocationKind};
use crate::manifest::{self, Manifests};
use crate::path::{DocumentPath, PathStep};
use crate::relocate::image_move::{ImageMove, IndexedRender};
use crate::relocate::scopes::ChartScopes;
use crate::relocate::slot::{self, ValueSlot};
use crate::render::{self, RenderFunction};
use crate::rules::OperatorRules;
use crate::{Error, Result, reference_shape, relocate, values};
use unrendered::UnrenderedImages;

/// The result of inspecting a chart or a stream of manifests.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// The images that were found.
    pub findings: ImageScan,
    /// The rendered manifests.
    pub manifests: Manifests,
    /// The values that the templates saw; null for a stream of manifests, which has none.
    pub effective: Value,
    /// The paths of the values of subcharts that rendered nothing.
    off: Vec<DocumentPath>,
}

impl Inspection {
    /// Whether a value has no effect of its own: it belongs to a subchart that renders nothing, or
    /// is a copy of a global value.
    pub(crate) fn is_inactive(&self, path: &DocumentPath) -> bool {
        is_inherited_global(path) || self.off.iter().any(|off| off.is_above(path))
    }
}

/// Inspects plain manifests, from `kustomize build` or written by hand.
pub fn inspect_stream(rendered: &str, rules: &OperatorRules) -> Inspection {
    let manifests = Manifests::read(rendered);
    let mut findings = find::find_images_in_manifests(&manifests);
    rules.apply(&manifests, &mut findings);
    Inspection { findings, manifests, ..Inspection::default() }
}

/// Inspects what a chart rendered with the user's values, without applying rules and without
/// looking for images in its values.
pub fn inspect_render(chart: &HelmChart, user: &Value, manifests: Manifests) -> Inspection {
    let findings = find::find_images_in_manifests(&manifests);
    let off = find_silent_subcharts(chart, &manifests);
    Inspection { findings, manifests, effective: chart.effective_values(user), off }
}

/// Inspects a chart with the user's values. Fails if the chart does not render with them.
pub fn inspect_chart(
    chart: &HelmChart,
    user: &Value,
    render: &RenderFunction,
    rules: &OperatorRules,
) -> Result<Inspection> {
    let effective = chart.effective_values(user);
    let scopes = ChartScopes::new(chart, &effective);
    let slots = slot::find_likely_slots(&scopes, &effective);
    let chosen: Vec<usize> = (0..slots.len()).collect();
    let mut marked = slot::mark_slots(&slots, &chosen, &effective);
    // Charts such as Bitnami's refuse images from another registry unless a value allows it.
    for guard in relocate::find_guards(&scopes, &effective) {
        values::set_value(&mut marked, &guard, Value::Bool(true), &effective);
    }
    let overlays = [None, Some(marked.to_string())];
    // Reading the templates needs no render, so it is done while helm runs.
    let (rendered, candidates) = std::thread::scope(|scope| {
        let candidates = scope.spawn(|| UnrenderedImages::new(chart, &effective));
        let rendered = render::render_streams(render, &overlays);
        (rendered, candidates.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let mut rendered = rendered.into_iter();
    let plain = rendered.next().ok_or_else(|| Error::Render { message: "no output".into() })?;
    let manifests = Manifests::read(&plain?);
    let mut findings = find::find_images_in_manifests(&manifests);
    let mut seen = BTreeSet::new();
    // If the chart does not render with the markers (a strict schema), its images are still known,
    // only the values behind them are not.
    let before = match rendered.next() {
        Some(Ok(stream)) => {
            // A value that comes out anywhere was rendered, even where no finder looks.
            seen.extend(
                slot::extract_markers(&stream)
                    .1
                    .iter()
                    .filter_map(|(slot, _)| Some(&slots.get(*slot)?.path)),
            );
            let marked = IndexedRender::new(Manifests::read_reusing(&stream, &manifests));
            let before = IndexedRender::new(manifests);
            record_values(&mut findings, &before, &marked, &slots, &mut seen);
            demote_repeated_values(&mut findings);
            before
        }
        _ => IndexedRender::new(manifests),
    };
    let manifests = before.manifests;
    rules.apply(&manifests, &mut findings);
    candidates.add_to_scan(chart, &effective, &seen, &mut findings);
    add_chart_hints(chart, &mut findings);
    let off = find_silent_subcharts(chart, &manifests);
    Ok(Inspection { findings, manifests, effective, off })
}

/// Finds the subcharts of which nothing was rendered and returns the paths of their values. Helm
/// names templates by the key of the subchart: `top/charts/KEY/templates/x.yaml`.
pub(crate) fn find_silent_subcharts(chart: &HelmChart, manifests: &Manifests) -> Vec<DocumentPath> {
    let templates: BTreeSet<&str> =
        manifests.documents.iter().filter_map(|d| d.template.as_deref()).collect();
    let mut silent = Vec::new();
    chart.visit_charts(&DocumentPath::default(), &mut |_, scope| {
        let mut folder = format!("{}/", chart.name());
        for step in scope.steps() {
            if let PathStep::Key(key) = step {
                folder = format!("{folder}charts/{key}/");
            }
        }
        if !templates.iter().any(|template| template.starts_with(&folder)) {
            silent.push(scope.clone());
        }
    });
    silent
}

/// Records at each image the values that it comes from, and adds those values to `seen`.
fn record_values<'a>(
    findings: &mut ImageScan,
    before: &IndexedRender,
    marked: &IndexedRender,
    slots: &'a [ValueSlot],
    seen: &mut BTreeSet<&'a DocumentPath>,
) {
    for found in &mut findings.images {
        let site = ImageMove::new(found, found.reference.clone());
        let Some(text) = site.name_text_in(before, marked) else { continue };
        for (slot, _) in slot::extract_markers(&text).1 {
            let Some(slot) = slots.get(slot) else { continue };
            seen.insert(&slot.path);
            if !found.values.contains(&slot.path) {
                found.values.push(slot.path.clone());
            }
        }
    }
}

/// Lowers the confidence of images in texts that only repeat the chart's values (charts put them
/// into a ConfigMap for their operator). If a pod has an image of the same values with another tag,
/// its template chose that tag, and the pod is right.
fn demote_repeated_values(findings: &mut ImageScan) {
    let certain: BTreeSet<(Vec<DocumentPath>, String)> = findings
        .images
        .iter()
        .filter(|found| found.confidence == Confidence::Certain && !found.values.is_empty())
        .map(|found| (found.values.clone(), found.reference.to_string()))
        .collect();
    for found in findings.images.iter_mut().filter(|found| found.pattern == LocationKind::Text) {
        let steps = found.place.path.steps();
        let inside = steps.iter().rposition(|step| matches!(step, PathStep::Inside(_)));
        let inner: DocumentPath = steps[inside.map_or(0, |at| at + 1)..].iter().cloned().collect();
        let mut same = certain.iter().filter(|(values, _)| *values == found.values).peekable();
        let reference = found.reference.to_string();
        let is_other = same.peek().is_some() && same.all(|(_, other)| *other != reference);
        // The path inside the text is that of the value: the text is a copy of the values.
        if found.values.first() == Some(&inner) && is_other {
            found.confidence = Confidence::Possible;
            found.note =
                Some("this text repeats the chart's values; the pod has another tag".into());
        }
    }
}

/// Whether a path is that of a global value in a subchart, into which helm copies it.
fn is_inherited_global(path: &DocumentPath) -> bool {
    path.steps().iter().skip(1).any(|step| *step == PathStep::Key("global".into()))
}

/// Adds the images that annotations of Chart.yaml list (artifacthub.io/images). The lists are often
/// outdated or incomplete, so these are only `Possible`.
fn add_chart_hints(chart: &HelmChart, findings: &mut ImageScan) {
    chart.visit_charts(&DocumentPath::default(), &mut |chart, _| {
        for key in ["artifacthub.io/images", "images"] {
            let list = chart.metadata.get("annotations").and_then(|all| all.get(key));
            let Some(list) = list.and_then(Value::as_str) else { continue };
            let Ok(list) = manifest::parse_yaml(list) else { continue };
            for (index, entry) in list.as_array().into_iter().flatten().enumerate() {
                let image = entry.get("image").and_then(Value::as_str);
                let Some((reference, _)) = image.and_then(reference_shape::parse_image) else {
                    continue;
                };
                // The values may name the same image in another registry. What the chart uses is
                // more reliable than what its author listed.
                let is_it = |found: &FoundImage| {
                    found.reference.repository() == reference.repository()
                        && found.reference.digest_or_tag() == reference.digest_or_tag()
                };
                if findings.images.iter().any(is_it) {
                    continue;
                }
                let path =
                    DocumentPath::default().key("annotations").key(key).index(index).key("image");
                let hint = build_chart_hint(chart, reference, path, image.unwrap_or_default());
                findings.images.push(hint);
            }
        }
    });
}

/// The image at a path of Chart.yaml.
fn build_chart_hint(
    chart: &HelmChart,
    reference: types::Reference,
    path: DocumentPath,
    text: &str,
) -> FoundImage {
    let place = find::ManifestLocation {
        template: Some(format!("{}/Chart.yaml", chart.name())),
        document: 0,
        kind: "Chart".into(),
        name: chart.name().to_owned(),
        path: path.clone(),
    };
    let part = find::ReferencePart { path, text: text.to_owned(), role: find::PartRole::Whole };
    FoundImage::new(reference, vec![part], place, LocationKind::Hint, Confidence::Possible)
}
