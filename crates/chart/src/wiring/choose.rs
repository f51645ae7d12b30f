//! The fewest values that give something to the containers that want it, and to no other that it
//! would mean anything to.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::candidates::{Candidate, Holds};
use super::pods::Spot;
use super::probe::Reach;

/// The values that are chosen for `wanted`, and the containers (or pods) that none of them reaches.
/// A value may reach `harmless` ones too.
pub(super) fn cover(
    candidates: &[Candidate],
    reach: &[Reach],
    holds: Holds,
    wanted: &BTreeSet<Spot>,
    harmless: &BTreeSet<Spot>,
) -> (Vec<usize>, BTreeSet<Spot>) {
    let reached = |index: usize| match holds {
        Holds::Volumes => &reach[index].pods,
        Holds::Env | Holds::Mounts => &reach[index].containers,
    };
    // A volume in a pod that does not mount it would still have to be there.
    let is_fit = |index: &usize| {
        candidates[*index].holds == holds
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
        // What is given twice is told twice: none that reaches what has it already.
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
