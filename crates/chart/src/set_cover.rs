//! Set cover: the fewest values of a chart that reach all images, pods or containers in question.
//! The smallest cover is NP-hard; charts have few enough values that a greedy search is rarely
//! worse. In each round it takes the choices that cover most.
//!
//! For example, the documents 1, 2 and 3 need a pull secret. The value `global` reaches 1 and 2,
//! `web` reaches 1, `db` reaches 3. Round 1: `global` covers two documents and is taken; `web` and
//! `db` cover one each. Round 2: `web` covers nothing more, so only `db` is taken. The cover is
//! `global`, `db`.

use std::collections::BTreeSet;

/// What a greedy search chooses from. Which choices there are, and what they cover, may depend on
/// what was taken before.
pub(crate) trait CoverProblem {
    /// One choice. Of two that are equally good, the lesser one is taken.
    type Choice: Ord;
    /// What decides between choices with the same gain: the greater is better.
    type Preference: Ord;

    /// The choices that may still help.
    fn list_choices(&self) -> BTreeSet<Self::Choice>;

    /// How good a choice is now. `None` if it covers nothing more, or must not be taken any more.
    fn score(&mut self, choice: &Self::Choice) -> Option<ChoiceScore<Self::Preference>>;

    /// Takes a choice.
    fn take(&mut self, choice: Self::Choice);
}

/// How good a choice is. A derived order, so the sequence of the fields matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChoiceScore<P> {
    /// How much the choice covers that is not covered yet.
    pub(crate) gain: usize,
    /// What decides between equals.
    pub(crate) preference: P,
}

/// Takes choices, the best first, until none helps any more.
pub(crate) fn cover_greedily<P: CoverProblem>(problem: &mut P) {
    loop {
        let mut scored = Vec::new();
        for choice in problem.list_choices() {
            scored.extend(problem.score(&choice).map(|score| (score, choice)));
        }
        scored.sort_by(|(a, choice_a), (b, choice_b)| b.cmp(a).then(choice_a.cmp(choice_b)));
        let Some(best) = scored.first().map(|(score, _)| score.gain) else { return };
        // Take all choices of this round that are as good as the best, so that a chart with a
        // hundred images of their own does not need a hundred rounds. Each is scored again, as one
        // taken before it may have covered the same already.
        for (_, choice) in scored {
            if problem.score(&choice).is_some_and(|score| score.gain >= best) {
                problem.take(choice);
            }
        }
    }
}

/// Whether two chosen sets may cover the same element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CoverOverlap {
    /// They may.
    Allowed,
    /// They may not: a container must not get the same variable twice.
    Forbidden,
}

/// A set to choose: what it covers, and what decides between it and another that covers as much.
#[derive(Debug, Clone)]
pub(crate) struct CoverSet<'a, T, P> {
    /// The number that the caller knows the set by. Of two that are equally good, the set with the
    /// lower number is taken.
    pub(crate) number: usize,
    /// What it covers.
    pub(crate) covers: &'a BTreeSet<T>,
    /// The greater is better.
    pub(crate) preference: P,
}

/// Chooses few of the sets so that they cover all of `wanted` that any of them covers. Returns the
/// numbers of the chosen sets, the first taken first, and what is left of `wanted`.
pub(crate) fn choose_covering_sets<T: Ord + Clone, P: Ord + Copy>(
    sets: &[CoverSet<T, P>],
    wanted: BTreeSet<T>,
    overlap: CoverOverlap,
) -> (Vec<usize>, BTreeSet<T>) {
    let mut search =
        SetSearch { sets, overlap, open: wanted, covered: BTreeSet::new(), taken: vec![] };
    cover_greedily(&mut search);
    (search.taken.iter().map(|at| sets[*at].number).collect(), search.open)
}

/// The search among fixed sets; a choice is the number of the set and its place in the list.
struct SetSearch<'a, T, P> {
    sets: &'a [CoverSet<'a, T, P>],
    overlap: CoverOverlap,
    open: BTreeSet<T>,
    covered: BTreeSet<T>,
    taken: Vec<usize>,
}

impl<T: Ord + Clone, P: Ord + Copy> CoverProblem for SetSearch<'_, T, P> {
    type Choice = (usize, usize);
    type Preference = P;

    fn list_choices(&self) -> BTreeSet<Self::Choice> {
        self.sets.iter().enumerate().map(|(at, set)| (set.number, at)).collect()
    }

    fn score(&mut self, (_, at): &Self::Choice) -> Option<ChoiceScore<P>> {
        let set = &self.sets[*at];
        if self.overlap == CoverOverlap::Forbidden && !set.covers.is_disjoint(&self.covered) {
            return None;
        }
        let gain = set.covers.intersection(&self.open).count();
        (gain > 0).then_some(ChoiceScore { gain, preference: set.preference })
    }

    fn take(&mut self, (_, at): Self::Choice) {
        let covers = self.sets[at].covers;
        self.open.retain(|element| !covers.contains(element));
        self.covered.extend(covers.iter().cloned());
        self.taken.push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(sets: &[&[u8]], wanted: &[u8], overlap: CoverOverlap) -> (Vec<usize>, Vec<u8>) {
        let owned: Vec<BTreeSet<u8>> =
            sets.iter().map(|set| set.iter().copied().collect()).collect();
        let sets: Vec<_> = owned
            .iter()
            .enumerate()
            .map(|(number, covers)| CoverSet { number, covers, preference: () })
            .collect();
        let wanted = wanted.iter().copied().collect();
        let (taken, left) = choose_covering_sets(&sets, wanted, overlap);
        (taken, left.into_iter().collect())
    }

    #[test]
    fn the_set_that_covers_most_is_taken_first_and_none_is_taken_for_nothing() {
        let sets: [&[u8]; 3] = [&[1], &[1, 2], &[3]];
        assert_eq!(choose(&sets, &[1, 2, 3, 4], CoverOverlap::Allowed), (vec![1, 2], vec![4]));
        assert_eq!(choose(&[&[1, 2], &[1, 2]], &[1, 2], CoverOverlap::Allowed), (vec![0], vec![]));
    }

    #[test]
    fn what_may_not_be_covered_twice_is_left_open() {
        let sets: [&[u8]; 2] = [&[1, 2], &[2, 3]];
        assert_eq!(choose(&sets, &[1, 2, 3], CoverOverlap::Allowed), (vec![0, 1], vec![]));
        assert_eq!(choose(&sets, &[1, 2, 3], CoverOverlap::Forbidden), (vec![0], vec![3]));
    }
}
