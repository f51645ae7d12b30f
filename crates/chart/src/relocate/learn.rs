//! What the marked renders teach: which values come out in which place, also when helm refuses some
//! of the markers.

use super::Mover;
use super::site::Rendered;
use super::slot::{self, Reason};
use super::solve::Form;
use crate::manifest::Manifests;

impl Mover<'_> {
    pub(super) fn tainted(&self, slots: &[usize]) -> String {
        let mut values = slot::tainted(&self.slots, slots, &self.effective);
        self.set_guards(&mut values);
        values.to_string()
    }

    /// Helm refused some of the marked values: looks for which, half by half.
    pub(super) fn learn_by_halves(&mut self, slots: &[usize]) {
        // Some renders per refused value; a chart that refuses more of them is not worth them all.
        const MOST: usize = 40;
        let mut open = vec![slots.to_vec()];
        let mut tried = 0;
        while !open.is_empty() && tried < MOST {
            let parts: Vec<Vec<usize>> = std::mem::take(&mut open)
                .into_iter()
                .flat_map(|slots| {
                    let (one, other) = slots.split_at(slots.len() / 2);
                    [one.to_vec(), other.to_vec()]
                })
                .filter(|part| !part.is_empty())
                .collect();
            let overlays: Vec<Option<String>> =
                parts.iter().map(|part| Some(self.tainted(part))).collect();
            tried += overlays.len();
            for (part, result) in parts.into_iter().zip(self.rendered(&overlays)) {
                match result {
                    Ok(manifests) => self.learn_set(manifests),
                    Err(_) if part.len() > 1 => open.push(part),
                    Err(_) => self.unusable.extend(part),
                }
            }
        }
        self.unusable.extend(open.into_iter().flatten());
    }

    pub(super) fn learn_given_one_by_one(&mut self, likely: &[usize], given: &[usize]) {
        // The globals come first: they move most.
        const MOST: usize = 8;
        let mut unset: Vec<usize> =
            given.iter().copied().filter(|s| self.slots[*s].reason == Reason::Unset).collect();
        unset.sort_by_key(|slot| self.slots[*slot].path.steps().len());
        let usable: Vec<usize> =
            likely.iter().copied().filter(|s| !self.unusable.contains(s)).collect();
        self.unusable.extend(unset.iter().skip(MOST));
        unset.truncate(MOST);
        let with = |slot: usize| {
            let mut slots = usable.clone();
            slots.push(slot);
            slots
        };
        let overlays: Vec<Option<String>> =
            unset.iter().map(|s| Some(self.tainted(&with(*s)))).collect();
        for (slot, result) in unset.into_iter().zip(self.rendered(&overlays)) {
            match result {
                Ok(manifests) => self.learn_given(manifests),
                Err(_) => {
                    self.unusable.insert(slot);
                }
            }
        }
    }

    /// Learns from a render in which only values that are set were marked: without the markers each
    /// place reads as before.
    pub(super) fn learn_set(&mut self, manifests: Manifests) {
        let marked = Rendered::new(manifests);
        for (site, wish) in self.sites.iter().zip(&mut self.wishes) {
            let Some(text) = site.text_in(&self.before, &marked) else { continue };
            let (clean, found) = slot::cleaned(&text);
            if clean == site.text {
                wish.set.slots.extend(found);
                wish.set.slots.sort_by_key(|(slot, start)| (*start, *slot));
                wish.set.slots.dedup();
            }
        }
    }

    /// Learns from a render in which registries that are not set were given too.
    pub(super) fn learn_given(&mut self, manifests: Manifests) {
        let marked = Rendered::new(manifests);
        for (site, wish) in self.sites.iter().zip(&mut self.wishes) {
            let Some(text) = site.text_in(&self.before, &marked) else { continue };
            let (clean, slots) = slot::cleaned(&text);
            let is_given = slots.iter().any(|(slot, _)| self.slots[*slot].reason == Reason::Unset);
            if is_given && wish.given.is_none() {
                wish.given = Some(Form { text: clean, slots });
            }
        }
    }
}
