//! Handles charts that change something else when an image is not their default. What can be mended
//! is mended together: a chart may have several such places. If a text loses
//! lines, and a list in the values adds lines to the same text, the overlay restores them through
//! that list. Otherwise the value with the side effect is left alone, and another way to the same
//! images is looked for; an image without one becomes a leftover with that reason.
//!
//! # Worked example
//!
//! A chart tunes its configuration for its own image, and has a list for further lines:
//!
//! ```text
//! values.yaml:
//!     one: {repository: ghcr.io/org/one}
//!     two: ghcr.io/org/two:2
//!     more: [-mine]
//! templates/config.yaml, key run.conf of a ConfigMap:
//!     -first
//!     {{- if eq .Values.one.repository "ghcr.io/org/one" }}
//!     -tuned
//!     {{- end }}
//!     {{- range .Values.more }}
//!     {{ . }}
//!     {{- end }}
//! ```
//!
//! 1. In the first marked render `one.repository` is `zq0qzghcr.io/org/one`, so `run.conf` is
//!    without `-tuned`. No marker explains that; `learn` records a loss of the lines `["-tuned"]`.
//! 2. `find_list_candidates` finds the lists of texts that the template reads: `more`.
//!    `find_restoring_lists` renders
//!    with `more: [zqr0qz, -mine]`. `run.conf` now has a line `zqr0qz`, so `more` adds lines there,
//!    and the overlay will have `more: [-tuned, -mine]`.
//! 3. The overlay with both images and `more` renders to the same `run.conf` as before. The proof
//!    holds, and nothing else is done.
//!
//! Without the list (`more` is not in the template), the first overlay is refuted: `run.conf`
//! changes.
//!
//! 1. `exclude_culprits` bisects the overlay {one, two}. With {two} alone nothing else changes.
//!    With {one} alone `run.conf` does, so `one.repository` must not be set, with the reason
//!    "setting one.repository also changes …".
//! 2. The solver is asked again without that slot. A second slot that makes up the image (an unset
//!    `one.registry`, say) is used instead; without one, `ghcr.io/org/one` is a leftover with the
//!    reason above, and `two` is moved all the same.

use std::collections::BTreeSet;
use std::slice;

use serde_json::{Map, Value};

use super::attempt::{BestAttempts, OverlayAttempt};
use super::lost_lines::LostLines;
use super::relocator::{Relocator, RenderKnowledge};
use super::solve::SlotAssignment;
use crate::find::ManifestLocation;
use crate::path::{DocumentPath, TextEncoding};
use crate::proof::relocation_proof::UnexpectedChange;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::markers::MarkerKind;
use crate::template_values::NAMED_VALUE;
use crate::values;

/// The most renders that one search for values with side effects may take: enough to bisect a
/// hundred values with two culprits.
const MOST: usize = 32;

