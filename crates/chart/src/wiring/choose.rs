//! Chooses the fewest values that give an entry to all containers that need it, and to no container
//! that it would change.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::candidates::{CandidateKind, CandidateValue};
use super::pods::SpecLocation;
use super::probe::ValueReach;
use crate::set_cover::{CoverOverlap, CoverSet, choose_covering_sets};

/// Chooses values for the containers (pods, for volumes) in `wanted` and returns
/// the indexes of the chosen candidates and those of `wanted` that none reaches. A value may also
/// reach the containers in `harmless`, and no others.
pub(super) fn choose_covering_values(
    candidates: &[CandidateValue],
    reach: &[ValueReach],
    holds: CandidateKind,
    wanted: &BTreeSet<SpecLocation>,
    harmless: &BTreeSet<SpecLocation>,
) -> (Vec<usize>, BTreeSet<SpecLocation>) {
    let reached = |index: usize| match holds {
        CandidateKind::Volumes => &reach[index].pods,
        CandidateKind::Env | CandidateKind::Mounts => &reach[index].containers,
    };
    // This is why there are no harmless pods for volumes: a pod whose claim or Secret does not
    // exist does not start, even if no container mounts the volume.
    let is_fit = |index: &usize| {
        candidates[*index].kind == holds
            && !reach[*index].is_elsewhere
            && !reached(*index).is_empty()
            && reached(*index).iter().all(|spot| wanted.contains(spot) || harmless.contains(spot))
    };
    let sets: Vec<_> = (0..candidates.len())
        .filter(is_fit)
        .map(|number| CoverSet {
            number,
            covers: reached(number),
            preference: (!reach[number].is_config, Reverse(candidates[number].path.steps().len())),
        })
        .collect();
    // Two values that reach the same container would give it the same variable twice, and the API
    // server rejects duplicate mounts.
    choose_covering_sets(&sets, wanted.clone(), CoverOverlap::Forbidden)
}
