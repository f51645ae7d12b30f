//! Handles charts that do not render with a changed value, because of a schema
//! (`values.schema.json`) or a template that calls `fail` or `required`. The values in question are
//! found, by helm's message or by bisection, and left alone with helm's message as the reason in
//! the report; all other images are moved.

use std::collections::BTreeSet;

use super::learn::ExtraMarkers;
use super::relocator::Relocator;
use super::solve::SlotAssignment;
use crate::path::DocumentPath;
use crate::taint::slots::SlotReason;

/// The most renders that a search for refused values may take. Large charts take seconds for each;
/// 40 are enough to find two or three refused values among a hundred.
const MOST: usize = 40;

impl Relocator<'_> {
    /// Learns what it can after helm refused the first marked render, whose `slots` had markers.
    /// Leaves out what the message names; if that is not enough, looks for the refused values:
    /// first among pull secrets, pull policies and unset registries, then by bisection.
    pub(super) fn learn_despite_refusal(&mut self, slots: &[usize], message: &str) {
        if self.skip_named_in_message(slots, message) {
            let rest = self.filter_usable_slots(slots);
            let marked = self.write_marked_overlay(&rest, ExtraMarkers::Include);
            // A schema's message names everything that it refuses. If helm still fails, it is for
            // another reason, and the search below finds it.
            if let Some(Ok(stream)) = self.render_all(&[Some(marked)]).pop() {
                return self.learn_from_first_marked_render(&stream);
            }
        }
        let slots = self.filter_usable_slots(slots);
        let likely = self.likely_slots();
        // All markers without the extras, the set values alone, and the extras alone: one of the
        // three usually renders, and shows where the trouble is.
        let tries = [
            Some(self.write_marked_overlay(&slots, ExtraMarkers::Omit)),
            Some(self.write_marked_overlay(&likely, ExtraMarkers::Omit)),
            Some(self.write_marked_overlay(&[], ExtraMarkers::Include)),
        ];
        let mut tries = self.render_all(&tries).into_iter();
        let (all, set, extras) = (tries.next(), tries.next(), tries.next());
        match extras {
            Some(Ok(stream)) => self.learn_from_first_marked_render(&stream),
            // The extras alone do not render: nothing can be learned of them.
            _ => {
                self.learnt.secrets.forget_values();
                self.learnt.policies.choose_set_values();
            }
        }
        self.learnt.is_unsteady = true;
        match (all, set) {
            (Some(Ok(all)), set) => {
                self.learn_from_marked_render(&all);
                if let Some(Ok(set)) = set {
                    self.learn_from_marked_render(&set);
                }
            }
            (_, Some(Ok(set))) => {
                self.learn_from_marked_render(&set);
                self.learn_unset_slots_one_by_one(&likely, self.filter_unset(&slots));
            }
            _ => {
                self.learn_by_halves(&likely);
                let likely = self.likely_slots();
                self.learn_unset_slots_one_by_one(&likely, self.filter_unset(&slots));
            }
        }
    }

    /// Learns, in renders of one each, about the values that would name an image and that helm
    /// refused to render with all at once.
    pub(super) fn learn_refused_marks(&mut self) {
        let refused: BTreeSet<usize> =
            std::mem::take(&mut self.tried.refused_marks).into_iter().flatten().collect();
        let unset: Vec<usize> =
            self.unset_name_slots().into_iter().filter(|slot| refused.contains(slot)).collect();
        if !unset.is_empty() {
            let likely = self.likely_slots();
            self.learn_unset_slots_one_by_one(&likely, unset);
        }
    }

    /// Those of the slots that are registries which the chart leaves unset.
    fn filter_unset(&self, slots: &[usize]) -> Vec<usize> {
        let is_unset = |slot: &usize| self.learnt.slots[*slot].reason == SlotReason::Unset;
        slots.iter().copied().filter(is_unset).collect()
    }

    /// Finds which values of an overlay helm refused, and excludes them from further overlays.
    /// Returns `false` if none was found.
    pub(super) fn exclude_refused_slots(
        &mut self,
        assignment: &SlotAssignment,
        message: &str,
    ) -> bool {
        let slots: Vec<usize> = assignment.keys().copied().collect();
        if self.skip_named_in_message(&slots, message) {
            return true;
        }
        if self.has_extra_settings() {
            // The overlay without any image: if that fails, the images are not the reason.
            let own = self.write_overlay(&SlotAssignment::new()).text;
            if matches!(self.render_all(&[Some(own)]).pop(), Some(Err(_))) {
                self.drop_extra_settings(&last_line_of_message(message));
                return true;
            }
        }
        // Bisection: halves that fail are halved again, until single values are left.
        let mut open = vec![slots];
        let mut spent = 0;
        let mut is_found = false;
        while !open.is_empty() && spent < MOST {
            let parts = split_into_halves(&mut open);
            let overlays: Vec<Option<String>> = parts
                .iter()
                .map(|part| {
                    let own = assignment.iter().filter(|(slot, _)| part.contains(slot));
                    let own = own.map(|(slot, text)| (*slot, text.clone())).collect();
                    Some(self.write_overlay(&own).text)
                })
                .collect();
            spent += overlays.len();
            for (part, result) in parts.into_iter().zip(self.render_all(&overlays)) {
                let Err(error) = result else { continue };
                match part.as_slice() {
                    [slot] => {
                        is_found = true;
                        self.mark_slot_unusable(*slot, &error.message);
                    }
                    _ => open.push(part),
                }
            }
        }
        is_found
    }

    /// Learns from every half of the slots that renders, and halves the others again; single slots
    /// that fail are left alone, and so are those that are left when the renders are used up.
    fn learn_by_halves(&mut self, slots: &[usize]) {
        let mut open = vec![slots.to_vec()];
        let mut spent = 0;
        let mut last = String::new();
        while !open.is_empty() && spent < MOST {
            let parts = split_into_halves(&mut open);
            let overlays: Vec<Option<String>> = parts
                .iter()
                .map(|part| Some(self.write_marked_overlay(part, ExtraMarkers::Omit)))
                .collect();
            spent += overlays.len();
            for (part, result) in parts.into_iter().zip(self.render_all(&overlays)) {
                match (result, part.as_slice()) {
                    (Ok(stream), _) => self.learn_from_marked_render(&stream),
                    (Err(error), [slot]) => self.mark_slot_unusable(*slot, &error.message),
                    (Err(error), _) => {
                        last = error.message;
                        open.push(part);
                    }
                }
            }
        }
        for slot in open.into_iter().flatten() {
            self.mark_slot_unusable(slot, &last);
        }
    }

    /// Learns about unset values in renders of one each, together with the set values, `likely`.
    fn learn_unset_slots_one_by_one(&mut self, likely: &[usize], mut unset: Vec<usize>) {
        // A render each, so only the first eight; global ones come first, as they move most images.
        const MOST: usize = 8;
        unset.sort_by_key(|slot| self.learnt.slots[*slot].path.steps().len());
        for slot in unset.split_off(unset.len().min(MOST)) {
            self.mark_slot_unusable(
                slot,
                "the chart does not render with it, or with a value like it",
            );
        }
        let with = |slot: usize| [likely, &[slot]].concat();
        let overlays: Vec<Option<String>> = unset
            .iter()
            .map(|slot| Some(self.write_marked_overlay(&with(*slot), ExtraMarkers::Omit)))
            .collect();
        for (slot, result) in unset.into_iter().zip(self.render_all(&overlays)) {
            match result {
                Ok(stream) => self.learn_from_marked_render(&stream),
                Err(error) => self.mark_slot_unusable(slot, &error.message),
            }
        }
    }

    /// Leaves alone everything that helm's message names. Returns `false` if it names nothing.
    fn skip_named_in_message(&mut self, slots: &[usize], message: &str) -> bool {
        let mut is_named = false;
        for slot in slots {
            if let Some(line) =
                self.known.scopes.find_message_line_about(message, &self.learnt.slots[*slot].path)
            {
                is_named = true;
                let line = line.to_owned();
                self.mark_slot_unusable(*slot, &line);
            }
        }
        let scopes = &self.known.scopes;
        let about =
            |path: &DocumentPath| scopes.find_message_line_about(message, path).map(str::to_owned);
        // `|=` and not `||`: the message may name values of each kind, and all have to hear it.
        is_named |= self.learnt.secrets.skip_refused(about);
        is_named |= self.learnt.policies.skip_refused(about);
        is_named | self.skip_refused_operator_values(message)
    }

    /// Leaves a slot alone, with helm's message as the reason.
    fn mark_slot_unusable(&mut self, slot: usize, message: &str) {
        let path = &self.learnt.slots[slot].path;
        let why = format!("helm fails if {path} is changed: {}", last_line_of_message(message));
        self.tried.unusable.entry(slot).or_insert(why);
    }

    /// Whether the overlay sets anything beside images.
    fn has_extra_settings(&self) -> bool {
        !self.learnt.secrets.is_empty()
            || !self.learnt.policies.is_empty()
            || self.operator_values().next().is_some()
            || !self.tried.restored.is_empty()
    }

    /// Sets nothing but images from now on, and notes that for the report.
    fn drop_extra_settings(&mut self, message: &str) {
        self.reported.notes.push(format!(
            "pull secrets, pull policies and images of operators are not set, because helm fails with \
             one of them: {message}"
        ));
        self.learnt.secrets.clear_chosen();
        self.learnt.policies.clear_chosen();
        self.tried.restored.clear();
        self.tried.restored_texts.clear();
        self.clear_operator_values();
    }
}

/// Takes all lists and gives both halves of each, without empty ones and duplicates.
fn split_into_halves(open: &mut Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut seen = BTreeSet::new();
    std::mem::take(open)
        .into_iter()
        .flat_map(|slots| {
            let (one, other) = slots.split_at(slots.len() / 2);
            [one.to_vec(), other.to_vec()]
        })
        .filter(|part| !part.is_empty() && seen.insert(part.clone()))
        .collect()
}

/// The part of helm's message that helps a reader: its last line with content. The lines above say
/// that execution failed, and the last one may be helm's advice to use `--debug`.
fn last_line_of_message(message: &str) -> String {
    let says = |line: &&str| !line.is_empty() && !line.starts_with("Use --debug");
    let line = message.lines().map(str::trim).rfind(says).unwrap_or_default();
    line.trim_start_matches("- ").to_owned()
}
