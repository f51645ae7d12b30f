//! What the marked renders teach: which values come out in which place.

use std::collections::BTreeSet;

use super::difference::differences;
use super::slot::{self, Reason};
use super::solve::Form;
use super::{Mover, prove};

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

    /// Slots to mark beside the first overlay, because it will not move everything: the registries
    /// that were left out, and values that are part of a reference whatever their keys say. A
    /// marker in any of these may change more than an image.
    pub(super) fn more_marks(&mut self) -> Vec<Vec<usize>> {
        let open = self.open();
        if open.is_empty() {
            return vec![];
        }
        let mut marks = Vec::new();
        let first: BTreeSet<usize> = self.first_marks().into_iter().collect();
        let mut rest = self.chosen(|slot| slot.reason == Reason::Unset);
        rest.retain(|slot| !first.contains(slot) && !self.unusable.contains_key(slot));
        let is_hidden = |wish: &usize| {
            let forms = &self.wishes[*wish].forms;
            !forms.is_empty() && forms.iter().all(|form| !form.given.is_empty())
        };
        if !rest.is_empty() || open.iter().any(is_hidden) {
            let mut slots = self.likely();
            slots.extend(rest);
            marks.push(slots);
        }
        let parts = self.parts(&open);
        if !parts.is_empty() {
            marks.push(parts);
        }
        marks
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
        self.is_unsteady = self.is_changed_beside(&marked);
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
            let is_unset = |slot: &usize| {
                self.slots.get(*slot).is_some_and(|slot| slot.reason == Reason::Unset)
            };
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

    /// Whether the marked render differs in more than the markers explain: something is made up
    /// anew with each render, or the chart does something else when an image is not its own.
    fn is_changed_beside(&self, marked: &super::Rendered) -> bool {
        let documents = &self.before.manifests.documents;
        documents.iter().enumerate().any(|(index, document)| {
            let Some(same) = marked.same_document(&self.before, index) else { return true };
            let after = &marked.manifests.documents[same];
            document.text != after.text
                && differences(&document.value, &after.value).iter().any(|difference| {
                    let new = difference.after.as_deref().unwrap_or_default();
                    let old = difference.before.as_deref().unwrap_or_default();
                    let key = difference.path.last_key().unwrap_or_default();
                    let is_guard = self.guards.iter().any(|guard| guard.last_key() == Some(key));
                    let is_checksum = prove::is_checksum(key, old) && prove::is_checksum(key, new);
                    !is_guard && !is_checksum && lost_lines(old, new)
                })
        })
    }
}

/// Whether a text lost more lines than markers came into.
fn lost_lines(old: &str, new: &str) -> bool {
    let is_marked = |line: &&str| line.contains("zq") && line.contains("qz");
    let marked = new.lines().filter(is_marked).count();
    let kept: BTreeSet<&str> = new.lines().collect();
    let lost = old.lines().filter(|line| !kept.contains(line)).count();
    let was: BTreeSet<&str> = old.lines().collect();
    let strange = new.lines().filter(|line| !was.contains(line) && !is_marked(line)).count();
    lost > marked || strange > 0
}
