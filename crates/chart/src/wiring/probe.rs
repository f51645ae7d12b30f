//! Where the values that take something come out: each gets a marker of its own, all in one render.
//! A chart that refuses one is asked again without it, or in another of its forms.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::candidates::{Candidate, Holds, mark, marks};
use super::pods::{self, Spot, config_maps, list, text};
use crate::chart::Chart;
use crate::manifest::{Document, Manifests};
use crate::path::Path;
use crate::relocate::rendered::Rendered;
use crate::relocate::scopes::Scopes;
use crate::values;

/// Renders that are spent on a chart that refuses markers; it is not worth more.
const MOST: usize = 24;

/// Renders side by side; helm's message where it refuses.
pub(super) type Streams<'a> = dyn FnMut(&[Option<String>]) -> Vec<Result<String, String>> + 'a;

/// What a value reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// The containers that get its variables or mounts.
    pub(super) containers: BTreeSet<Spot>,
    /// The pods that get its volumes.
    pub(super) pods: BTreeSet<Spot>,
    /// Whether its variables go through a ConfigMap.
    pub(super) is_config: bool,
    /// Whether it came out where nothing of the wiring belongs.
    pub(super) is_elsewhere: bool,
}

/// The values of a chart that take something, and what each reaches.
pub(super) struct Probe<'a> {
    pub(super) candidates: Vec<Candidate>,
    pub(super) reach: Vec<Reach>,
    chart: &'a Chart,
    scopes: &'a Scopes,
    effective: &'a Value,
    /// What every render gets below the markers.
    below: &'a Value,
    spent: usize,
}

impl<'a> Probe<'a> {
    pub(super) fn new(
        candidates: Vec<Candidate>,
        chart: &'a Chart,
        scopes: &'a Scopes,
        effective: &'a Value,
        below: &'a Value,
    ) -> Self {
        let reach = vec![Reach::default(); candidates.len()];
        Self { candidates, reach, chart, scopes, effective, below, spent: 0 }
    }

