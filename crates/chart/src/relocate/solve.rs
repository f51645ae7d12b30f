//! Chooses the values of the overlay: from what the marked renders showed, the smallest set of
//! values with which every image has its name at the site. The result is a prediction; `attempt`
//! renders and proves it.
//!
//! # Worked example
//!
//! A chart has two images with a shared registry:
//!
//! ```text
//! slot  value       text       the templates write
//! 0     registry    docker.io  {{ registry }}/{{ repository }}:1
//! 1     repository  org/app    {{ registry }}/{{ cache }}:7
//! 2     cache       redis
//! ```
//!
//! The marked render has `zq0qzdocker.io/zq1qzorg/app:1` and `zq0qzdocker.io/zq2qzredis:7`. So
//! there are two goals, each with one composition (slots with their offsets in the text):
//!
//! ```text
//! goal  text now             text wanted              slots
//! A     docker.io/org/app:1  site/ai/org/app:1        0 at 0, 1 at 10
//! B     docker.io/redis:7    site/ai/library/redis:7  0 at 0, 2 at 10
//! ```
//!
//! Round 1, nothing is assigned yet. For each goal, the slots are opened from the front until the
//! text around the gaps fits the wanted text:
//!
//! - A: with slot 0 open, `?/org/app:1` fits `site/ai/org/app:1`: option {0 = `site/ai`}.
//! - B: with slot 0 open, `?/redis:7` fits too: option {0 = `site/ai/library`}.
//!
//! Each option meets one goal with one value, so both score the same and the first in alphabetical
//! order is taken: {0 = `site/ai`}. The other sets the same slot and is dropped.
//!
//! Round 2: A is met. For B, slot 0 is fixed now, so slot 2 is opened: `site/ai/?:7` fits with
//! `library/redis`, and the option meets B without losing A: {2 = `library/redis`}.
//!
//! Round 3: no goal is left. Neither value can be removed again (`prune_assignment`), and the
//! assignment is {0 = `site/ai`, 2 = `library/redis`}: two lines of overlay.
//!
//! Had the chart an unset `global.registry` that takes the place of `registry` when it is set, a
//! second composition of each goal would have it in `given`. Assignments with and without unset
//! registries are made apart (`UnsetRegistries`), and the better one is rendered first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::set_cover::{ChoiceScore, CoverProblem, cover_greedily};
use crate::taint::image_move::DigestChange;
use crate::taint::slots::ValueSlot;

/// How the text of one image is made up of slots, as one marked render showed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Composition {
    /// The text without markers.
    pub(crate) text: String,
    /// Slots with their byte offsets in the text, in the order of the offsets.
    pub(crate) slots: Vec<(usize, usize)>,
    /// Those of the slots that the chart leaves unset. The image is made up like this only if the
    /// overlay sets all of them.
    pub(crate) given: BTreeSet<usize>,
}

/// One image at one location: the text that it should get, and how it can be made up.
#[derive(Debug, Clone)]
pub(crate) struct MoveGoal {
    /// The text now: `docker.io/redis:7`.
    pub(crate) was: String,
    /// The text that it should get: `site/ai/library/redis:7`.
    pub(crate) wanted: String,
    /// The digest's change, where the site has another index.
    pub(crate) digest: Option<DigestChange>,
    /// Each with another set of unset values set, and at most one with none.
    pub(crate) compositions: Vec<Composition>,
}

/// The new texts of slots, by the number of the slot.
pub(crate) type SlotAssignment = BTreeMap<usize, String>;

/// The input of the solver.
pub(crate) struct OverlayProblem<'a> {
    /// All slots of the chart.
    pub(crate) slots: &'a [ValueSlot],
    /// All images to move.
    pub(crate) goals: &'a [MoveGoal],
    /// Texts to try for the first slot when a name is split among several, best first.
    pub(crate) registries: &'a [String],
    /// Slots that must not be set, with the reason.
    pub(crate) unusable: &'a BTreeMap<usize, String>,
}

/// Which registries that the chart leaves unset an assignment may set. A global one moves many
/// images by one line, and may spoil an image that it must not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnsetRegistries {
    /// All of them.
    Any,
    /// Those of single images, and no global one.
    OwnOnly,
    /// None.
    Ignore,
}

