//! Learns which containers each candidate value reaches. All candidates get an entry that is named
//! by a marker, in one render; where a marker shows up as an entry, the value reaches that
//! container. A candidate that helm refuses, or whose entry does not come out as one, is tried in
//! another syntax.
//!
//! # Worked example
//!
//! A chart has `extraEnv: []` and `extraVolumes: ""`; both are inserted with `toYaml`:
//!
//! ```text
//! candidate  value         kind     possible syntaxes, the likeliest last
//! 0          extraEnv      Env      list
//! 1          extraVolumes  Volumes  list, text
//! ```
//!
//! 1. All candidates are marked in one render, beside the plain one:
//!
//!    ```text
//!    extraEnv: [{name: ZQW0QZ, value: zqw0qz}]
//!    extraVolumes: "- {name: zqw1qz, emptyDir: {}}"
//!    ```
//!
//! 2. In the output, container `web` of Deployment `web` has a variable `ZQW0QZ`: candidate 0
//!    reaches it. `toYaml` made a quoted text of the other value, so `zqw1qz` is inside a text and
//!    is no item of `volumes`: candidate 1 is "elsewhere" and reaches nothing. It has another
//!    syntax, so it is put into a group of its own for another render.
//! 3. The next render marks the group [1] only: `extraVolumes: [{name: zqw1qz, emptyDir: {}}]`. Now
//!    a volume `zqw1qz` is in the pod, and candidate 1 reaches Deployment `web`. No group is left.
//!
//! If helm fails in step 1 with `template: app/templates/web.yaml:41:12: executing … at
//! <.Values.extraVolumes>: …`, the message names candidate 1. It goes on to its next syntax, or is
//! left out if it has none, and the group is rendered again. If the message names no candidate,
//! both halves of the group are rendered apart, down to single candidates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::candidates::{CandidateKind, CandidateValue, candidate_marker, find_markers};
use super::pods::{self, SpecLocation, config_maps_in_env_from, list_field, text_field};
use crate::chart::HelmChart;
use crate::edit::embedded::decode_base64;
use crate::manifest::{ManifestDocument, Manifests};
use crate::path::DocumentPath;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::markers::MarkerKind;
use crate::taint::scopes::ChartScopes;
use crate::template_values::{NAMED_VALUE, TemplatePattern};
use crate::texts::{TextOrigin, visit_texts};
use crate::values;

/// The template and the line in it that a message of helm's names.
static FAILED_TEMPLATE: TemplatePattern = TemplatePattern::new(r"template: ([^\s:]+):(\d+)");

/// The most renders for a chart that refuses markers: enough to bisect a few hundred candidates
/// with one or two that are refused. Candidates that are still open then are not used.
const MOST: usize = 24;

/// Renders with several overlays at the same time. An error is helm's message.
pub(super) type RenderBatch<'a> = dyn FnMut(&[Option<String>]) -> Vec<Result<String, String>> + 'a;

/// What a value reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ValueReach {
    /// The containers that get its variables or mounts.
    pub(super) containers: BTreeSet<SpecLocation>,
    /// The pods that get its volumes.
    pub(super) pods: BTreeSet<SpecLocation>,
    /// Whether its variables go through a ConfigMap that the containers take with `envFrom`.
    pub(super) is_config: bool,
    /// Whether it also came out anywhere else, so that using it would change more than containers.
    pub(super) is_elsewhere: bool,
}

/// The candidates of a chart, and what each of them reaches; both lists have the same indexes.
pub(super) struct ValueProbe<'a> {
    pub(super) candidates: Vec<CandidateValue>,
    pub(super) reach: Vec<ValueReach>,
    chart: &'a HelmChart,
    scopes: &'a ChartScopes,
    effective: &'a Value,
    /// The overlay that every render has in addition to the markers.
    below: &'a Value,
    /// The renders that were made.
    spent: usize,
}