    /// The values that templates see below the markers.
    pub(super) fn effective(&self) -> &Value {
        self.effective
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.candidates.len()).collect()
    }

    /// The overlay that marks these.
    pub(super) fn overlay(&self, chosen: &[usize]) -> String {
        let mut overlay = self.below.clone();
        for index in chosen {
            let candidate = &self.candidates[*index];
            if let Some(value) = candidate.marked(*index) {
                values::set(&mut overlay, &candidate.path, value, self.effective);
            }
        }
        overlay.to_string()
    }

    /// Learns from the first marked render, and asks again where that was refused or came out
    /// mangled. `render` renders side by side.
    pub(super) fn learn_all(
        &mut self,
        first: Result<String, String>,
        before: &Rendered,
        render: &mut Streams,
    ) {
        const SIDE_BY_SIDE: usize = 4;
        let mut open: Vec<Vec<usize>> = Vec::new();
        self.answer(self.all(), first, before, &mut open);
        while !open.is_empty() && self.spent < MOST {
            let groups: Vec<Vec<usize>> = open.drain(..open.len().min(SIDE_BY_SIDE)).collect();
            let overlays: Vec<Option<String>> =
                groups.iter().map(|group| Some(self.overlay(group))).collect();
            self.spent += overlays.len();
            for (group, result) in groups.into_iter().zip(render(&overlays)) {
                self.answer(group, result, before, &mut open);
            }
        }
    }

    /// Takes in what a render of marked values gave.
    fn answer(
        &mut self,
        group: Vec<usize>,
        result: Result<String, String>,
        before: &Rendered,
        open: &mut Vec<Vec<usize>>,
    ) {
        let message = match result {
            Ok(stream) => {
                let manifests = Manifests::read_like(&stream, &before.manifests);
                if manifests.unread.is_empty() {
                    self.learn(&group, before, &Rendered::new(manifests));
                    let again = self.mangled(&group);
                    if !again.is_empty() {
                        open.push(again);
                    }
                    return;
                }
                String::new()
            }
            Err(message) => message,
        };
        let named = self.named(&group, &message);
        if !named.is_empty() {
            let mut rest = group;
            rest.retain(|index| !named.contains(index) || self.candidates[*index].next_form());
            open.extend((!rest.is_empty()).then_some(rest));
            return;
        }
        match group.as_slice() {
            [] => {}
            [one] => {
                if self.candidates[*one].next_form() {
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

    /// Those that helm's message is about: by a schema's path, by the template's expression, or by
    /// the last lines above the one that helm stopped at.
    fn named(&self, group: &[usize], message: &str) -> BTreeSet<usize> {
        let paths = self.asked_in(message);
        let is_named = |index: &&usize| {
            let path = &self.candidates[**index].path;
            paths.contains(path) || self.scopes.line_about(message, path).is_some()
        };
        let named: BTreeSet<usize> = group.iter().filter(is_named).copied().collect();
        if named.is_empty() { self.named_above(group, message) } else { named }
    }

    /// The paths that a text asks the values for, below any chart.
    fn asked_in(&self, text: &str) -> BTreeSet<Path> {
        let Ok(asked) = Regex::new(r"\.Values\.([A-Za-z0-9_.]+)") else { return BTreeSet::new() };
        let mut paths = BTreeSet::new();
        for found in asked.captures_iter(text) {
            let own = found[1].split('.').fold(Path::default(), |path, key| path.key(key));
            paths.extend(self.scopes.places(&own));
        }
        paths
    }

    /// Helm says `template: chart/templates/x.yaml:198:12`, and there stands `tpl . $`: what the dot
    /// is stands a few lines above.
    fn named_above(&self, group: &[usize], message: &str) -> BTreeSet<usize> {
        const ABOVE: usize = 8;
        let none = BTreeSet::new;
        let Ok(stopped) = Regex::new(r"template: ([^\s:]+):(\d+)") else { return none() };
        let Some(found) = stopped.captures_iter(message).last() else { return none() };
        let Ok(line) = found[2].parse::<usize>() else { return none() };
        let mut named = none();
        self.chart.each(&Path::default(), &mut |chart, _| {
            for (name, text) in &chart.templates {
                if !named.is_empty() || !found[1].ends_with(&format!("{}/{name}", chart.name())) {
                    continue;
                }
                let lines: Vec<&str> = text.lines().take(line).collect();
                for line in lines.iter().rev().take(ABOVE) {
                    let paths = self.asked_in(line);
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

    /// Those that came out, but not as entries, and that may be written otherwise.
    fn mangled(&mut self, group: &[usize]) -> Vec<usize> {
        let mut again = Vec::new();
        for index in group {
            let reach = &self.reach[*index];
            let is_reached = !reach.containers.is_empty() || !reach.pods.is_empty();
            if reach.is_elsewhere && !is_reached && self.candidates[*index].has_other_form() {
                self.candidates[*index].next_form();
                self.reach[*index] = Reach::default();
                again.push(*index);
            }
        }
        again
    }

    fn learn(&mut self, group: &[usize], before: &Rendered, marked: &Rendered) {
        let own = |spot: &Spot| Some((before.same_document(marked, spot.0)?, spot.1.clone()));
        let all = pods::all(&marked.manifests);
        let mut places: BTreeSet<(usize, Path)> = BTreeSet::new();
        for pod in &all {
            // What comes and goes with a marker is reached by none.
            let Some(spot) = own(&pod.spot) else { continue };
            let volumes = pod.spot.1.key("volumes");
            for (index, volume) in list(pod.spec, "volumes").enumerate() {
                let name = text(volume, "name");
                if let Some(found) = self.is(group, Holds::Volumes, name) {
                    self.reach[found].pods.insert(spot.clone());
                    places.insert((pod.spot.0, volumes.index(index)));
                }
            }
            for container in &pod.containers {
                let Some(spot) = own(&container.spot) else { continue };
                let lists = [("env", Holds::Env), ("volumeMounts", Holds::Mounts)];
                for (key, holds) in lists {
                    for (index, item) in list(container.value, key).enumerate() {
                        let name = text(item, "name").to_ascii_lowercase();
                        if let Some(found) = self.is(group, holds, &name) {
                            self.reach[found].containers.insert(spot.clone());
                            let path = container.spot.1.key(key).index(index);
                            places.insert((container.spot.0, path));
                        }
                    }
                }
            }
        }
        self.in_config_maps(group, marked, &all, &own, &mut places);
        for (index, document) in marked.manifests.documents.iter().enumerate() {
            if !may_be_marked(document) {
                continue;
            }
            let mut visit = |path: &Path, text: &str| {
                let is_known = |at: &(usize, Path)| at.0 == index && at.1.is_above(path);
                if places.iter().any(is_known) {
                    return;
                }
                for found in marks(text).into_iter().filter(|found| group.contains(found)) {
                    self.reach[found].is_elsewhere = true;
                }
            };
            texts(&document.value, &Path::default(), &mut visit);
        }
    }

    /// Variables that go through a ConfigMap which containers take whole.
    fn in_config_maps(
        &mut self,
        group: &[usize],
        marked: &Rendered,
        all: &[pods::Pod],
        own: &dyn Fn(&Spot) -> Option<Spot>,
        places: &mut BTreeSet<(usize, Path)>,
    ) {
        for (index, document) in marked.manifests.documents.iter().enumerate() {
            if document.kind() != "ConfigMap" || !may_be_marked(document) {
                continue;
            }
            let data = document.value.get("data").and_then(Value::as_object);
            for key in data.into_iter().flat_map(|data| data.keys()) {
                let Some(found) = self.is(group, Holds::Env, &key.to_ascii_lowercase()) else {
                    continue;
                };
                let takers = all
                    .iter()
                    .flat_map(|pod| &pod.containers)
                    .filter(|container| config_maps(container.value).contains(document.name()))
                    .filter_map(|container| own(&container.spot));
                self.reach[found].containers.extend(takers);
                self.reach[found].is_config = true;
                places.insert((index, Path::default().key("data").key(key)));
            }
        }
    }

    /// The candidate whose marker a name is.
    fn is(&self, group: &[usize], holds: Holds, name: &str) -> Option<usize> {
        let found = *marks(name).first()?;
        let candidate = self.candidates.get(found)?;
        (candidate.holds == holds && name == mark(found) && group.contains(&found)).then_some(found)
    }
}

/// A quick look that saves walking most documents.
fn may_be_marked(document: &Document) -> bool {
    let text = &document.text;
    document.kind() == "Secret" || text.contains("zqw") || text.contains("ZQW")
}

/// Calls `visit` with each key and each text of a document, those of Secrets decoded.
fn texts(value: &Value, path: &Path, visit: &mut impl FnMut(&Path, &str)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = path.key(key);
                visit(&path, key);
                texts(value, &path, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                texts(item, &path.index(index), visit);
            }
        }
        Value::String(text) => {
            visit(path, text);
            if let Some(decoded) = crate::find::text::decode(text) {
                visit(path, &decoded);
            }
        }
        _ => {}
    }
}
