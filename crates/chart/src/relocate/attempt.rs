//! An overlay that was tried: written as the file that the user will get, rendered, and proven.

use super::relocation::RelocatedValue;
use super::solve::SlotAssignment;
use crate::proof::relocation_proof::{ProofVerdict, RelocationProof};

/// The text of an overlay, and the images that each of its values moves.
pub(super) struct WrittenOverlay {
    pub(super) text: String,
    pub(super) lines: Vec<RelocatedValue>,
}

/// An overlay that was rendered, and what the render proves.
pub(super) struct OverlayAttempt {
    pub(super) assignment: SlotAssignment,
    pub(super) written: WrittenOverlay,
    pub(super) proof: RelocationProof,
}

impl OverlayAttempt {
    /// Whether it moves as many images as `promise`, the solver's prediction, and changes nothing
    /// else.
    pub(super) fn keeps_promise(&self, promise: usize) -> bool {
        self.proof.moved.len() >= promise
            && self.proof.changes.is_empty()
            && self.proof.foreign.is_empty()
    }

    /// Whether nothing is wrong with it but images that were not moved.
    pub(super) fn is_clean(&self) -> bool {
        self.proof.verdict() < ProofVerdict::Refuted
    }
}

/// The best attempts of a search. An attempt that changes something else cannot be delivered, but
/// it may move more images: what it changes is then removed, and the image that stays is only the
/// one that carries it.
#[derive(Default)]
pub(super) struct BestAttempts {
    /// The best of those with which nothing is wrong but images that were not moved.
    clean: Option<OverlayAttempt>,
    /// The best of the others.
    spoiled: Option<OverlayAttempt>,
}

impl BestAttempts {
    /// Adds an attempt.
    pub(super) fn add(&mut self, attempt: OverlayAttempt) {
        let best = if attempt.is_clean() { &mut self.clean } else { &mut self.spoiled };
        *best = better_attempt(best.take(), Some(attempt));
    }

    /// Adds the attempts of another search.
    pub(super) fn add_all(&mut self, other: Self) {
        for attempt in [other.clean, other.spoiled].into_iter().flatten() {
            self.add(attempt);
        }
    }

    /// Takes the attempt whose side effects are worth removing: it moves more than the clean one.
    pub(super) fn take_spoiled(&mut self) -> Option<OverlayAttempt> {
        let moved = self.clean.as_ref().map(|clean| clean.proof.moved.len());
        self.spoiled.take_if(|spoiled| moved.is_none_or(|moved| spoiled.proof.moved.len() > moved))
    }

    /// The attempts of this search, the best first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &OverlayAttempt> {
        self.clean.iter().chain(&self.spoiled)
    }

    /// The attempt to deliver; one that is not clean only where there is no other.
    pub(super) fn into_best(self) -> Option<OverlayAttempt> {
        self.clean.or(self.spoiled)
    }
}

/// The better of two attempts: the one with fewer images left, then with fewer unexpected changes,
/// then with fewer values. Of two equals, the first.
fn better_attempt(
    one: Option<OverlayAttempt>,
    other: Option<OverlayAttempt>,
) -> Option<OverlayAttempt> {
    let rank = |attempt: &OverlayAttempt| {
        let proof = &attempt.proof;
        let stayed = proof.stayed.len() + proof.compiled_in.len();
        (stayed, proof.changes.len() + proof.foreign.len(), attempt.written.lines.len())
    };
    match (one, other) {
        (Some(one), Some(other)) if rank(&other) < rank(&one) => Some(other),
        (Some(one), _) => Some(one),
        (None, other) => other,
    }
}