impl OverlayProblem<'_> {
    /// One assignment for each choice of unset registries that makes a difference.
    pub(crate) fn solve_all(&self) -> Vec<SlotAssignment> {
        let given = || self.goals.iter().flat_map(|goal| &goal.compositions).flat_map(|f| &f.given);
        let mut all = vec![UnsetRegistries::Ignore];
        if given().any(|slot| !self.slots[*slot].is_global()) {
            all.insert(0, UnsetRegistries::OwnOnly);
        }
        if given().any(|slot| self.slots[*slot].is_global()) {
            all.insert(0, UnsetRegistries::Any);
        }
        all.into_iter().map(|unset| self.solve_greedily(unset)).collect()
    }

    /// The solver's assignments, the best first, each with the number of images that it should
    /// move. They differ in whether they set registries that the chart leaves unset.
    pub(crate) fn rank_assignments(&self) -> Vec<(usize, SlotAssignment)> {
        let mut plans: Vec<(usize, SlotAssignment)> = self
            .solve_all()
            .into_iter()
            .map(|assignment| (self.satisfied_goals(&assignment).len(), assignment))
            .collect();
        // Where no registry is unset, all of them are the same.
        plans.dedup();
        plans.sort_by_cached_key(|(promise, assignment)| {
            (self.count_spoiled_goals(assignment), Reverse(*promise), assignment.len())
        });
        plans
    }

    /// A small assignment by a greedy search: in each round, the values that meet most goals each.
    pub(crate) fn solve_greedily(&self, unset: UnsetRegistries) -> SlotAssignment {
        let places = self.goals_by_slot();
        let mut search =
            AssignmentSearch { problem: self, unset, places, assignment: SlotAssignment::new() };
        cover_greedily(&mut search);
        self.prune_assignment(search.assignment, &search.places)
    }

    /// For each slot, the goals whose compositions it is part of: only these can change with it.
    fn goals_by_slot(&self) -> Vec<BTreeSet<usize>> {
        let mut places = vec![BTreeSet::new(); self.slots.len()];
        for (index, goal) in self.goals.iter().enumerate() {
            for (slot, _) in goal.compositions.iter().flat_map(|form| &form.slots) {
                places[*slot].insert(index);
            }
        }
        places
    }

    /// The goals that an assignment meets.
    pub(crate) fn satisfied_goals(&self, assignment: &SlotAssignment) -> BTreeSet<usize> {
        (0..self.goals.len()).filter(|goal| self.is_satisfied(*goal, assignment)).collect()
    }

    /// How many images get a text that is neither the old nor the wanted one. A global registry
    /// does that where images come from several registries.
    pub(crate) fn count_spoiled_goals(&self, assignment: &SlotAssignment) -> usize {
        let is_spoiled = |goal: &&MoveGoal| {
            self.compose_text(goal, assignment)
                .is_some_and(|text| text != goal.was && text != goal.wanted)
        };
        self.goals.iter().filter(is_spoiled).count()
    }

    /// Whether an assignment meets a goal.
    fn is_satisfied(&self, goal: usize, assignment: &SlotAssignment) -> bool {
        let goal = &self.goals[goal];
        self.compose_text(goal, assignment).is_some_and(|text| text == goal.wanted)
    }

    /// The assignment without values that are not needed: a later value may have made an earlier
    /// one redundant.
    fn prune_assignment(
        &self,
        mut assignment: SlotAssignment,
        places: &[BTreeSet<usize>],
    ) -> SlotAssignment {
        let slots: Vec<usize> = assignment.keys().copied().collect();
        for slot in slots {
            // In place: a copy for each value would take the square of their number.
            let met: Vec<usize> = places[slot]
                .iter()
                .copied()
                .filter(|goal| self.is_satisfied(*goal, &assignment))
                .collect();
            let Some(text) = assignment.remove(&slot) else { continue };
            if !met.into_iter().all(|goal| self.is_satisfied(goal, &assignment)) {
                assignment.insert(slot, text);
            }
        }
        assignment
    }

    /// The text that an image gets with an assignment; `None` if no render showed it.
    fn compose_text(&self, goal: &MoveGoal, assignment: &SlotAssignment) -> Option<String> {
        let form = find_composition(goal, assignment)?;
        let mut text = String::new();
        let mut at = 0;
        for (slot, start) in &form.slots {
            let Some(new) = assignment.get(slot) else { continue };
            let end = self.slot_end(form, *slot, *start)?;
            // Two slots overlap: one value is a part of the other, and the text is not predictable.
            if *start < at {
                return None;
            }
            text.push_str(&form.text[at..*start]);
            text.push_str(new);
            at = end;
        }
        text.push_str(&form.text[at..]);
        Some(text)
    }

    /// The offset where a slot's text ends in a composition; `None` if the template changed the
    /// text (`lower`, `trimSuffix`), so that it is not known what another value would become.
    fn slot_end(&self, form: &Composition, slot: usize, start: usize) -> Option<usize> {
        let text = &self.slots[slot].text;
        form.text.get(start..)?.starts_with(text.as_str()).then(|| start + text.len())
    }

    /// The ways to meet one goal on top of an assignment, at most one for each composition: lists
    /// of slots with their new texts.
    fn find_options(
        &self,
        goal: usize,
        assignment: &SlotAssignment,
        unset: UnsetRegistries,
    ) -> Vec<Vec<(usize, String)>> {
        let goal = &self.goals[goal];
        let mut options = Vec::new();
        let is_wanted = |form: &&Composition| match unset {
            UnsetRegistries::Any => true,
            UnsetRegistries::OwnOnly => {
                !form.given.iter().any(|slot| self.slots[*slot].is_global())
            }
            UnsetRegistries::Ignore => form.given.is_empty(),
        };
        for form in goal.compositions.iter().filter(is_wanted) {
            // A value with the digest can only become the one with the site's digest.
            let pins = self.find_pins(goal, form, assignment);
            let mut assignment = assignment.clone();
            assignment.extend(pins.iter().cloned());
            let assignment = &assignment;
            let free: Vec<usize> = form
                .slots
                .iter()
                .filter(|(slot, start)| {
                    !assignment.contains_key(slot)
                        && !self.unusable.contains_key(slot)
                        && self.slot_end(form, *slot, *start).is_some()
                })
                .map(|(slot, _)| *slot)
                .collect();
            // From the front, since the registry at the head of a name is what has to change; as
            // few slots as possible.
            for count in 1..=free.len() {
                let Some(pattern) = self.split_at_open_slots(form, &free[..count], assignment)
                else {
                    continue;
                };
                if let Some(texts) = self.match_gaps(&pattern, &goal.wanted) {
                    let opened = free[..count].iter().copied().zip(texts);
                    options.push(pins.iter().cloned().chain(opened).collect());
                    break;
                }
            }
        }
        options
    }

    /// The values behind the name that have a digest which is another one at the site, with their new
    /// texts.
    fn find_pins(
        &self,
        goal: &MoveGoal,
        form: &Composition,
        assignment: &SlotAssignment,
    ) -> Vec<(usize, String)> {
        let Some(change) = &goal.digest else { return vec![] };
        let pins = form.slots.iter().filter(|(slot, start)| {
            *start > 0
                && self.slots[*slot].text.contains(&change.was)
                && !assignment.contains_key(slot)
                && !self.unusable.contains_key(slot)
                && self.slot_end(form, *slot, *start).is_some()
        });
        pins.map(|(slot, _)| (*slot, change.apply(&self.slots[*slot].text))).collect()
    }

    /// The text of a composition with gaps for the `open` slots, as the literals around the gaps:
    /// one more than there are gaps. Assigned slots have their new text in the literals.
    fn split_at_open_slots(
        &self,
        form: &Composition,
        open: &[usize],
        assignment: &SlotAssignment,
    ) -> Option<Vec<String>> {
        let mut pattern = vec![String::new()];
        let mut at = 0;
        let mut opened = BTreeSet::new();
        for (slot, start) in &form.slots {
            let is_open = open.contains(slot);
            let assigned = assignment.get(slot);
            if !is_open && assigned.is_none() {
                continue;
            }
            let end = self.slot_end(form, *slot, *start)?;
            // Overlapping slots, or one value twice in one name: too rare to be worth solving.
            if *start < at || is_open && !opened.insert(*slot) {
                return None;
            }
            let literal = pattern.last_mut()?;
            literal.push_str(&form.text[at..*start]);
            match assigned {
                Some(text) => literal.push_str(text),
                None => pattern.push(String::new()),
            }
            at = end;
        }
        pattern.last_mut()?.push_str(&form.text[at..]);
        Some(pattern)
    }

    /// The texts for the gaps of a pattern with which it is the wanted text. With several gaps
    /// there are many ways to split the name; the first gap gets one of `registries`, so that many
    /// images agree on it.
    ///
    /// For example, `["", "/", ":7"]` and `site/ai/library/redis:7` with the registry `site/ai`
    /// give `["site/ai", "library/redis"]`.
    fn match_gaps(&self, pattern: &[String], wanted: &str) -> Option<Vec<String>> {
        let (first, rest) = pattern.split_first()?;
        let wanted = wanted.strip_prefix(first.as_str())?;
        match rest {
            [] => wanted.is_empty().then(Vec::new),
            [last] => {
                let text = wanted.strip_suffix(last.as_str())?;
                // An empty value usually means that the template uses a default.
                (!text.is_empty()).then(|| vec![text.to_owned()])
            }
            _ => self.registries.iter().find_map(|registry| {
                let behind = wanted.strip_prefix(registry.as_str())?;
                let mut texts = vec![registry.clone()];
                texts.extend(self.match_gaps(rest, behind)?);
                Some(texts)
            }),
        }
    }
}

