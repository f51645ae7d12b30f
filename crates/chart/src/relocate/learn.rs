//! Learns from marked renders which values make up which image. A marker such as `zq7qz` in front
//! of value number 7 shows up in the output wherever a template puts that value; `slot` has the
//! markers.

use std::collections::BTreeSet;

use super::Relocator;
use super::difference::{LeafDifference, find_differences};
use super::expected_changes::is_checksum;
use super::side_effects::LostLines;
use super::slot::{self, SlotReason};
use super::solve::Composition;

/// Whether the values for pull secrets and pull policies get markers too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtraMarkers {
    /// They get markers.
    Include,
    /// They stay as they are, as in every render after the first marked one.
    Omit,
}

impl Relocator<'_> {
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
            SlotReason::Part => false,
        })
    }

    /// The slots that are set, and the unset registries that the first marked render left out:
    /// other ways to the same images.
    pub(super) fn alternative_slots(&self) -> Vec<usize> {
        let first: BTreeSet<usize> = self.first_slots_to_mark().into_iter().collect();
        let mut slots = self.likely_slots();
        let rest = self.filter_slots(|slot| slot.reason == SlotReason::Unset).into_iter();
        slots.extend(rest.filter(|s| !first.contains(s) && !self.unusable.contains_key(s)));
        slots
    }

    /// Lists of slots to mark beside the first overlay, if it will not move everything: the
    /// alternative slots, and values that are a part of a rendered reference by their text alone.
    /// These come later because a marker in any such value may change more than an image.
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
        let parts = self.add_partial_slots(&open);
        if !parts.is_empty() {
            marks.push(parts);
        }
        marks
    }

    /// Whether an image was only seen with an unset registry set, so that it is not known what
    /// makes it up without. A marker in `global.registry` hides the image's own registry.
    pub(super) fn is_hidden_by_registry(&self, wish: usize) -> bool {
        let forms = &self.goals[wish].compositions;
        !forms.is_empty() && forms.iter().all(|form| !form.given.is_empty())
    }

    /// Adds the values whose text is a part of one of these images, whatever their keys are, and
    /// returns their numbers.
    fn add_partial_slots(&mut self, open: &BTreeSet<usize>) -> Vec<usize> {
        let texts: Vec<&str> = open.iter().map(|site| self.moves[*site].text.as_str()).collect();
        let known: BTreeSet<_> =
            self.slots.iter().map(|slot| (slot.path.clone(), slot.start)).collect();
        let more = slot::find_slots(self.chart, &self.effective, &texts).into_iter();
        let more = more.filter(|slot| !known.contains(&(slot.path.clone(), slot.start)));
        let start = self.slots.len();
        // Appended, because the numbers of slots are in the compositions that are known already.
        self.slots.extend(more.map(|slot| slot::ValueSlot { reason: SlotReason::Part, ..slot }));
        (start..self.slots.len()).collect()
    }

    /// The overlay that puts markers into these slots.
    pub(super) fn write_marked_overlay(&self, slots: &[usize], extras: ExtraMarkers) -> String {
        let mut values = slot::mark_slots(&self.slots, slots, &self.effective);
        self.set_guard_values(&mut values);
        if extras == ExtraMarkers::Include {
            self.secrets.set_markers(&mut values, &self.effective);
            self.policies.set_markers(&mut values, &self.effective);
        }
        values.to_string()
    }

    /// Learns from the first marked render, in which everything is marked: compositions, pull
    /// secrets, pull policies, lines that texts lost, and whether anything differs without a
    /// marker.
    pub(super) fn learn_from_first_marked_render(&mut self, stream: &str) {
        let Ok(marked) = self.read_render(stream) else { return };
        self.learn_compositions(&marked);
        self.secrets.choose_reaching_values(&self.moves, &self.before, &marked);
        self.policies.choose_rendered_values(&marked);
        let strange = self.find_unmarked_changes(&marked);
        // Only if every unmarked change is lost lines are lists looked for that restore them; `?`
        // on any other change makes the whole collection `None`.
        let losses = strange.iter().map(|(document, difference)| {
            let LeafDifference { path, before, after } = difference.as_ref()?;
            let after = slot::extract_markers(after.as_deref()?).0;
            LostLines::new(*document, path, before.as_deref()?, &after)
        });
        self.losses = losses.collect::<Option<_>>().unwrap_or_default();
        self.is_unsteady = self.losses.is_empty() && !strange.is_empty();
    }

    /// Learns compositions from a later marked render.
    pub(super) fn learn_from_marked_render(&mut self, stream: &str) {
        if let Ok(marked) = self.read_render(stream) {
            self.learn_compositions(&marked);
        }
    }

    /// A measure of what is known of how images are made up; it grows when something was learned.
    pub(super) fn count_known_compositions(&self) -> usize {
        self.goals.iter().flat_map(|wish| &wish.compositions).map(|form| 1 + form.slots.len()).sum()
    }

    /// Adds the compositions that a marked render shows. Without its markers, a text made of set
    /// values reads as in the plain render; an unset registry that got a marker makes it another.
    fn learn_compositions(&mut self, marked: &super::IndexedRender) {
        for (site, wish) in self.moves.iter().zip(&mut self.goals) {
            let Some(compose_text) = site.name_text_in(&self.before, marked) else { continue };
            let (clean, slots) = slot::extract_markers(&compose_text);
            // A chart's own text may look like a marker, with a number that is no slot's.
            if slots.iter().any(|(slot, _)| *slot >= self.slots.len()) {
                continue;
            }
            let is_unset = |slot: &usize| self.slots[*slot].reason == SlotReason::Unset;
            let given: BTreeSet<usize> =
                slots.iter().map(|(slot, _)| *slot).filter(is_unset).collect();
            // Something else than a value made this text: nothing to learn from it.
            if given.is_empty() && clean != site.text {
                continue;
            }
            match wish.compositions.iter_mut().find(|form| form.given == given) {
                Some(form) if form.text == clean => {
                    form.slots.extend(slots);
                    form.slots.sort_by_key(|(slot, start)| (*start, *slot));
                    form.slots.dedup();
                }
                // The same registries lead to another text: the first one seen counts.
                Some(_) => {}
                None => wish.compositions.push(Composition { text: clean, slots, given }),
            }
        }
    }

    /// The changes of the marked render that no marker explains, each with its document. Either
    /// something differs with each render, or the chart does something else when an image is not
    /// its default. `None` stands for a document that is missing.
    fn find_unmarked_changes(
        &self,
        marked: &super::IndexedRender,
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
                let is_guard = self.guards.iter().any(|guard| guard.last_key() == Some(key));
                let is_checksum = is_checksum(key, old) && is_checksum(key, new);
                !is_guard && !is_checksum && has_unmarked_change(old, new)
            });
            all.extend(strange.map(|difference| (index, Some(difference))));
        }
        all
    }
}

/// Whether a text lost more lines than there are marked ones, or has new lines without a marker.
fn has_unmarked_change(old: &str, new: &str) -> bool {
    let is_marked = |line: &&str| line.contains("zq") && line.contains("qz");
    let marked = new.lines().filter(is_marked).count();
    let kept: BTreeSet<&str> = new.lines().collect();
    let lost = old.lines().filter(|line| !kept.contains(line)).count();
    let was: BTreeSet<&str> = old.lines().collect();
    let strange = new.lines().filter(|line| !was.contains(line) && !is_marked(line)).count();
    lost > marked || strange > 0
}
