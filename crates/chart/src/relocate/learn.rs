//! Learns from marked renders which values make up which image. A marker such as `zq7qz` in front
//! of value number 7 shows up in the output wherever a template puts that value; `slot` has the
//! markers.

use std::collections::BTreeSet;

use super::Mover;
use super::difference::{Difference, differences};
use super::explained::is_checksum;
use super::side_effects::Loss;
use super::slot::{self, Reason};
use super::solve::Form;

/// Whether the values for pull secrets and pull policies get markers too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extras {
    /// They get markers.
    Mark,
    /// They stay as they are, as in every render after the first marked one.
    Leave,
}

impl Mover<'_> {
    /// The slots for the first marked render: all that are set, and of the registries that the
    /// chart leaves unset the global ones and those with no other part of an image beside them.
    /// Others are left out, because a chart that gets an image's own registry does not read the
    /// global one.
    pub(super) fn first_marks(&self) -> Vec<usize> {
        let likely: BTreeSet<_> = self
            .slots
            .iter()
            .filter(|slot| slot.reason == Reason::Likely)
            .map(|slot| slot.path.parent())
            .collect();
        self.chosen(|slot| match slot.reason {
            Reason::Likely => true,
            Reason::Unset => slot.is_global() || !likely.contains(&slot.path.parent()),
            Reason::Part => false,
        })
    }

    /// The slots that are set, and the unset registries that the first marked render left out:
    /// other ways to the same images.
    pub(super) fn other_ways(&self) -> Vec<usize> {
        let first: BTreeSet<usize> = self.first_marks().into_iter().collect();
        let mut slots = self.likely();
        let rest = self.chosen(|slot| slot.reason == Reason::Unset).into_iter();
        slots.extend(rest.filter(|s| !first.contains(s) && !self.unusable.contains_key(s)));
        slots
    }

    /// Lists of slots to mark beside the first overlay, if it will not move everything: the
    /// alternative slots, and values that are a part of a rendered reference by their text alone.
    /// These come later because a marker in any such value may change more than an image.
    pub(super) fn more_marks(&mut self, knows_other_ways: bool) -> Vec<Vec<usize>> {
        let open = self.open();
        if open.is_empty() {
            return vec![];
        }
        let mut marks = Vec::new();
        let other = self.other_ways();
        if !knows_other_ways && other.len() > self.likely().len() {
            marks.push(other);
        }
        let parts = self.parts(&open);
        if !parts.is_empty() {
            marks.push(parts);
        }
        marks
    }

    /// Whether an image was only seen with an unset registry set, so that it is not known what
    /// makes it up without. A marker in `global.registry` hides the image's own registry.
    pub(super) fn is_hidden(&self, wish: usize) -> bool {
        let forms = &self.wishes[wish].forms;
        !forms.is_empty() && forms.iter().all(|form| !form.given.is_empty())
    }

    /// Adds the values whose text is a part of one of these images, whatever their keys are, and
    /// returns their numbers.
    fn parts(&mut self, open: &BTreeSet<usize>) -> Vec<usize> {
        let texts: Vec<&str> = open.iter().map(|site| self.sites[*site].text.as_str()).collect();
        let known: BTreeSet<_> =
            self.slots.iter().map(|slot| (slot.path.clone(), slot.start)).collect();
        let more = slot::slots(self.chart, &self.effective, &texts).into_iter();
        let more = more.filter(|slot| !known.contains(&(slot.path.clone(), slot.start)));
        let start = self.slots.len();
        // Appended, because the numbers of slots are in the compositions that are known already.
        self.slots.extend(more.map(|slot| slot::Slot { reason: Reason::Part, ..slot }));
        (start..self.slots.len()).collect()
    }

    /// The overlay that puts markers into these slots.
    pub(super) fn marked(&self, slots: &[usize], extras: Extras) -> String {
        let mut values = slot::tainted(&self.slots, slots, &self.effective);
        self.set_guards(&mut values);
        if extras == Extras::Mark {
            self.secrets.mark(&mut values, &self.effective);
            self.policies.mark(&mut values, &self.effective);
        }
        values.to_string()
    }

    /// Learns from the first marked render, in which everything is marked: compositions, pull
    /// secrets, pull policies, lines that texts lost, and whether anything differs without a
    /// marker.
    pub(super) fn learn_all(&mut self, stream: &str) {
        let Ok(marked) = self.read(stream) else { return };
        self.learn_from(&marked);
        self.secrets.learn(&self.sites, &self.before, &marked);
        self.policies.learn(&marked);
        let strange = self.strange(&marked);
        // Only if every unmarked change is lost lines are lists looked for that restore them; `?`
        // on any other change makes the whole collection `None`.
        let losses = strange.iter().map(|(document, difference)| {
            let Difference { path, before, after } = difference.as_ref()?;
            let after = slot::cleaned(after.as_deref()?).0;
            Loss::new(*document, path, before.as_deref()?, &after)
        });
        self.losses = losses.collect::<Option<_>>().unwrap_or_default();
        self.is_unsteady = self.losses.is_empty() && !strange.is_empty();
    }

    /// Learns compositions from a later marked render.
    pub(super) fn learn(&mut self, stream: &str) {
        if let Ok(marked) = self.read(stream) {
            self.learn_from(&marked);
        }
    }

    /// A measure of what is known of how images are made up; it grows when something was learned.
    pub(super) fn known(&self) -> usize {
        self.wishes.iter().flat_map(|wish| &wish.forms).map(|form| 1 + form.slots.len()).sum()
    }

    /// Adds the compositions that a marked render shows. Without its markers, a text made of set
    /// values reads as in the plain render; an unset registry that got a marker makes it another.
    fn learn_from(&mut self, marked: &super::Rendered) {
        for (site, wish) in self.sites.iter().zip(&mut self.wishes) {
            let Some(text) = site.text_in(&self.before, marked) else { continue };
            let (clean, slots) = slot::cleaned(&text);
            // A chart's own text may look like a marker, with a number that is no slot's.
            if slots.iter().any(|(slot, _)| *slot >= self.slots.len()) {
                continue;
            }
            let is_unset = |slot: &usize| self.slots[*slot].reason == Reason::Unset;
            let given: BTreeSet<usize> =
                slots.iter().map(|(slot, _)| *slot).filter(is_unset).collect();
            // Something else than a value made this text: nothing to learn from it.
            if given.is_empty() && clean != site.text {
                continue;
            }
            match wish.forms.iter_mut().find(|form| form.given == given) {
                Some(form) if form.text == clean => {
                    form.slots.extend(slots);
                    form.slots.sort_by_key(|(slot, start)| (*start, *slot));
                    form.slots.dedup();
                }
                // The same registries lead to another text: the first one seen counts.
                Some(_) => {}
                None => wish.forms.push(Form { text: clean, slots, given }),
            }
        }
    }

    /// The changes of the marked render that no marker explains, each with its document. Either
    /// something differs with each render, or the chart does something else when an image is not
    /// its default. `None` stands for a document that is missing.
    fn strange(&self, marked: &super::Rendered) -> Vec<(usize, Option<Difference>)> {
        let mut all = Vec::new();
        for (index, document) in self.before.manifests.documents.iter().enumerate() {
            let Some(same) = marked.same_document(&self.before, index) else {
                all.push((index, None));
                continue;
            };
            let after = &marked.manifests.documents[same];
            if document.text == after.text {
                continue;
            }
            let differences = differences(&document.value, &after.value).into_iter();
            let strange = differences.filter(|difference| {
                let new = difference.after.as_deref().unwrap_or_default();
                let old = difference.before.as_deref().unwrap_or_default();
                let key = difference.path.last_key().unwrap_or_default();
                let is_guard = self.guards.iter().any(|guard| guard.last_key() == Some(key));
                let is_checksum = is_checksum(key, old) && is_checksum(key, new);
                !is_guard && !is_checksum && is_strange(old, new)
            });
            all.extend(strange.map(|difference| (index, Some(difference))));
        }
        all
    }
}

/// Whether a text lost more lines than there are marked ones, or has new lines without a marker.
fn is_strange(old: &str, new: &str) -> bool {
    let is_marked = |line: &&str| line.contains("zq") && line.contains("qz");
    let marked = new.lines().filter(is_marked).count();
    let kept: BTreeSet<&str> = new.lines().collect();
    let lost = old.lines().filter(|line| !kept.contains(line)).count();
    let was: BTreeSet<&str> = old.lines().collect();
    let strange = new.lines().filter(|line| !was.contains(line) && !is_marked(line)).count();
    lost > marked || strange > 0
}