/// The search for a small assignment. A choice is a list of slots with new texts that meets one goal
/// more; what it is worth depends on the slots that were assigned before.
struct AssignmentSearch<'a> {
    problem: &'a OverlayProblem<'a>,
    unset: UnsetRegistries,
    /// For each slot, the goals that can change with it.
    places: Vec<BTreeSet<usize>>,
    assignment: SlotAssignment,
}

impl CoverProblem for AssignmentSearch<'_> {
    type Choice = Vec<(usize, String)>;
    /// The fewest values, then the values nearest to the top.
    type Preference = (Reverse<usize>, Reverse<usize>);

    fn list_choices(&self) -> BTreeSet<Self::Choice> {
        let satisfied = self.problem.satisfied_goals(&self.assignment);
        (0..self.problem.goals.len())
            .filter(|goal| !satisfied.contains(goal))
            .flat_map(|goal| self.problem.find_options(goal, &self.assignment, self.unset))
            .collect()
    }

    /// Goals that the option meets for each value that it sets. `None` if it meets no further goal,
    /// if a goal that was met no longer is, or if one of its slots is assigned already.
    fn score(&mut self, option: &Self::Choice) -> Option<ChoiceScore<Self::Preference>> {
        // Fixed-point, so that scores can be ordered. Options have a handful of values, so that
        // rounding makes no difference.
        const SCALE: usize = 1000;
        if option.iter().any(|(slot, _)| self.assignment.contains_key(slot)) {
            return None;
        }
        let touched: BTreeSet<usize> =
            option.iter().flat_map(|(slot, _)| self.places[*slot].iter().copied()).collect();
        let is_met = |goal: &usize, assignment: &SlotAssignment| {
            self.problem.is_satisfied(*goal, assignment)
        };
        let before: Vec<bool> = touched.iter().map(|goal| is_met(goal, &self.assignment)).collect();
        // Tried in place, because copying the assignment for each of many options would be slow.
        self.assignment.extend(option.iter().cloned());
        let after: Vec<bool> = touched.iter().map(|goal| is_met(goal, &self.assignment)).collect();
        for (slot, _) in option {
            self.assignment.remove(slot);
        }
        if before.iter().zip(&after).any(|(was, is)| *was && !is) {
            return None;
        }
        let won = before.iter().zip(&after).filter(|(was, is)| !**was && **is).count();
        let depth =
            option.iter().map(|(slot, _)| self.problem.slots[*slot].path.steps().len()).sum();
        let preference = (Reverse(option.len()), Reverse(depth));
        (won > 0).then(|| ChoiceScore { gain: won * SCALE / option.len(), preference })
    }

    fn take(&mut self, option: Self::Choice) {
        self.assignment.extend(option);
    }
}

