//! Tries overlays: takes the best assignment that `solve` finds, writes it as the file that the
//! user will get, renders the chart with that file, and proves the result. An assignment is a
//! prediction from what the marked renders showed; only the proof counts.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::slice;

use serde_json::Value;
use types::Reference;

use super::prove::{self, ProofVerdict, RelocationProof};
use super::report::WrittenOverlay;
use super::solve::{OverlayProblem, SlotAssignment};
use super::{IndexedRender, Relocator, slot};
use crate::values;

/// An overlay that was rendered, and what the render proves.
pub(super) struct OverlayAttempt {
    pub(super) assignment: SlotAssignment,
    pub(super) written: WrittenOverlay,
    pub(super) proof: RelocationProof,
}

impl OverlayAttempt {
    /// Whether it moves as many images as `promise`, the solver's prediction, and changes nothing
    /// else.
    fn keeps_promise(&self, promise: usize) -> bool {
        self.proof.moved.len() >= promise
            && self.proof.changes.is_empty()
            && self.proof.foreign.is_empty()
    }
}

impl Relocator<'_> {
    /// What is known so far, as input for the solver.
    fn overlay_problem(&self) -> OverlayProblem<'_> {
        OverlayProblem {
            slots: &self.slots,
            goals: &self.goals,
            registries: &self.registries,
            unusable: &self.unusable,
        }
    }

    /// The goals (indexes of images) that the best assignment known so far does not meet.
    pub(super) fn unmoved_goals(&self) -> BTreeSet<usize> {
        let problem = self.overlay_problem();
        let Some((_, best)) = self.ranked_assignments().into_iter().next() else {
            return BTreeSet::new();
        };
        let won = problem.satisfied_goals(&best);
        (0..self.goals.len()).filter(|wish| !won.contains(wish)).collect()
    }

    /// The solver's assignments, the best first, each with the number of images that it should
    /// move. They differ in whether they set registries that the chart leaves unset.
    fn ranked_assignments(&self) -> Vec<(usize, SlotAssignment)> {
        let problem = self.overlay_problem();
        let mut plans: Vec<(usize, SlotAssignment)> = problem
            .solve_all()
            .into_iter()
            .map(|assignment| (problem.satisfied_goals(&assignment).len(), assignment))
            .collect();
        // Where no registry is unset, all of them are the same.
        plans.dedup();
        plans.sort_by_cached_key(|(promise, assignment)| {
            (problem.count_spoiled_goals(assignment), Reverse(*promise), assignment.len())
        });
        plans
    }

    /// Whether the attempt's assignment is still the best, with all that was learned since.
    pub(super) fn is_best_assignment(&self, attempt: &OverlayAttempt) -> bool {
        self.ranked_assignments()
            .first()
            .is_some_and(|(_, assignment)| *assignment == attempt.assignment)
    }

    /// Tries assignments, the best first, until one keeps its promise; else returns the best
    /// attempt. `marks` are lists of slots; a render with markers in each list's slots is made at
    /// the same time as the first attempt.
    pub(super) fn solve_overlay(&mut self, mut marks: Vec<Vec<usize>>) -> Option<OverlayAttempt> {
        // A chart that refuses one value after another is not worth more renders.
        const ROUNDS: usize = 6;
        let mut best = None;
        let mut tried: BTreeSet<SlotAssignment> = BTreeSet::new();
        for _ in 0..ROUNDS {
            let plan =
                self.ranked_assignments().into_iter().find(|(_, plan)| !tried.contains(plan));
            let Some((promise, assignment)) = plan else { break };
            match self.try_overlays(slice::from_ref(&assignment), &std::mem::take(&mut marks)).pop()
            {
                Some(Ok(attempt)) => {
                    let is_kept = attempt.keeps_promise(promise);
                    best = better_attempt(best, Some(attempt));
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
            marks
                .iter()
                .map(|slots| Some(self.write_marked_overlay(slots, super::ExtraMarkers::Omit))),
        );
        // A second plain render shows what differs each time (`randAlphaNum`, `now`, `genCA`).
        let is_asked = self.is_unsteady && self.expected.volatile.is_none();
        if is_asked {
            overlays.push(None);
        }
        let mut streams = self.render_all(&overlays);
        if is_asked {
            self.learn_volatile(streams.pop().and_then(Result::ok).as_deref());
        }
        // The marked renders come after the overlays; one that helm refused teaches nothing.
        for stream in streams.split_off(assignments.len()).into_iter().flatten() {
            self.learn_from_marked_render(&stream);
        }
        let mut attempts = Vec::new();
        for ((assignment, written), stream) in assignments.iter().zip(written).zip(streams) {
            attempts.push(match stream.map(|inspect_stream| self.read_render(&inspect_stream)) {
                Ok(Ok(after)) => {
                    let proof = self.prove_overlay(assignment, &after);
                    Ok(OverlayAttempt { assignment: assignment.clone(), written, proof })
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.message),
            });
        }
        attempts
    }

    /// Learns from a second plain render which leaves differ from render to render. Without one,
    /// none is taken to.
    fn learn_volatile(&mut self, again: Option<&str>) {
        let again = again.and_then(|again| self.read_render(again).ok());
        let found = again.map(|again| prove::find_volatile_leaves(&self.before, &again));
        self.expected.volatile = Some(found.unwrap_or_default());
    }

    /// All values of an overlay: those of the assignment, and what goes with them.
    pub(super) fn overlay_values(&self, assignment: &SlotAssignment) -> Value {
        let texts = assignment.iter().map(|(slot, text)| (*slot, text.clone()));
        let mut values = slot::fill_slots(&self.slots, texts, &self.effective);
        for (path, text) in self.operator_values() {
            values::set_value(&mut values, path, Value::from(text), &self.effective);
        }
        // Guards are only opened where an image changes, so that an overlay without images is
        // empty.
        let is_moving = values.as_object().is_some_and(|map| !map.is_empty());
        if is_moving {
            self.set_guard_values(&mut values);
        }
        for (path, value) in &self.restored {
            values::set_value(&mut values, path, value.clone(), &self.effective);
        }
        self.secrets.set_secret(&mut values, &self.effective);
        self.policies.set_policy(&mut values, &self.effective);
        for setting in self.options.settings {
            values::set_value(&mut values, &setting.path, setting.value.clone(), &self.effective);
        }
        values
    }

    /// Proves a render with an overlay. If something differs that is not expected, and it is not
    /// known yet what differs from render to render, that is found out first.
    fn prove_overlay(
        &mut self,
        assignment: &SlotAssignment,
        after: &IndexedRender,
    ) -> RelocationProof {
        self.expected.inserted = self.operator_values().map(|(_, text)| text).collect();
        // A Secret that holds the chart's own values shows them with the new texts.
        let slots = &self.slots;
        let texts = assignment.iter().map(|(slot, text)| (slots[*slot].text.clone(), text.clone()));
        let compiled = self.operator_values().map(|(_, text)| (String::new(), text));
        self.expected.echoes = texts.chain(compiled).collect();
        self.expected.echoes.extend(self.policies.expected_echoes());
        self.expected.pull_secret = self.target.pull_secret.clone();
        self.expected.guards =
            self.guards.iter().filter_map(|path| path.last_key().map(str::to_owned)).collect();
        let is_home = |reference: &Reference| self.target.is_site_image(reference);
        let mut proof =
            prove::prove_relocation(&self.before, after, &self.moves, &self.expected, &is_home);
        if !proof.changes.is_empty() && self.expected.volatile.is_none() {
            let again = self.render_all(&[None]).pop().and_then(Result::ok);
            self.learn_volatile(again.as_deref());
            proof =
                prove::prove_relocation(&self.before, after, &self.moves, &self.expected, &is_home);
        }
        self.add_operator_images(after, &mut proof);
        proof
    }
}

/// The better of two attempts: the one with fewer unexpected changes, then with fewer images left,
/// then with fewer values. Of two equals, the first.
pub(super) fn better_attempt(
    one: Option<OverlayAttempt>,
    other: Option<OverlayAttempt>,
) -> Option<OverlayAttempt> {
    let rank = |attempt: &OverlayAttempt| {
        let proof = &attempt.proof;
        let stayed = proof.stayed.len() + proof.compiled_in.len();
        (proof.changes.len() + proof.foreign.len(), stayed, attempt.written.lines.len())
    };
    match (one, other) {
        (Some(one), Some(other)) if rank(&other) < rank(&one) => Some(other),
        (Some(one), _) => Some(one),
        (None, other) => other,
    }
}

impl OverlayAttempt {
    /// Whether nothing is wrong with it but images that were not moved.
    pub(super) fn is_clean(&self) -> bool {
        self.proof.verdict() < ProofVerdict::Refuted
    }
}