impl<'a> ValueProbe<'a> {
    /// A probe that has learned nothing yet. `effective` are the merged values, with `below` on
    /// top.
    pub(super) fn new(
        candidates: Vec<CandidateValue>,
        chart: &'a HelmChart,
        scopes: &'a ChartScopes,
        effective: &'a Value,
        below: &'a Value,
    ) -> Self {
        let reach = vec![ValueReach::default(); candidates.len()];
        Self { candidates, reach, chart, scopes, effective, below, spent: 0 }
    }

    /// The values that templates see without the markers.
    pub(super) fn effective(&self) -> &Value {
        self.effective
    }

    /// The overlay that every render has in addition to the markers.
    pub(super) fn below(&self) -> &Value {
        self.below
    }

    /// The same candidates above another overlay; nothing is learned of them.
    pub(super) fn with_overlay_below<'b>(&'b self, below: &'b Value) -> ValueProbe<'b> {
        ValueProbe::new(self.candidates.clone(), self.chart, self.scopes, self.effective, below)
    }

    /// The indexes of all candidates.
    pub(super) fn all_candidates(&self) -> Vec<usize> {
        (0..self.candidates.len()).collect()
    }

    /// The overlay that puts markers into these candidates.
    pub(super) fn write_marked_overlay(&self, chosen: &[usize]) -> String {
        let mut overlay = self.below.clone();
        for index in chosen {
            let candidate = &self.candidates[*index];
            if let Some(value) = candidate.with_marker(*index) {
                values::set_value(&mut overlay, &candidate.path, value, self.effective);
            }
        }
        overlay.to_string()
    }

    /// Learns from the first marked render, and renders again for candidates that helm refused or
    /// that did not come out as entries, until nothing is open or the renders are used up.
    pub(super) fn learn_until_settled(
        &mut self,
        first: Result<String, String>,
        before: &IndexedRender,
        render: &mut RenderBatch,
    ) {
        // Each render is a process of helm's; four keep a small machine busy.
        const SIDE_BY_SIDE: usize = 4;
        let mut open: Vec<Vec<usize>> = Vec::new();
        self.take_render_result(self.all_candidates(), first, before, &mut open);
        while !open.is_empty() && self.spent < MOST {
            let groups: Vec<Vec<usize>> = open.drain(..open.len().min(SIDE_BY_SIDE)).collect();
            let overlays: Vec<Option<String>> =
                groups.iter().map(|group| Some(self.write_marked_overlay(group))).collect();
            self.spent += overlays.len();
            for (group, result) in groups.into_iter().zip(render(&overlays)) {
                self.take_render_result(group, result, before, &mut open);
            }
        }
    }

    /// Learns from the result of a render in which the candidates of `group` were marked, and adds
    /// to `open` the groups that need another render.
    fn take_render_result(
        &mut self,
        group: Vec<usize>,
        result: Result<String, String>,
        before: &IndexedRender,
        open: &mut Vec<Vec<usize>>,
    ) {
        let message = match result {
            Ok(stream) => {
                let manifests = Manifests::read_reusing(&stream, &before.manifests);
                if manifests.unread.is_empty() {
                    self.learn_reach(&group, before, &IndexedRender::new(manifests));
                    let again = self.retry_mangled(&group);
                    if !again.is_empty() {
                        open.push(again);
                    }
                    return;
                }
                // A marker broke the YAML. There is no message, so the group is halved below.
                String::new()
            }
            Err(message) => message,
        };
        let named = self.find_named_in_message(&group, &message);
        if !named.is_empty() {
            let mut rest = group;
            rest.retain(|index| {
                !named.contains(index) || self.candidates[*index].try_next_syntax()
            });
            open.extend((!rest.is_empty()).then_some(rest));
            return;
        }
        match group.as_slice() {
            [] => {}
            [one] => {
                if self.candidates[*one].try_next_syntax() {
                    open.push(group);
                }
            }
            _ => {
                let (left, right) = group.split_at(group.len() / 2);
                open.push(left.to_vec());
                open.push(right.to_vec());
            }
        }
    }