/// How an image is made up with an assignment: the composition with exactly the unset slots that
/// the assignment sets; `None` if no render showed that.
pub(super) fn find_composition<'w>(
    goal: &'w MoveGoal,
    assignment: &SlotAssignment,
) -> Option<&'w Composition> {
    let given: BTreeSet<usize> = goal
        .compositions
        .iter()
        .flat_map(|form| form.given.iter().copied())
        .filter(|slot| assignment.contains_key(slot))
        .collect();
    goal.compositions.iter().find(|form| form.given == given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::DocumentPath;
    use crate::taint::slots::SlotReason;

    fn new_slot(key: &str, text: &str) -> ValueSlot {
        let reason = if text.is_empty() { SlotReason::Unset } else { SlotReason::Likely };
        ValueSlot { path: DocumentPath::default().key(key), start: 0, text: text.into(), reason }
    }

    fn new_goal(wanted: &str, text: &str, slots: &[(usize, usize)]) -> MoveGoal {
        let slots = slots.to_vec();
        let set = Composition { text: text.into(), slots, given: BTreeSet::new() };
        MoveGoal { was: text.into(), wanted: wanted.into(), digest: None, compositions: vec![set] }
    }

    fn solve_with_all_registries(slots: &[ValueSlot], goals: &[MoveGoal]) -> Vec<(usize, String)> {
        let registries = ["site/ai".to_owned(), "site".to_owned()];
        let unusable = BTreeMap::new();
        let problem = OverlayProblem { slots, goals, registries: &registries, unusable: &unusable };
        problem.solve_greedily(UnsetRegistries::Any).into_iter().collect()
    }

    #[test]
    fn one_string_gets_the_whole_name_and_keeps_what_the_template_appends() {
        let slots = [new_slot("repository", "ghcr.io/a/b")];
        let goals = [new_goal("site/ai/a/b:1-cpu", "ghcr.io/a/b:1-cpu", &[(0, 0)])];
        assert_eq!(solve_with_all_registries(&slots, &goals), [(0, "site/ai/a/b".into())]);
    }

    #[test]
    fn a_registry_alone_is_enough_and_a_library_image_needs_its_repository_too() {
        let slots = [
            new_slot("registry", "docker.io"),
            new_slot("repository", "org/app"),
            new_slot("r", "redis"),
        ];
        let one = [new_goal("site/ai/org/app:1", "docker.io/org/app:1", &[(0, 0), (1, 10)])];
        assert_eq!(solve_with_all_registries(&slots, &one), [(0, "site/ai".into())]);
        let both = [
            one[0].clone(),
            new_goal("site/ai/library/redis:7", "docker.io/redis:7", &[(0, 0), (2, 10)]),
        ];
        assert_eq!(
            solve_with_all_registries(&slots, &both),
            [(0, "site/ai".into()), (2, "library/redis".into())]
        );
    }

    #[test]
    fn an_unset_global_registry_covers_all_that_it_reaches() {
        let slots =
            [new_slot("global", ""), new_slot("a", "docker.io"), new_slot("b", "docker.io")];
        let goals: Vec<MoveGoal> = [(1, "a"), (2, "b")]
            .into_iter()
            .map(|(slot, name)| {
                let given = Composition {
                    text: format!("/x/{name}:1"),
                    slots: vec![(0, 0)],
                    given: BTreeSet::from([0]),
                };
                let (wanted, was) =
                    (format!("site/ai/x/{name}:1"), format!("docker.io/x/{name}:1"));
                let set = new_goal(&wanted, &was, &[(slot, 0)]).compositions.remove(0);
                MoveGoal { was, wanted, digest: None, compositions: vec![set, given] }
            })
            .collect();
        assert_eq!(solve_with_all_registries(&slots, &goals), [(0, "site/ai".into())]);
    }

    #[test]
    fn a_digest_that_is_another_one_at_the_site_is_a_value_of_its_own() {
        let slots = [new_slot("repository", "q.io/o/app"), new_slot("digest", "sha256:aa")];
        let digest = Some(DigestChange {
            was: "aa".into(),
            now: "bb".into(),
            algorithms: [types::DigestAlgorithm::Sha256; 2],
        });
        let goal =
            new_goal("site/ai/o/app:1@sha256:bb", "q.io/o/app:1@sha256:aa", &[(0, 0), (1, 13)]);
        let goals = [MoveGoal { digest: digest.clone(), ..goal }];
        assert_eq!(
            solve_with_all_registries(&slots, &goals),
            [(0, "site/ai/o/app".into()), (1, "sha256:bb".into())]
        );
        let whole = [new_slot("image", "q.io/o/app@sha256:aa")];
        let goal = new_goal("site/ai/o/app@sha256:bb", "q.io/o/app@sha256:aa", &[(0, 0)]);
        assert_eq!(
            solve_with_all_registries(&whole, &[MoveGoal { digest, ..goal }]),
            [(0, "site/ai/o/app@sha256:bb".into())]
        );
    }

    #[test]
    fn a_literal_before_the_first_value_is_out_of_reach() {
        let slots = [new_slot("name", "app")];
        let goals = [new_goal("site/ai/org/app:1", "ghcr.io/org/app:1", &[(0, 12)])];
        assert!(solve_with_all_registries(&slots, &goals).is_empty());
    }
}
