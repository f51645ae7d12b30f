//! Learns from marked renders which values make up which image. A marker such as `zq7qz` in front
//! of value number 7 shows up in the output wherever a template puts that value.

use std::collections::BTreeSet;

use super::lost_lines::LostLines;
use super::relocator::{RelocationSubject, Relocator, RenderKnowledge};
use super::solve::Composition;
use crate::find::registries::find_registries;
use crate::path::DocumentPath;
use crate::proof::differences::{LeafDifference, find_differences};
use crate::proof::expected_changes::is_changed_hash;
use crate::taint::guards::open_guards;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::markers::{extract_slot_markers, may_be_marked};
use crate::taint::slots::{self, SlotReason, ValueSlot};

/// Whether the values for pull secrets and pull policies get markers too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtraMarkers {
    /// They get markers.
    Include,
    /// They stay as they are, as in every render after the first marked one.
    Omit,
}

impl RenderKnowledge {
    /// The slots for the first marked render: all that are set, and of the registries that the
    /// chart leaves unset the global ones and those with no other part of an image beside them.
    /// Others are left out, because a chart that gets an image's own registry does not read the
    /// global one.
    pub(super) fn first_slots_to_mark(&self) -> Vec<usize> {
        let likely: BTreeSet<_> = self
            .slots
            .iter()
            .filter(|slot| slot.reason == SlotReason::Likely)
            .map(|slot| slot.path.parent())
            .collect();
        self.filter_slots(|slot| match slot.reason {
            SlotReason::Likely => true,
            SlotReason::Unset => slot.is_global() || !likely.contains(&slot.path.parent()),
            SlotReason::Part | SlotReason::UnsetName => false,
        })
    }

    /// Whether an image was only seen with an unset registry set, so that it is not known what
    /// makes it up without. A marker in `global.registry` hides the image's own registry.
    pub(super) fn is_hidden_by_registry(&self, goal: usize) -> bool {
        let forms = &self.goals[goal].compositions;
        !forms.is_empty() && forms.iter().all(|form| !form.given.is_empty())
    }

    /// Adds the values whose text is a part of one of these images, whatever their keys are, and
    /// returns their numbers.
    fn add_partial_slots(
        &mut self,
        subject: &RelocationSubject,
        open: &BTreeSet<usize>,
    ) -> Vec<usize> {
        let texts: Vec<&str> = open.iter().map(|site| self.moves[*site].text.as_str()).collect();
        let known: BTreeSet<_> =
            self.slots.iter().map(|slot| (slot.path.clone(), slot.start)).collect();
        let digests: Vec<&str> = open
            .iter()
            .filter_map(|site| Some(self.moves[*site].digest.as_ref()?.was.as_str()))
            .collect();
        let more = slots::find_slots(subject.chart, &subject.effective, &texts)
            .into_iter()
            .chain(slots::find_digest_slots(&subject.scopes, &subject.effective, &digests));
        let more = more.filter(|slot| !known.contains(&(slot.path.clone(), slot.start)));
        let start = self.slots.len();
        // Appended, because the numbers of slots are in the compositions that are known already.
        self.slots.extend(more.map(|slot| ValueSlot { reason: SlotReason::Part, ..slot }));
        (start..self.slots.len()).collect()
    }

    /// A measure of what is known of how images are made up; it grows when something was learned.
    pub(super) fn count_known_compositions(&self) -> usize {
        self.goals.iter().flat_map(|goal| &goal.compositions).map(|form| 1 + form.slots.len()).sum()
    }

    /// Adds the compositions that a marked render shows. Without its markers, a text made of set
    /// values reads as in the plain render; an unset registry that got a marker makes it another.
    pub(super) fn learn_compositions(&mut self, marked: &IndexedRender) {
        for (site, goal) in self.moves.iter().zip(&mut self.goals) {
            let Some(compose_text) = site.name_text_in(&self.before, marked) else { continue };
            let (clean, slots) = extract_slot_markers(&compose_text);
            // A chart's own text may look like a marker, with a number that is no slot's.
            if slots.iter().any(|(slot, _)| *slot >= self.slots.len()) {
                continue;
            }
            let is_unset = |slot: &usize| self.slots[*slot].is_unset();
            let given: BTreeSet<usize> =
                slots.iter().map(|(slot, _)| *slot).filter(is_unset).collect();
            // Something else than a value made this text: nothing to learn from it.
            if given.is_empty() && clean != site.text {
                continue;
            }
            match goal.compositions.iter_mut().find(|form| form.given == given) {
                Some(form) if form.text == clean => {
                    form.slots.extend(slots);
                    form.slots.sort_by_key(|(slot, start)| (*start, *slot));
                    form.slots.dedup();
                }
                // The same registries lead to another text: the first one seen counts.
                Some(_) => {}
                None => goal.compositions.push(Composition { text: clean, slots, given }),
            }
        }
    }

