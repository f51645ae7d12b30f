//! Tries overlays: takes the best assignment that `solve` finds, writes it as the file that the
//! user will get, renders the chart with that file, and proves the result. An assignment is a
//! prediction from what the marked renders showed; only the proof counts.

use std::collections::BTreeSet;
use std::slice;

use serde_json::Value;
use types::Reference;

use super::attempt::{BestAttempts, OverlayAttempt, WrittenOverlay};
use super::learn::ExtraMarkers;
use super::relocator::Relocator;
use super::solve::SlotAssignment;
use crate::proof::differences::find_volatile_leaves;
use crate::proof::prove::prove_relocation;
use crate::proof::relocation_proof::RelocationProof;
use crate::taint::guards::open_guards;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::slots;
use crate::{overlay, values};

impl Relocator<'_> {
    /// Whether the attempt's assignment is still the best, with all that was learned since.
    pub(super) fn is_best_assignment(&self, attempt: &OverlayAttempt) -> bool {
        self.overlay_problem()
            .rank_assignments()
            .first()
            .is_some_and(|(_, assignment)| *assignment == attempt.assignment)
    }

    /// Tries assignments, the best first, until one keeps its promise, or the next one would move
    /// fewer images than one that was tried and changes something else. `marks` are lists of slots;
    /// a render with markers in each list's slots is made at the same time as the first attempt.
    pub(super) fn solve_overlay(&mut self, mut marks: Vec<Vec<usize>>) -> BestAttempts {
        // A chart that refuses one value after another is not worth more renders.
        const ROUNDS: usize = 6;
        let mut best = BestAttempts::default();
        let mut tried: BTreeSet<SlotAssignment> = BTreeSet::new();
        for _ in 0..ROUNDS {
            let plan = self
                .overlay_problem()
                .rank_assignments()
                .into_iter()
                .find(|(_, plan)| !tried.contains(plan));
            let Some((promise, assignment)) = plan else { break };
            // Side effects are removed later, which moves more images than doing without.
            if best.iter().any(|tried| tried.proof.moved.len() > promise) {
                break;
            }
            match self.try_overlays(slice::from_ref(&assignment), &std::mem::take(&mut marks)).pop()
            {
                Some(Ok(attempt)) => {
                    let is_kept = attempt.keeps_promise(promise);
                    best.add(attempt);
                    if is_kept {
                        break;
                    }
                    tried.insert(assignment);
                }
                // The values that helm fails with are excluded now, so the next round's first
                // assignment is another one.
                Some(Err(message)) if self.exclude_refused_slots(&assignment, &message) => {}
                _ => {
                    tried.insert(assignment);
                }
            }
        }
        best
    }

    /// Renders and proves overlays and, at the same time, learns from renders with markers in the
    /// slots of `marks`. The result has one item for each assignment; an error is helm's message.
    pub(super) fn try_overlays(
        &mut self,
        assignments: &[SlotAssignment],
        marks: &[Vec<usize>],
    ) -> Vec<Result<OverlayAttempt, String>> {
        let written: Vec<WrittenOverlay> =
            assignments.iter().map(|assignment| self.write_overlay(assignment)).collect();
        let mut overlays: Vec<Option<String>> =
            written.iter().map(|written| Some(written.text.clone())).collect();
        overlays.extend(
            marks.iter().map(|slots| Some(self.write_marked_overlay(slots, ExtraMarkers::Omit))),
        );
        // A second plain render shows what differs each time (`randAlphaNum`, `now`, `genCA`).
        let is_asked = self.learnt.is_unsteady && self.tried.expected.volatile.is_none();
        if is_asked {
            overlays.push(None);
        }
        let mut streams = self.render_all(&overlays);
        if is_asked {
            self.learn_volatile(streams.pop().and_then(Result::ok).as_deref());
        }
        // The marked renders come after the overlays; one that helm refused teaches nothing.
        for (slots, stream) in marks.iter().zip(streams.split_off(assignments.len())) {
            match stream {
                Ok(stream) => self.learn_from_marked_render(&stream),
                Err(_) => self.tried.refused_marks.push(slots.clone()),
            }
        }
        let mut attempts = Vec::new();
        for ((assignment, written), stream) in assignments.iter().zip(written).zip(streams) {
            attempts.push(
                match stream.map(|inspect_stream| self.learnt.read_render(&inspect_stream)) {
                    Ok(Ok(after)) => {
                        let proof = self.prove_overlay(assignment, &after);
                        Ok(OverlayAttempt { assignment: assignment.clone(), written, proof })
                    }
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(error.message),
                },
            );
        }
        attempts
    }

    /// Learns from a second plain render which leaves differ from render to render. Without one,
    /// none is taken to.
    fn learn_volatile(&mut self, again: Option<&str>) {
        let again = again.and_then(|again| self.learnt.read_render(again).ok());
        let found = again.map(|again| find_volatile_leaves(&self.learnt.before, &again));
        self.tried.expected.volatile = Some(found.unwrap_or_default());
    }

    /// The registries that stand alone and that an assignment does not set anyway.
    pub(super) fn registry_texts<'a>(
        &'a self,
        assignment: &'a SlotAssignment,
    ) -> impl Iterator<Item = (&'a usize, &'a String)> {
        let all = self.learnt.registry_slots.iter();
        all.filter(|(slot, _)| {
            !assignment.contains_key(*slot) && !self.tried.unusable.contains_key(*slot)
        })
    }

    /// All values of an overlay: those of the assignment, and what goes with them.
    pub(super) fn overlay_values(&self, assignment: &SlotAssignment) -> Value {
        let texts = self.registry_texts(assignment).chain(assignment);
        let texts = texts.map(|(slot, text)| (*slot, text.clone()));
        let mut values = slots::fill_slots(&self.learnt.slots, texts, &self.known.effective);
        for (path, text) in self.operator_values() {
            values::set_value(&mut values, path, Value::from(text), &self.known.effective);
        }
        // Guards are only opened where an image changes, so that an overlay without images is
        // empty.
        let is_moving = values.as_object().is_some_and(|map| !map.is_empty());
        if is_moving {
            open_guards(&self.known.guards, &mut values, &self.known.effective);
        }
        for (path, value) in &self.tried.restored {
            values::set_value(&mut values, path, value.clone(), &self.known.effective);
        }
        self.learnt.secrets.set_secret(&mut values, &self.known.effective);
        self.learnt.policies.set_policy(&mut values, &self.known.effective);
        overlay::add_settings(&mut values, self.known.options.settings, &self.known.effective);
        values
    }

    /// Proves a render with an overlay. If something differs that is not expected, and it is not
    /// known yet what differs from render to render, that is found out first.
    fn prove_overlay(
        &mut self,
        assignment: &SlotAssignment,
        after: &IndexedRender,
    ) -> RelocationProof {
        self.tried.expected.inserted = self.operator_values().map(|(_, text)| text).collect();
        // A Secret that holds the chart's own values shows them with the new texts.
        let slots = &self.learnt.slots;
        let texts = self.registry_texts(assignment).chain(assignment);
        let texts = texts.map(|(slot, text)| (slots[*slot].text.clone(), text.clone()));
        let compiled = self.operator_values().map(|(_, text)| (String::new(), text));
        self.tried.expected.echoes = texts.chain(compiled).collect();
        self.tried.expected.echoes.extend(self.learnt.policies.expected_echoes());
        self.tried.expected.pull_secret = self.known.target.pull_secret.clone();
        self.tried.expected.guards = self
            .known
            .guards
            .iter()
            .filter_map(|path| path.last_key().map(str::to_owned))
            .collect();
        let is_home = |reference: &Reference| self.known.target.is_site_image(reference);
        let mut proof = prove_relocation(
            &self.learnt.before,
            after,
            &self.learnt.moves,
            &self.tried.expected,
            &is_home,
        );
        if !proof.changes.is_empty() && self.tried.expected.volatile.is_none() {
            let again = self.render_all(&[None]).pop().and_then(Result::ok);
            self.learn_volatile(again.as_deref());
            proof = prove_relocation(
                &self.learnt.before,
                after,
                &self.learnt.moves,
                &self.tried.expected,
                &is_home,
            );
        }
        self.add_operator_images(after, &mut proof);
        proof
    }
}