    /// The candidates that helm's message is about: by the path that a schema complains about, by
    /// the template expression in the message, or by the lines above the one where helm stopped.
    fn find_named_in_message(&self, group: &[usize], message: &str) -> BTreeSet<usize> {
        let paths = self.paths_asked_in(message);
        let is_named = |index: &&usize| {
            let path = &self.candidates[**index].path;
            paths.contains(path) || self.scopes.find_message_line_about(message, path).is_some()
        };
        let named: BTreeSet<usize> = group.iter().filter(is_named).copied().collect();
        if named.is_empty() { self.find_named_above_line(group, message) } else { named }
    }

    /// The paths of all `.Values.…` in a text, for each chart that they may belong to.
    fn paths_asked_in(&self, text: &str) -> BTreeSet<DocumentPath> {
        NAMED_VALUE
            .find_groups(text)
            .flat_map(|keys| {
                let own = DocumentPath::default().keys(keys);
                self.scopes.paths_in_all_charts(&own).collect::<Vec<_>>()
            })
            .collect()
    }

    /// The candidates in the lines above the one that helm names: for `template:
    /// app/templates/x.yaml:198:12`, line 198 may only have `tpl . $`, and the `with
    /// .Values.extraEnv` that sets the dot is a few lines above.
    fn find_named_above_line(&self, group: &[usize], message: &str) -> BTreeSet<usize> {
        // Further up, a `with` rarely belongs to the same block.
        const ABOVE: usize = 8;
        let mut named = BTreeSet::new();
        // Nested templates are named from the outside in; helm stopped in the last one.
        let Some(found) = FAILED_TEMPLATE.find_in(message).last() else { return named };
        let Ok(line) = found[2].parse::<usize>() else { return named };
        self.chart.visit_charts(&DocumentPath::default(), &mut |chart, _| {
            for (name, text) in &chart.templates {
                if !named.is_empty() || !found[1].ends_with(&format!("{}/{name}", chart.name())) {
                    continue;
                }
                let lines: Vec<&str> = text.lines().take(line).collect();
                for line in lines.iter().rev().take(ABOVE) {
                    let paths = self.paths_asked_in(line);
                    let is_it = |index: &&usize| paths.contains(&self.candidates[**index].path);
                    named = group.iter().filter(is_it).copied().collect();
                    if !named.is_empty() {
                        break;
                    }
                }
            }
        });
        named
    }

    /// The candidates that came out, but not as entries, and have another possible syntax. They go
    /// on to it, and what they reached is forgotten.
    fn retry_mangled(&mut self, group: &[usize]) -> Vec<usize> {
        let mut again = Vec::new();
        for index in group {
            let reach = &self.reach[*index];
            let is_reached = !reach.containers.is_empty() || !reach.pods.is_empty();
            if reach.is_elsewhere && !is_reached && self.candidates[*index].has_other_syntax() {
                self.candidates[*index].try_next_syntax();
                self.reach[*index] = ValueReach::default();
                again.push(*index);
            }
        }
        again
    }