    /// The changes of the marked render that no marker explains, each with its document. Either
    /// something differs with each render, or the chart does something else when an image is not
    /// its default. `None` stands for a document that is missing.
    fn find_unmarked_changes(
        &self,
        marked: &IndexedRender,
        guards: &[DocumentPath],
    ) -> Vec<(usize, Option<LeafDifference>)> {
        let mut all = Vec::new();
        for (index, document) in self.before.manifests.documents.iter().enumerate() {
            let Some(same) = marked.find_same_document(&self.before, index) else {
                all.push((index, None));
                continue;
            };
            let after = &marked.manifests.documents[same];
            if document.text == after.text {
                continue;
            }
            let differences = find_differences(&document.value, &after.value).into_iter();
            let strange = differences.filter(|difference| {
                let new = difference.after.as_deref().unwrap_or_default();
                let old = difference.before.as_deref().unwrap_or_default();
                let key = difference.path.last_key().unwrap_or_default();
                let is_guard = guards.iter().any(|guard| guard.last_key() == Some(key));
                !is_guard && !is_changed_hash(key, old, new) && has_unmarked_change(old, new)
            });
            all.extend(strange.map(|difference| (index, Some(difference))));
        }
        all
    }
}

impl Relocator<'_> {
    /// The slots that are set, and the unset registries that the first marked render left out:
    /// other ways to the same images.
    pub(super) fn alternative_slots(&self) -> Vec<usize> {
        let first: BTreeSet<usize> = self.learnt.first_slots_to_mark().into_iter().collect();
        let mut slots = self.likely_slots();
        let rest = self.learnt.filter_slots(|slot| slot.reason == SlotReason::Unset).into_iter();
        slots.extend(rest.filter(|s| !first.contains(s) && !self.tried.unusable.contains_key(s)));
        slots
    }

    /// Whether a marker in an unset registry hid a way that is needed: of an image that does not
    /// move, or of images that are moved elsewhere by a value of their own, which may move them here
    /// too and make the registry a line too many.
    pub(super) fn has_hidden_way(&self) -> bool {
        let goals = &self.learnt.goals;
        let is_hidden = |goal: &usize| self.learnt.is_hidden_by_registry(*goal);
        let (hidden, seen): (Vec<_>, Vec<_>) = (0..goals.len()).partition(is_hidden);
        if self.unmoved_goals().iter().any(is_hidden) {
            return true;
        }
        let is_elsewhere =
            |goal: &usize| seen.iter().any(|own| goals[*own].was == goals[*goal].was);
        !hidden.is_empty() && hidden.iter().all(is_elsewhere)
    }

    /// Lists of slots to mark beside the first overlay, if it will not move everything: the
    /// alternative slots, values that are a part of a rendered reference by their text alone, and
    /// values that would name an image if they were set. These come later because a marker in any
    /// such value may change more than an image.
    pub(super) fn further_slots_to_mark(&mut self, knows_other_ways: bool) -> Vec<Vec<usize>> {
        let open = self.unmoved_goals();
        if open.is_empty() {
            return vec![];
        }
        let mut marks = Vec::new();
        let other = self.alternative_slots();
        if !knows_other_ways && other.len() > self.likely_slots().len() {
            marks.push(other);
        }
        // A marker of a pull secret may have spoilt the text that an image is in.
        if !self.learnt.secrets.is_unused() || !self.learnt.policies.is_empty() {
            marks.push(self.filter_usable_slots(&self.learnt.first_slots_to_mark()));
        }
        let parts = self.learnt.add_partial_slots(&self.known, &open);
        if !parts.is_empty() {
            marks.push(parts);
        }
        let unset = self.unset_name_slots();
        if !unset.is_empty() {
            marks.push([self.likely_slots(), unset].concat());
        }
        marks
    }

    /// The values that are not set and would name an image.
    pub(super) fn unset_name_slots(&self) -> Vec<usize> {
        let slots = self.learnt.filter_slots(|slot| slot.reason == SlotReason::UnsetName);
        self.filter_usable_slots(&slots)
    }

    /// The overlay that puts markers into these slots.
    pub(super) fn write_marked_overlay(&self, slots: &[usize], extras: ExtraMarkers) -> String {
        let mut values = slots::mark_slots(&self.learnt.slots, slots, &self.known.effective);
        open_guards(&self.known.guards, &mut values, &self.known.effective);
        if extras == ExtraMarkers::Include {
            self.learnt.secrets.set_markers(&mut values, &self.known.effective);
            self.learnt.policies.set_markers(&mut values, &self.known.effective);
        }
        values.to_string()
    }

    /// Learns from the first marked render, in which everything is marked: compositions, pull
    /// secrets, pull policies, lines that texts lost, and whether anything differs without a
    /// marker.
    pub(super) fn learn_from_first_marked_render(&mut self, stream: &str) {
        let Ok(marked) = self.learnt.read_render(stream) else { return };
        self.learnt.learn_compositions(&marked);
        self.learnt.secrets.choose_reaching_values(&self.learnt.before, &marked);
        self.learnt.policies.choose_rendered_values(&marked);
        self.learn_registries(&marked);
        let strange = self.learnt.find_unmarked_changes(&marked, &self.known.guards);
        let losses = strange.iter().filter_map(|(document, difference)| {
            let LeafDifference { path, before, after } = difference.as_ref()?;
            let after = extract_slot_markers(after.as_deref()?).0;
            LostLines::new(*document, path, before.as_deref()?, &after)
        });
        self.learnt.losses = losses.collect();
        self.learnt.is_unsteady = self.learnt.losses.len() < strange.len();
    }

    /// Learns which slots are registries that stand alone in a configuration and are no part of an
    /// image: the overlay moves them too.
    fn learn_registries(&mut self, marked: &IndexedRender) {
        let learnt = &mut self.learnt;
        let findings = learnt.before.findings();
        let in_images: BTreeSet<usize> = learnt
            .goals
            .iter()
            .flat_map(|goal| &goal.compositions)
            .flat_map(|form| form.slots.iter().map(|(slot, _)| *slot))
            .collect();
        let mut taken = findings.paths_by_document();
        for (index, document) in learnt.before.manifests.documents.iter().enumerate() {
            let taken = taken.remove(&index).unwrap_or_default();
            for (path, text) in find_registries(document, &taken) {
                let same = marked.find_same_document(&learnt.before, index);
                let now = same.and_then(|same| marked.text_at(same, &path)).unwrap_or_default();
                let (clean, slots) = extract_slot_markers(&now);
                if let [(slot, 0)] = slots[..]
                    && clean == text
                    && learnt.slots.get(slot).is_some_and(|slot| slot.text == text)
                    && !in_images.contains(&slot)
                    && let Some(wanted) = self.known.target.site_registry(&text)
                {
                    learnt.registry_slots.insert(slot, wanted);
                }
            }
        }
    }

    /// Learns compositions from a later marked render.
    pub(super) fn learn_from_marked_render(&mut self, stream: &str) {
        if let Ok(marked) = self.learnt.read_render(stream) {
            self.learnt.learn_compositions(&marked);
        }
    }
}

/// Whether a text lost more lines than there are marked ones, or has new lines without a marker.
fn has_unmarked_change(old: &str, new: &str) -> bool {
    let is_marked = |line: &&str| may_be_marked(line);
    let marked = new.lines().filter(is_marked).count();
    let kept: BTreeSet<&str> = new.lines().collect();
    let lost = old.lines().filter(|line| !kept.contains(line)).count();
    let was: BTreeSet<&str> = old.lines().collect();
    let strange = new.lines().filter(|line| !was.contains(line) && !is_marked(line)).count();
    lost > marked || strange > 0
}