impl Relocator<'_> {
    /// Removes the side effects of the attempt that moves most images, and returns the best attempt
    /// without any; else the best one there is. The cheapest comes first: restore lost lines, leave
    /// out the pull policies and pull secrets that carry a side effect, leave out values of images.
    /// What one of these mends stays mended while the next one goes on.
    pub(super) fn remove_side_effects(&mut self, mut best: BestAttempts) -> Option<OverlayAttempt> {
        // A value that is used in place of an excluded one may have side effects too. Three rounds
        // were enough for all charts tried.
        const ROUNDS: usize = 3;
        let Some(mut attempt) = best.take_spoiled() else { return best.into_best() };
        if !attempt.proof.changes.is_empty() {
            attempt = self.restore_changed_lines(attempt);
        }
        if !attempt.proof.changes.is_empty() {
            attempt = self.drop_settings_with_side_effects(attempt);
        }
        // Other slots for the same images may be needed: they are marked beside the first
        // bisection.
        let mut marks = vec![self.alternative_slots()];
        for _ in 0..ROUNDS {
            if attempt.proof.changes.is_empty() || !self.exclude_culprits(&attempt, &mut marks) {
                break;
            }
            let mut found = self.solve_overlay(vec![]);
            let next = found.take_spoiled();
            best.add_all(found);
            let Some(next) = next else { break };
            best.add(std::mem::replace(&mut attempt, next));
        }
        best.add(attempt);
        best.into_best()
    }

    /// Leaves out the pull policies and pull secrets that change something else, and no others.
    fn drop_settings_with_side_effects(&mut self, attempt: OverlayAttempt) -> OverlayAttempt {
        let mut best = attempt;
        if !self.learnt.policies.is_empty() {
            let kept = self.learnt.policies.clone();
            let without = kept.without_chosen();
            if !self.try_settings(&mut best, "the pull policy", |own| own.policies = without) {
                self.learnt.policies = kept;
            }
        }
        if !best.proof.changes.is_empty() && !self.learnt.registry_slots.is_empty() {
            let kept = self.learnt.registry_slots.clone();
            let what = "a registry that a program puts in front of images";
            if !self.try_settings(&mut best, what, |own| own.registry_slots.clear()) {
                self.learnt.registry_slots = kept;
            }
        }
        // All at once first: usually none of them is the reason.
        let kept = self.learnt.secrets.clone();
        if best.proof.changes.is_empty() || kept.is_empty() {
            return best;
        }
        self.learnt.secrets = kept.without_chosen();
        let bare = self.try_overlays(slice::from_ref(&best.assignment), &[]).pop();
        let least = match bare {
            Some(Ok(bare)) => bare.proof.changes.len(),
            _ => best.proof.changes.len(),
        };
        self.learnt.secrets = kept;
        let paths: Vec<DocumentPath> =
            self.learnt.secrets.chosen_values().map(|(path, _)| path.clone()).collect();
        for path in paths {
            if best.proof.changes.len() <= least {
                break;
            }
            let kept = self.learnt.secrets.clone();
            let without = kept.without_value(&path);
            let what = format!("the pull secret in {path}");
            if !self.try_settings(&mut best, &what, |own| own.secrets = without) {
                self.learnt.secrets = kept;
            }
        }
        best
    }

    /// Tries the overlay of an attempt with other settings, and takes it if it changes less. Returns
    /// whether it was taken.
    fn try_settings(
        &mut self,
        best: &mut OverlayAttempt,
        what: &str,
        change: impl FnOnce(&mut RenderKnowledge),
    ) -> bool {
        change(&mut self.learnt);
        let tried = self.try_overlays(slice::from_ref(&best.assignment), &[]).pop();
        let Some(Ok(tried)) = tried.filter(|tried| {
            tried.as_ref().is_ok_and(|tried| tried.proof.changes.len() < best.proof.changes.len())
        }) else {
            return false;
        };
        let kept = |change: &&UnexpectedChange| tried.proof.changes.contains(change);
        let gone = best.proof.changes.iter().find(|change| !kept(change));
        let gone = gone.map(|change| change.place.to_string()).unwrap_or_default();
        self.reported
            .notes
            .push(format!("{what} is not set, because setting it also changes {gone}"));
        *best = tried;
        true
    }

    /// Finds by bisection which values of an overlay change something else, and excludes them.
    /// Returns `false` if none is found. `marks` are lists of slots to learn from beside the first
    /// render.
    fn exclude_culprits(&mut self, attempt: &OverlayAttempt, marks: &mut Vec<Vec<usize>>) -> bool {
        let mut open: Vec<SlotAssignment> = vec![attempt.assignment.clone()];
        let mut is_found = false;
        // With a single value there is nothing to bisect.
        if let [(slot, _)] = attempt.assignment.iter().collect::<Vec<_>>()[..]
            && let Some(change) = attempt.proof.changes.first()
        {
            self.exclude_culprit(*slot, change);
            self.try_overlays(&[], &std::mem::take(marks));
            return true;
        }
        let mut spent = 0;
        while !open.is_empty() && spent < MOST {
            let parts: Vec<SlotAssignment> = std::mem::take(&mut open)
                .into_iter()
                .flat_map(|all| {
                    // `split_off` leaves the keys below the middle one behind.
                    let mut one = all;
                    let middle = one.keys().nth(one.len() / 2).copied().unwrap_or_default();
                    let other = one.split_off(&middle);
                    [one, other]
                })
                .filter(|part| !part.is_empty())
                .collect();
            spent += parts.len();
            for tried in self.try_overlays(&parts, &std::mem::take(marks)).into_iter().flatten() {
                let Some(change) = self.find_change_elsewhere(&tried.proof.changes) else {
                    continue;
                };
                match tried.assignment.keys().collect::<Vec<_>>()[..] {
                    [slot] => {
                        is_found = true;
                        self.exclude_culprit(*slot, change);
                    }
                    _ => open.push(tried.assignment),
                }
            }
        }
        is_found
    }

    /// The first change that is not at an image. Half of an overlay may well make half of a name
    /// (the registry without the repository), which is no side effect.
    fn find_change_elsewhere<'c>(
        &self,
        changes: &'c [UnexpectedChange],
    ) -> Option<&'c UnexpectedChange> {
        let is_image = |change: &UnexpectedChange| {
            self.learnt.moves.iter().any(|site| {
                let ManifestLocation { document, path, .. } = &change.place;
                let in_text = path.inside(TextEncoding::Text);
                site.found.place.document == *document
                    && site.name_paths().any(|own| own == path || *own == in_text)
            })
        };
        // With a part of the overlay, lines are restored that were not lost.
        let is_restored = |change: &UnexpectedChange| {
            let place = (change.place.document, change.place.path.clone());
            self.tried.restored_texts.contains(&place)
        };
        changes.iter().find(|change| !is_image(change) && !is_restored(change))
    }

    /// Excludes a slot from further overlays, with the change as the reason.
    fn exclude_culprit(&mut self, slot: usize, change: &UnexpectedChange) {
        let why = format!("setting {} also changes {}", self.learnt.slots[slot].path, change.place);
        self.tried.unusable.insert(slot, why);
    }

    /// Finds lists that restore what the marked render lost. Whether they really do is proven with
    /// the overlay.
    pub(super) fn restore_lost_lines(&mut self) {
        let losses = std::mem::take(&mut self.learnt.losses);
        self.find_restoring_lists(&losses);
    }

    /// Tries the overlay of an attempt with the lines restored that it loses, and takes it if it
    /// changes less. If lines were restored already and did not help, tries it without them.
    fn restore_changed_lines(&mut self, attempt: OverlayAttempt) -> OverlayAttempt {
        let was_restored = !self.tried.restored.is_empty();
        let kept = (self.tried.restored.clone(), self.tried.restored_texts.clone());
        self.forget_restored_lines();
        let losses: Vec<LostLines> = attempt
            .proof
            .changes
            .iter()
            .filter_map(|UnexpectedChange { place, before, after }| {
                LostLines::new(place.document, &place.path, before.as_deref()?, after.as_deref()?)
            })
            .collect();
        if !was_restored {
            self.find_restoring_lists(&losses);
        }
        if self.tried.restored.is_empty() && !was_restored {
            return attempt;
        }
        match self.try_overlays(slice::from_ref(&attempt.assignment), &[]).pop() {
            Some(Ok(tried)) if tried.proof.changes.len() < attempt.proof.changes.len() => tried,
            _ => {
                (self.tried.restored, self.tried.restored_texts) = kept;
                attempt
            }
        }
    }

    /// Restores no lines any more.
    fn forget_restored_lines(&mut self) {
        self.tried.restored.clear();
        self.tried.restored_texts.clear();
    }

    /// Finds for each text that lost lines a list that adds lines to it, and sets `restored` to
    /// these lists with the lost lines in front.
    fn find_restoring_lists(&mut self, losses: &[LostLines]) {
        let lists = self.find_list_candidates(losses);
        if lists.is_empty() {
            return;
        }
        // All lists get a marker in one render. A chart may use the items for something else, so a
        // line has to be the marker and nothing more.
        let mut probe = Value::Object(Map::new());
        for (index, path) in lists.iter().enumerate() {
            let value = self.prepend_items(path, &[list_marker(index)]);
            values::set_value(&mut probe, path, value, &self.known.effective);
        }
        // Without any image changed, so that a marker in the text can only come from a list.
        let Some(Ok(stream)) = self.render_all(&[Some(probe.to_string())]).pop() else { return };
        let Ok(probed) = self.learnt.read_render(&stream) else { return };
        for loss in losses {
            let Some(text) = self.text_that_lost_lines(loss, &probed) else { continue };
            let Some(index) = (0..lists.len())
                .find(|index| text.lines().any(|line| line.trim() == list_marker(*index)))
            else {
                continue;
            };
            let value = self.prepend_items(&lists[index], &loss.lines);
            self.tried.restored.insert(lists[index].clone(), value);
            self.tried.restored_texts.insert((loss.document, loss.path.clone()));
        }
    }

    /// The lists of texts in the values that the templates of these documents read.
    fn find_list_candidates(&self, losses: &[LostLines]) -> Vec<DocumentPath> {
        let templates: BTreeSet<&str> = losses
            .iter()
            .filter_map(|loss| {
                self.learnt.before.manifests.documents[loss.document].template.as_deref()
            })
            .collect();
        let mut lists = BTreeSet::new();
        self.known.chart.visit_charts(&DocumentPath::default(), &mut |chart, scope| {
            for (name, text) in &chart.templates {
                // `# Source: app/templates/config.yaml`: helm names a template by chart and path.
                let whole = format!("{}/{name}", chart.name());
                if !templates.iter().any(|template| template.ends_with(&whole)) {
                    continue;
                }
                for keys in NAMED_VALUE.find_groups(text) {
                    let path = scope.keys(keys);
                    let items = path.find_value(&self.known.effective).and_then(Value::as_array);
                    if items.is_some_and(|items| items.iter().all(Value::is_string)) {
                        lists.insert(self.known.scopes.path_to_set(&path));
                    }
                }
            }
        });
        lists.into_iter().collect()
    }

    /// A list of the values with more items in front, as helm replaces lists as a whole.
    fn prepend_items(&self, path: &DocumentPath, more: &[String]) -> Value {
        let own =
            path.find_value(&self.known.effective).and_then(Value::as_array).into_iter().flatten();
        more.iter().cloned().map(Value::from).chain(own.cloned()).collect()
    }

    /// The text that lost lines, in another render.
    fn text_that_lost_lines(&self, loss: &LostLines, rendered: &IndexedRender) -> Option<String> {
        let document = rendered.find_same_document(&self.learnt.before, loss.document)?;
        rendered.text_at(document, &loss.path)
    }
}

/// The item that marks a list.
fn list_marker(index: usize) -> String {
    MarkerKind::TextList.marker(index).to_string()
}
