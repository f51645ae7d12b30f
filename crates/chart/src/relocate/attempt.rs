//! Tries overlays: takes the best assignment that `solve` finds, writes it as the file that the
//! user will get, renders the chart with that file, and proves the result. An assignment is a
//! prediction from what the marked renders showed; only the proof counts.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::slice;

use serde_json::Value;
use types::Reference;

use super::finish::Written;
use super::prove::{self, Proof, Verdict};
use super::solve::{Assignment, Problem};
use super::{Mover, Rendered, slot};
use crate::values;

/// An overlay that was rendered, and what the render proves.
pub(super) struct Attempt {
    pub(super) assignment: Assignment,
    pub(super) written: Written,
    pub(super) proof: Proof,
}

impl Attempt {
    /// Whether it moves as many images as `promise`, the solver's prediction, and changes nothing
    /// else.
    fn keeps(&self, promise: usize) -> bool {
        self.proof.moved.len() >= promise
            && self.proof.changes.is_empty()
            && self.proof.foreign.is_empty()
    }
}

impl Mover<'_> {
    /// What is known so far, as input for the solver.
    fn problem(&self) -> Problem<'_> {
        Problem {
            slots: &self.slots,
            wishes: &self.wishes,
            registries: &self.registries,
            unusable: &self.unusable,
        }
    }

    /// The goals (indexes of images) that the best assignment known so far does not meet.
    pub(super) fn open(&self) -> BTreeSet<usize> {
        let problem = self.problem();
        let Some((_, best)) = self.plans().into_iter().next() else { return BTreeSet::new() };
        let won = problem.satisfied(&best);
        (0..self.wishes.len()).filter(|wish| !won.contains(wish)).collect()
    }

    /// The solver's assignments, the best first, each with the number of images that it should
    /// move. They differ in whether they set registries that the chart leaves unset.
    fn plans(&self) -> Vec<(usize, Assignment)> {
        let problem = self.problem();
        let mut plans: Vec<(usize, Assignment)> = problem
            .solutions()
            .into_iter()
            .map(|assignment| (problem.satisfied(&assignment).len(), assignment))
            .collect();
        // Where no registry is unset, all of them are the same.
        plans.dedup();
        plans.sort_by_cached_key(|(promise, assignment)| {
            (problem.spoiled(assignment), Reverse(*promise), assignment.len())
        });
        plans
    }

    /// Whether the attempt's assignment is still the best, with all that was learned since.
    pub(super) fn is_best(&self, attempt: &Attempt) -> bool {
        self.plans().first().is_some_and(|(_, assignment)| *assignment == attempt.assignment)
    }

    /// Tries assignments, the best first, until one keeps its promise; else returns the best
    /// attempt. `marks` are lists of slots; a render with markers in each list's slots is made at
    /// the same time as the first attempt.
    pub(super) fn solved(&mut self, mut marks: Vec<Vec<usize>>) -> Option<Attempt> {
        // A chart that refuses one value after another is not worth more renders.
        const ROUNDS: usize = 6;
        let mut best = None;
        let mut tried: BTreeSet<Assignment> = BTreeSet::new();
        for _ in 0..ROUNDS {
            let plan = self.plans().into_iter().find(|(_, plan)| !tried.contains(plan));
            let Some((promise, assignment)) = plan else { break };
            match self.attempts(slice::from_ref(&assignment), &std::mem::take(&mut marks)).pop() {
                Some(Ok(attempt)) => {
                    let is_kept = attempt.keeps(promise);
                    best = better(best, Some(attempt));
                    if is_kept {
                        break;
                    }
                    tried.insert(assignment);
                }
                // The values that helm fails with are excluded now, so the next round's first
                // assignment is another one.
                Some(Err(message)) if self.exclude_refused(&assignment, &message) => {}
                _ => {
                    tried.insert(assignment);
                }
            }
        }
        best
    }

    /// Renders and proves overlays and, at the same time, learns from renders with markers in the
    /// slots of `marks`. The result has one item for each assignment; an error is helm's message.
    pub(super) fn attempts(
        &mut self,
        assignments: &[Assignment],
        marks: &[Vec<usize>],
    ) -> Vec<Result<Attempt, String>> {
        let written: Vec<Written> =
            assignments.iter().map(|assignment| self.written(assignment)).collect();
        let mut overlays: Vec<Option<String>> =
            written.iter().map(|written| Some(written.text.clone())).collect();
        overlays.extend(marks.iter().map(|slots| Some(self.marked(slots, super::Extras::Leave))));
        // A second plain render shows what differs each time (`randAlphaNum`, `now`, `genCA`).
        let is_asked = self.is_unsteady && self.allowed.volatile.is_none();
        if is_asked {
            overlays.push(None);
        }
        let mut streams = self.streams(&overlays);
        if is_asked {
            self.learn_volatile(streams.pop().and_then(Result::ok).as_deref());
        }
        // The marked renders come after the overlays; one that helm refused teaches nothing.
        for stream in streams.split_off(assignments.len()).into_iter().flatten() {
            self.learn(&stream);
        }
        let mut attempts = Vec::new();
        for ((assignment, written), stream) in assignments.iter().zip(written).zip(streams) {
            attempts.push(match stream.map(|stream| self.read(&stream)) {
                Ok(Ok(after)) => {
                    let proof = self.proof(assignment, &after);
                    Ok(Attempt { assignment: assignment.clone(), written, proof })
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
        let again = again.and_then(|again| self.read(again).ok());
        let found = again.map(|again| prove::volatile(&self.before, &again));
        self.allowed.volatile = Some(found.unwrap_or_default());
    }

    /// All values of an overlay: those of the assignment, and what goes with them.
    pub(super) fn overlay(&self, assignment: &Assignment) -> Value {
        let texts = assignment.iter().map(|(slot, text)| (*slot, text.clone()));
        let mut values = slot::filled(&self.slots, texts, &self.effective);
        for (path, text) in self.compiled_values() {
            values::set(&mut values, path, Value::from(text), &self.effective);
        }
        // Guards are only opened where an image changes, so that an overlay without images is
        // empty.
        let is_moving = values.as_object().is_some_and(|map| !map.is_empty());
        if is_moving {
            self.set_guards(&mut values);
        }
        for (path, value) in &self.restored {
            values::set(&mut values, path, value.clone(), &self.effective);
        }
        self.secrets.set(&mut values, &self.effective);
        self.policies.set(&mut values, &self.effective);
        for setting in self.options.settings {
            values::set(&mut values, &setting.path, setting.value.clone(), &self.effective);
        }
        values
    }

    /// Proves a render with an overlay. If something differs that is not expected, and it is not
    /// known yet what differs from render to render, that is found out first.
    fn proof(&mut self, assignment: &Assignment, after: &Rendered) -> Proof {
        self.allowed.inserted = self.compiled_values().map(|(_, text)| text).collect();
        // A Secret that holds the chart's own values shows them with the new texts.
        let slots = &self.slots;
        let texts = assignment.iter().map(|(slot, text)| (slots[*slot].text.clone(), text.clone()));
        let compiled = self.compiled_values().map(|(_, text)| (String::new(), text));
        self.allowed.echoes = texts.chain(compiled).collect();
        self.allowed.echoes.extend(self.policies.echoes());
        self.allowed.pull_secret = self.target.pull_secret.clone();
        self.allowed.guards =
            self.guards.iter().filter_map(|path| path.last_key().map(str::to_owned)).collect();
        let is_home = |reference: &Reference| self.target.is_home(reference);
        let mut proof = prove::prove(&self.before, after, &self.sites, &self.allowed, &is_home);
        if !proof.changes.is_empty() && self.allowed.volatile.is_none() {
            let again = self.streams(&[None]).pop().and_then(Result::ok);
            self.learn_volatile(again.as_deref());
            proof = prove::prove(&self.before, after, &self.sites, &self.allowed, &is_home);
        }
        self.prove_compiled(after, &mut proof);
        proof
    }
}

/// The better of two attempts: the one with fewer unexpected changes, then with fewer images left,
/// then with fewer values. Of two equals, the first.
pub(super) fn better(one: Option<Attempt>, other: Option<Attempt>) -> Option<Attempt> {
    let rank = |attempt: &Attempt| {
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

impl Attempt {
    /// Whether nothing is wrong with it but images that were not moved.
    pub(super) fn is_clean(&self) -> bool {
        self.proof.verdict() < Verdict::Refuted
    }
}
