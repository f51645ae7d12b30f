//! Overlays that are tried: what the model promises is written as the file that will be handed
//! over, rendered as that file, and proven.

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

/// What was tried: an overlay and its proof.
pub(super) struct Attempt {
    pub(super) assignment: Assignment,
    pub(super) written: Written,
    pub(super) proof: Proof,
}

impl Attempt {
    /// Whether it moves what it promised and changes nothing else.
    fn keeps(&self, promise: usize) -> bool {
        self.proof.moved.len() >= promise
            && self.proof.changes.is_empty()
            && self.proof.foreign.is_empty()
    }
}

impl Mover<'_> {
    fn problem(&self) -> Problem<'_> {
        Problem {
            slots: &self.slots,
            wishes: &self.wishes,
            registries: &self.registries,
            unusable: &self.unusable,
        }
    }

    /// The places that no overlay is known to move.
    pub(super) fn open(&self) -> BTreeSet<usize> {
        let problem = self.problem();
        let Some((_, best)) = self.plans().into_iter().next() else { return BTreeSet::new() };
        let won = problem.satisfied(&best);
        (0..self.wishes.len()).filter(|wish| !won.contains(wish)).collect()
    }

    /// The overlays that promise something, with what they promise, the best first: with and
    /// without giving what is not set.
    fn plans(&self) -> Vec<(usize, Assignment)> {
        let problem = self.problem();
        let mut plans: Vec<(usize, Assignment)> = problem
            .solutions()
            .into_iter()
            .map(|assignment| (problem.satisfied(&assignment).len(), assignment))
            .collect();
        plans.dedup();
        plans.sort_by_cached_key(|(promise, assignment)| {
            (problem.spoiled(assignment), Reverse(*promise), assignment.len())
        });
        plans
    }

    /// Whether nothing that was learned since makes another overlay look better.
    pub(super) fn is_best(&self, attempt: &Attempt) -> bool {
        self.plans().first().is_some_and(|(_, assignment)| *assignment == attempt.assignment)
    }

    /// The best overlay. Another than the first is rendered only when the first does not hold what
    /// it promised; `marks` are rendered beside the first.
    pub(super) fn solved(&mut self, mut marks: Vec<Vec<usize>>) -> Option<Attempt> {
        // A chart that refuses one value after another is not worth more.
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
                Some(Err(message)) if self.exclude_refused(&assignment, &message) => {}
                _ => {
                    tried.insert(assignment);
                }
            }
        }
        best
    }

    /// Renders and proves overlays and, side by side, learns from marked renders.
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
        // What is made up anew with each render shows in a second one of the same values.
        let is_asked = self.is_unsteady && self.allowed.volatile.is_none();
        if is_asked {
            overlays.push(None);
        }
        let mut streams = self.streams(&overlays);
        if is_asked {
            self.learn_volatile(streams.pop().and_then(Result::ok).as_deref());
        }
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

    fn learn_volatile(&mut self, again: Option<&str>) {
        let again = again.and_then(|again| self.read(again).ok());
        let found = again.map(|again| prove::volatile(&self.before, &again));
        self.allowed.volatile = Some(found.unwrap_or_default());
    }

    /// The values that an overlay sets.
    pub(super) fn overlay(&self, assignment: &Assignment) -> Value {
        let texts = assignment.iter().map(|(slot, text)| (*slot, text.clone()));
        let mut values = slot::filled(&self.slots, texts, &self.effective);
        for (path, text) in self.compiled_values() {
            values::set(&mut values, path, Value::from(text), &self.effective);
        }
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

    fn proof(&mut self, assignment: &Assignment, after: &Rendered) -> Proof {
        self.allowed.inserted = self.compiled_values().map(|(_, text)| text).collect();
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

/// Least else changed, most moved, shortest.
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
    /// Whether a proof has nothing against it but what stayed.
    pub(super) fn is_clean(&self) -> bool {
        self.proof.verdict() < Verdict::Refuted
    }
}
