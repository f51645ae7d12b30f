//! Inspects a chart, its render, or plain manifests.

use std::collections::BTreeSet;

use serde_json::Value;

use super::hints::add_chart_hints;
use super::inspection::Inspection;
use super::subcharts::find_silent_subcharts;
use super::unrendered::UnrenderedImages;
use crate::chart::HelmChart;
use crate::find::{self, Confidence, ImageScan, LocationKind};
use crate::manifest::Manifests;
use crate::path::{DocumentPath, PathStep};
use crate::render::{self, RenderFunction};
use crate::rules::OperatorRules;
use crate::taint::guards::{find_guards, open_guards};
use crate::taint::image_move::ImageMove;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::markers::extract_slot_markers;
use crate::taint::scopes::ChartScopes;
use crate::taint::slots::{self, ValueSlot};
use crate::{Error, Result};

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
    let slots = slots::find_likely_slots(&scopes, &effective);
    let chosen: Vec<usize> = (0..slots.len()).collect();
    let mut marked = slots::mark_slots(&slots, &chosen, &effective);
    // Charts such as Bitnami's refuse images from another registry unless a value allows it.
    open_guards(&find_guards(chart, &scopes, &effective), &mut marked, &effective);
    let overlays = [None, Some(marked.to_string())];
    // Reading the templates needs no render, so it is done while helm runs.
    let (rendered, candidates) = std::thread::scope(|scope| {
        let candidates = scope.spawn(|| UnrenderedImages::new(chart, &effective));
        let rendered = render::render_streams(render, &overlays);
        (rendered, candidates.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let mut rendered = rendered.into_iter();
    let plain = rendered.next().ok_or_else(|| Error::Render { message: "no output".into() })?;
    let manifests = Manifests::read_render(&plain?);
    let mut findings = find::find_images_in_manifests(&manifests);
    let mut seen = BTreeSet::new();
    // If the chart does not render with the markers (a strict schema), its images are still known,
    // only the values behind them are not.
    let before = match rendered.next() {
        Some(Ok(stream)) => {
            // A value that comes out anywhere was rendered, even where no finder looks.
            seen.extend(
                extract_slot_markers(&stream)
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
        for (slot, _) in extract_slot_markers(&text).1 {
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
