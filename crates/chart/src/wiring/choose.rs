//! Chooses the fewest values that give an entry to all containers that need it, and to no container
//! that it would change.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::candidates::{CandidateKind, CandidateValue};
use super::pods::SpecLocation;
use super::probe::ValueReach;

/// Chooses values for the containers (pods, for volumes) in `wanted`, by a greedy search. Returns
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
    let fit: Vec<usize> = (0..candidates.len()).filter(is_fit).collect();
    let mut open = wanted.clone();
    let mut done = BTreeSet::new();
    let mut chosen = Vec::new();
    loop {
        let gain = |index: usize| reached(index).intersection(&open).count();
        // Two values that reach the same container would give it the same variable twice, and the
        // API server rejects duplicate mounts.
        let fresh = fit.iter().filter(|index| reached(**index).is_disjoint(&done));
        let best = fresh.max_by_key(|index| {
            let depth = candidates[**index].path.steps().len();
            (gain(**index), !reach[**index].is_config, Reverse(depth), Reverse(**index))
        });
        let Some(best) = best.filter(|best| gain(**best) > 0) else { break };
        open.retain(|spot| !reached(*best).contains(spot));
        done.extend(reached(*best).iter().cloned());
        chosen.push(*best);
    }
    (chosen, open)
}
