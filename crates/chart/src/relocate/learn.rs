//! What the marked renders teach: which values come out in which place.

use std::collections::BTreeSet;

use super::Mover;
use super::difference::{Difference, differences};
use super::explained::is_checksum;
use super::side_effects::Loss;
use super::slot::{self, Reason};
use super::solve::Form;

/// Whether pull secrets and pull policies are marked too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extras {
    Mark,
    Leave,
}

impl Mover<'_> {
    /// The slots that the first marked render marks: everything that is set, and of the registries
    /// that are not set those that stand for many images, or that no other value can stand in for.
    /// A registry of one image beside its repository would only hide what a global one does.
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

    /// Everything that is set, and the registries that the first marked render left out.
    pub(super) fn other_ways(&self) -> Vec<usize> {
        let first: BTreeSet<usize> = self.first_marks().into_iter().collect();
        let mut slots = self.likely();
        let rest = self.chosen(|slot| slot.reason == Reason::Unset).into_iter();
        slots.extend(rest.filter(|s| !first.contains(s) && !self.unusable.contains_key(s)));
        slots
    }

    /// Slots to mark beside the first overlay, where it will not move everything: those of
    /// [`Self::other_ways`], and values that are part of a reference whatever their keys say. A
    /// marker in one of these may change more than an image.
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

    /// Whether a place was seen with a registry given only, so that it is not known what makes it up
    /// without.
    pub(super) fn is_hidden(&self, wish: usize) -> bool {
        let forms = &self.wishes[wish].forms;
        !forms.is_empty() && forms.iter().all(|form| !form.given.is_empty())
    }

    /// The slots that only the rendered references of these places give away.
    fn parts(&mut self, open: &BTreeSet<usize>) -> Vec<usize> {
        let texts: Vec<&str> = open.iter().map(|site| self.sites[*site].text.as_str()).collect();
        let known: BTreeSet<_> =
            self.slots.iter().map(|slot| (slot.path.clone(), slot.start)).collect();
        let more = slot::slots(self.chart, &self.effective, &texts).into_iter();
        let more = more.filter(|slot| !known.contains(&(slot.path.clone(), slot.start)));
        let start = self.slots.len();
        // They come last, so that numbers stay.
        self.slots.extend(more.map(|slot| slot::Slot { reason: Reason::Part, ..slot }));
        (start..self.slots.len()).collect()
    }

    /// The overlay that marks these slots.
    pub(super) fn marked(&self, slots: &[usize], extras: Extras) -> String {
        let mut values = slot::tainted(&self.slots, slots, &self.effective);
        self.set_guards(&mut values);
        if extras == Extras::Mark {
            self.secrets.mark(&mut values, &self.effective);
            self.policies.mark(&mut values, &self.effective);
        }
        values.to_string()
    }

    /// Learns all that a render teaches in which everything was marked.
    pub(super) fn learn_all(&mut self, stream: &str) {
        let Ok(marked) = self.read(stream) else { return };
        self.learn_from(&marked);
        self.secrets.learn(&self.sites, &self.before, &marked);
        self.policies.learn(&marked);
        let strange = self.strange(&marked);
        let losses = strange.iter().map(|(document, difference)| {
            let Difference { path, before, after } = difference.as_ref()?;
            let after = slot::cleaned(after.as_deref()?).0;
            Loss::new(*document, path, before.as_deref()?, &after)
        });
        self.losses = losses.collect::<Option<_>>().unwrap_or_default();
        self.is_unsteady = self.losses.is_empty() && !strange.is_empty();
    }

    pub(super) fn learn(&mut self, stream: &str) {
        if let Ok(marked) = self.read(stream) {
            self.learn_from(&marked);
        }
    }

    /// How much is known of how places are made up.
    pub(super) fn known(&self) -> usize {
        self.wishes.iter().flat_map(|wish| &wish.forms).map(|form| 1 + form.slots.len()).sum()
    }

    /// Where only values that are set come out, each place reads as before without the markers; a
    /// registry that is not set makes another text of it.
    fn learn_from(&mut self, marked: &super::Rendered) {
        for (site, wish) in self.sites.iter().zip(&mut self.wishes) {
            let Some(text) = site.text_in(&self.before, marked) else { continue };
            let (clean, slots) = slot::cleaned(&text);
            // A chart may have in its own texts what looks like a marker.
            if slots.iter().any(|(slot, _)| *slot >= self.slots.len()) {
                continue;
            }
            let is_unset = |slot: &usize| self.slots[*slot].reason == Reason::Unset;
            let given: BTreeSet<usize> =
                slots.iter().map(|(slot, _)| *slot).filter(is_unset).collect();
            if given.is_empty() && clean != site.text {
                continue;
            }
            match wish.forms.iter_mut().find(|form| form.given == given) {
                Some(form) if form.text == clean => {
                    form.slots.extend(slots);
                    form.slots.sort_by_key(|(slot, start)| (*start, *slot));
                    form.slots.dedup();
                }
                Some(_) => {}
                None => wish.forms.push(Form { text: clean, slots, given }),
            }
        }
    }

    /// What the marked render has different beyond what the markers explain: something is made up
    /// anew with each render, or the chart does something else when an image is not its own.
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

/// Whether a text lost more lines than markers came into, or got others than those.
fn is_strange(old: &str, new: &str) -> bool {
    let is_marked = |line: &&str| line.contains("zq") && line.contains("qz");
    let marked = new.lines().filter(is_marked).count();
    let kept: BTreeSet<&str> = new.lines().collect();
    let lost = old.lines().filter(|line| !kept.contains(line)).count();
    let was: BTreeSet<&str> = old.lines().collect();
    let strange = new.lines().filter(|line| !was.contains(line) && !is_marked(line)).count();
    lost > marked || strange > 0
}
