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