    /// Finds the markers of a group in a render: first as entries of pods and containers, then in
    /// ConfigMaps that containers take whole, and last anywhere else.
    fn learn_reach(&mut self, group: &[usize], before: &IndexedRender, marked: &IndexedRender) {
        // Locations are remembered by the plain render's documents, which other renders share.
        let own = |spot: &SpecLocation| {
            Some((before.find_same_document(marked, spot.0)?, spot.1.clone()))
        };
        let all = pods::find_pods(&marked.manifests);
        let mut places: BTreeSet<(usize, DocumentPath)> = BTreeSet::new();
        for pod in &all {
            // A pod that exists only with markers does not exist in the release.
            let Some(spot) = own(&pod.spot) else { continue };
            let volumes = pod.spot.1.key("volumes");
            for (index, volume) in list_field(pod.spec, "volumes").enumerate() {
                let name = text_field(volume, "name");
                if let Some(found) = self.match_marker(group, CandidateKind::Volumes, name) {
                    self.reach[found].pods.insert(spot.clone());
                    places.insert((pod.spot.0, volumes.index(index)));
                }
            }
            for container in &pod.containers {
                let Some(spot) = own(&container.spot) else { continue };
                let lists = [("env", CandidateKind::Env), ("volumeMounts", CandidateKind::Mounts)];
                for (key, holds) in lists {
                    for (index, item) in list_field(container.value, key).enumerate() {
                        // Names of variables are markers in capitals.
                        let name = text_field(item, "name").to_ascii_lowercase();
                        if let Some(found) = self.match_marker(group, holds, &name) {
                            self.reach[found].containers.insert(spot.clone());
                            let path = container.spot.1.key(key).index(index);
                            places.insert((container.spot.0, path));
                        }
                    }
                }
            }
        }
        self.learn_config_maps(group, marked, &all, &own, &mut places);
        for (index, document) in marked.manifests.documents.iter().enumerate() {
            if !may_be_marked(document) {
                continue;
            }
            let mut visit = |path: &DocumentPath, text: &str| {
                let is_known = |at: &(usize, DocumentPath)| at.0 == index && at.1.is_above(path);
                if places.iter().any(is_known) {
                    return;
                }
                for found in find_markers(text).into_iter().filter(|found| group.contains(found)) {
                    self.reach[found].is_elsewhere = true;
                }
            };
            visit_all_texts(&document.value, &mut visit);
        }
    }

    /// Finds markers that are keys of a ConfigMap, and the containers that take it with `envFrom`.
    fn learn_config_maps(
        &mut self,
        group: &[usize],
        marked: &IndexedRender,
        all: &[pods::RenderedPod],
        own: &dyn Fn(&SpecLocation) -> Option<SpecLocation>,
        places: &mut BTreeSet<(usize, DocumentPath)>,
    ) {
        for (index, document) in marked.manifests.documents.iter().enumerate() {
            if document.kind() != "ConfigMap" || !may_be_marked(document) {
                continue;
            }
            let data = document.value.get("data").and_then(Value::as_object);
            for key in data.into_iter().flat_map(|data| data.keys()) {
                let Some(found) =
                    self.match_marker(group, CandidateKind::Env, &key.to_ascii_lowercase())
                else {
                    continue;
                };
                let takers = all
                    .iter()
                    .flat_map(|pod| &pod.containers)
                    .filter(|container| {
                        config_maps_in_env_from(container.value).contains(document.name())
                    })
                    .filter_map(|container| own(&container.spot));
                self.reach[found].containers.extend(takers);
                self.reach[found].is_config = true;
                places.insert((index, DocumentPath::default().key("data").key(key)));
            }
        }
    }

    /// The candidate of the group and kind whose marker is exactly this name.
    fn match_marker(&self, group: &[usize], holds: CandidateKind, name: &str) -> Option<usize> {
        let found = *find_markers(name).first()?;
        let candidate = self.candidates.get(found)?;
        (candidate.kind == holds && name == candidate_marker(found) && group.contains(&found))
            .then_some(found)
    }
}

/// Whether a document may have markers. A quick look at its text, which saves walking most
/// documents; in Secrets the markers are base64.
fn may_be_marked(document: &ManifestDocument) -> bool {
    document.kind() == "Secret" || MarkerKind::Entry.may_be_in(&document.text)
}

/// Calls `visit` with each key and each text of a document, and again with what base64 decodes to.
fn visit_all_texts(document: &Value, visit: &mut impl FnMut(&DocumentPath, &str)) {
    visit_texts(document, &DocumentPath::default(), &mut |path, text, origin| {
        visit(path, text);
        if origin == TextOrigin::Value
            && let Some(decoded) = decode_base64(text)
        {
            visit(path, &decoded);
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_template_that_helm_stopped_in_is_seen() {
        let message = "template: app/templates/x.yaml:198:12: executing \"a\" at <tpl . $>";
        let found = FAILED_TEMPLATE.find_in(message).last().unwrap();
        assert_eq!((&found[1], &found[2]), ("app/templates/x.yaml", "198"));
    }
}
