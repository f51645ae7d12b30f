//! Which values give which images: from the marked renders, the smallest set of values that makes
//! every place name the image at the site. A model only: what it promises is rendered and proven.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::slot::Slot;

/// How one place is made up of slots, as one marked render showed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// The text without markers.
    pub(crate) text: String,
    /// Slots and where they start in the text, in order.
    pub(crate) slots: Vec<(usize, usize)>,
    /// Those of them that are not set: the place has this form only when all of them are given.
    pub(crate) given: BTreeSet<usize>,
}

/// One place: what it has to become, and the forms that renders showed it in.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// The text that stands there.
    pub(crate) was: String,
    /// The text that has to stand there.
    pub(crate) wanted: String,
    /// Each with other unset values given; at most one with none.
    pub(crate) forms: Vec<Form>,
}

/// New texts of slots.
pub(crate) type Assignment = BTreeMap<usize, String>;

/// What is solved.
pub(crate) struct Problem<'a> {
    pub(crate) slots: &'a [Slot],
    pub(crate) wishes: &'a [Wish],
    /// Texts that a registry slot should get when a name is split among several slots, best first.
    pub(crate) registries: &'a [String],
    /// Slots that must not be used, and why.
    pub(crate) unusable: &'a BTreeMap<usize, String>,
}

/// How good an option is: places won for each value, then the fewest and highest values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    gain: usize,
    cost: Reverse<usize>,
    depth: Reverse<usize>,
}

/// Which registries that are not set may be given. A global one moves many images by one line, and
/// may stand in the way of one that it must not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unset {
    Use,
    UseOwn,
    Leave,
}

impl Problem<'_> {
    /// The assignments that are worth a look: with and without giving what is not set.
    pub(crate) fn solutions(&self) -> Vec<Assignment> {
        let given = || self.wishes.iter().flat_map(|wish| &wish.forms).flat_map(|f| &f.given);
        let mut all = vec![Unset::Leave];
        if given().any(|slot| !self.slots[*slot].is_global()) {
            all.insert(0, Unset::UseOwn);
        }
        if given().any(|slot| self.slots[*slot].is_global()) {
            all.insert(0, Unset::Use);
        }
        all.into_iter().map(|unset| self.solve(unset)).collect()
    }

    /// The smallest assignment that the greedy search finds: round by round the values that move
    /// most places each.
    pub(crate) fn solve(&self, unset: Unset) -> Assignment {
        let places = self.places();
        let mut assignment = Assignment::new();
        loop {
            let satisfied = self.satisfied(&assignment);
            let options: BTreeSet<Vec<(usize, String)>> = (0..self.wishes.len())
                .filter(|wish| !satisfied.contains(wish))
                .flat_map(|wish| self.options(wish, &assignment, unset))
                .collect();
            let mut scored: Vec<_> = options
                .into_iter()
                .filter_map(|option| Some((self.score(&option, &mut assignment, &places)?, option)))
                .collect();
            scored.sort_by(|(a, option_a), (b, option_b)| b.cmp(a).then(option_a.cmp(option_b)));
            let Some((best, _)) = scored.first() else { return self.pruned(assignment, &places) };
            let best = best.gain;
            // All that are as good as the best, unless one before has taken their worth away.
            for (_, option) in scored {
                let is_free = option.iter().all(|(slot, _)| !assignment.contains_key(slot));
                let score =
                    is_free.then(|| self.score(&option, &mut assignment, &places)).flatten();
                if score.is_some_and(|score| score.gain >= best) {
                    assignment.extend(option);
                }
            }
        }
    }

    /// The wishes that each slot has a part in.
    fn places(&self) -> Vec<BTreeSet<usize>> {
        let mut places = vec![BTreeSet::new(); self.slots.len()];
        for (index, wish) in self.wishes.iter().enumerate() {
            for (slot, _) in wish.forms.iter().flat_map(|form| &form.slots) {
                places[*slot].insert(index);
            }
        }
        places
    }

    /// The wishes that an assignment fulfils.
    pub(crate) fn satisfied(&self, assignment: &Assignment) -> BTreeSet<usize> {
        (0..self.wishes.len()).filter(|wish| self.is_satisfied(*wish, assignment)).collect()
    }

    /// How many places an assignment makes something of that is neither what stood there nor what
    /// has to: a global registry where images come from several.
    pub(crate) fn spoiled(&self, assignment: &Assignment) -> usize {
        let is_spoiled = |wish: &&Wish| {
            self.text(wish, assignment).is_some_and(|text| text != wish.was && text != wish.wanted)
        };
        self.wishes.iter().filter(is_spoiled).count()
    }

    /// How good an option is. `None` if it wins nothing or loses a place. The assignment is lent:
    /// the option is put in and taken out again.
    fn score(
        &self,
        option: &[(usize, String)],
        assignment: &mut Assignment,
        places: &[BTreeSet<usize>],
    ) -> Option<Score> {
        // A fraction with this denominator compares options exactly enough.
        const SCALE: usize = 1000;
        let touched: BTreeSet<usize> =
            option.iter().flat_map(|(slot, _)| places[*slot].iter().copied()).collect();
        let before: Vec<bool> =
            touched.iter().map(|wish| self.is_satisfied(*wish, assignment)).collect();
        let replaced: Vec<Option<String>> =
            option.iter().map(|(slot, text)| assignment.insert(*slot, text.clone())).collect();
        let after: Vec<bool> =
            touched.iter().map(|wish| self.is_satisfied(*wish, assignment)).collect();
        for ((slot, _), old) in option.iter().zip(replaced) {
            match old {
                Some(old) => assignment.insert(*slot, old),
                None => assignment.remove(slot),
            };
        }
        if before.iter().zip(&after).any(|(was, is)| *was && !is) {
            return None;
        }
        let won = before.iter().zip(&after).filter(|(was, is)| !**was && **is).count();
        let depth = option.iter().map(|(slot, _)| self.slots[*slot].path.steps().len()).sum();
        let cost = option.len();
        (won > 0).then(|| Score {
            gain: won * SCALE / cost,
            cost: Reverse(cost),
            depth: Reverse(depth),
        })
    }

    fn is_satisfied(&self, wish: usize, assignment: &Assignment) -> bool {
        let wish = &self.wishes[wish];
        self.text(wish, assignment).is_some_and(|text| text == wish.wanted)
    }

    /// The assignment without what is not needed: a later value may have made an earlier one idle.
    fn pruned(&self, mut assignment: Assignment, places: &[BTreeSet<usize>]) -> Assignment {
        let slots: Vec<usize> = assignment.keys().copied().collect();
        for slot in slots {
            let mut without = assignment.clone();
            without.remove(&slot);
            let is_idle = places[slot].iter().all(|wish| {
                !self.is_satisfied(*wish, &assignment) || self.is_satisfied(*wish, &without)
            });
            if is_idle {
                assignment = without;
            }
        }
        assignment
    }

    /// The text of a place under an assignment, as far as the renders told.
    fn text(&self, wish: &Wish, assignment: &Assignment) -> Option<String> {
        let form = form(wish, assignment)?;
        let mut text = String::new();
        let mut at = 0;
        for (slot, start) in &form.slots {
            let Some(new) = assignment.get(slot) else { continue };
            let end = self.end(form, *slot, *start)?;
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

    /// Where a slot's text ends in a form; `None` if the template made something else of it.
    fn end(&self, form: &Form, slot: usize, start: usize) -> Option<usize> {
        let text = &self.slots[slot].text;
        form.text.get(start..)?.starts_with(text.as_str()).then(|| start + text.len())
    }

    /// The ways to fulfil one wish on top of an assignment.
    fn options(
        &self,
        wish: usize,
        assignment: &Assignment,
        unset: Unset,
    ) -> Vec<Vec<(usize, String)>> {
        let wish = &self.wishes[wish];
        let mut options = Vec::new();
        let is_wanted = |form: &&Form| match unset {
            Unset::Use => true,
            Unset::UseOwn => !form.given.iter().any(|slot| self.slots[*slot].is_global()),
            Unset::Leave => form.given.is_empty(),
        };
        for form in wish.forms.iter().filter(is_wanted) {
            let free: Vec<usize> = form
                .slots
                .iter()
                .filter(|(slot, start)| {
                    !assignment.contains_key(slot)
                        && !self.unusable.contains_key(slot)
                        && self.end(form, *slot, *start).is_some()
                })
                .map(|(slot, _)| *slot)
                .collect();
            // From the front: the name's head is what has to change.
            for count in 1..=free.len() {
                let Some(pattern) = self.pattern(form, &free[..count], assignment) else {
                    continue;
                };
                if let Some(texts) = self.matched(&pattern, &wish.wanted) {
                    options.push(free[..count].iter().copied().zip(texts).collect());
                    break;
                }
            }
        }
        options
    }

    /// The text of a form with gaps where `open` slots stand: the literals around the gaps.
    fn pattern(&self, form: &Form, open: &[usize], assignment: &Assignment) -> Option<Vec<String>> {
        let mut pattern = vec![String::new()];
        let mut at = 0;
        let mut opened = BTreeSet::new();
        for (slot, start) in &form.slots {
            let is_open = open.contains(slot);
            let assigned = assignment.get(slot);
            if !is_open && assigned.is_none() {
                continue;
            }
            let end = self.end(form, *slot, *start)?;
            // One value that stands twice in one name has no simple answer.
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

    /// The texts of the gaps with which a pattern is the wanted text. Where a name is split among
    /// several, the first gets a whole registry, so that many images agree on it.
    fn matched(&self, pattern: &[String], wanted: &str) -> Option<Vec<String>> {
        let (first, rest) = pattern.split_first()?;
        let wanted = wanted.strip_prefix(first.as_str())?;
        match rest {
            [] => wanted.is_empty().then(Vec::new),
            [last] => {
                let text = wanted.strip_suffix(last.as_str())?;
                (!text.is_empty()).then(|| vec![text.to_owned()])
            }
            _ => self.registries.iter().find_map(|registry| {
                let behind = wanted.strip_prefix(registry.as_str())?;
                let mut texts = vec![registry.clone()];
                texts.extend(self.matched(rest, behind)?);
                Some(texts)
            }),
        }
    }
}

/// The form that a place has under an assignment; `None` if no render showed it.
pub(super) fn form<'w>(wish: &'w Wish, assignment: &Assignment) -> Option<&'w Form> {
    let given: BTreeSet<usize> = wish
        .forms
        .iter()
        .flat_map(|form| form.given.iter().copied())
        .filter(|slot| assignment.contains_key(slot))
        .collect();
    wish.forms.iter().find(|form| form.given == given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;
    use crate::relocate::slot::Reason;

    fn slot(key: &str, text: &str) -> Slot {
        let reason = if text.is_empty() { Reason::Unset } else { Reason::Likely };
        Slot { path: Path::default().key(key), start: 0, text: text.into(), reason }
    }

    fn wish(wanted: &str, text: &str, slots: &[(usize, usize)]) -> Wish {
        let slots = slots.to_vec();
        let set = Form { text: text.into(), slots, given: BTreeSet::new() };
        Wish { was: text.into(), wanted: wanted.into(), forms: vec![set] }
    }

    fn solved(slots: &[Slot], wishes: &[Wish]) -> Vec<(usize, String)> {
        let registries = ["site/ai".to_owned(), "site".to_owned()];
        let unusable = BTreeMap::new();
        let problem = Problem { slots, wishes, registries: &registries, unusable: &unusable };
        problem.solve(Unset::Use).into_iter().collect()
    }

    #[test]
    fn one_string_gets_the_whole_name_and_keeps_what_the_template_appends() {
        let slots = [slot("repository", "ghcr.io/a/b")];
        let wishes = [wish("site/ai/a/b:1-cpu", "ghcr.io/a/b:1-cpu", &[(0, 0)])];
        assert_eq!(solved(&slots, &wishes), [(0, "site/ai/a/b".into())]);
    }

    #[test]
    fn a_registry_alone_is_enough_and_a_library_image_needs_its_repository_too() {
        let slots =
            [slot("registry", "docker.io"), slot("repository", "org/app"), slot("r", "redis")];
        let one = [wish("site/ai/org/app:1", "docker.io/org/app:1", &[(0, 0), (1, 10)])];
        assert_eq!(solved(&slots, &one), [(0, "site/ai".into())]);
        let both = [
            one[0].clone(),
            wish("site/ai/library/redis:7", "docker.io/redis:7", &[(0, 0), (2, 10)]),
        ];
        assert_eq!(solved(&slots, &both), [(0, "site/ai".into()), (2, "library/redis".into())]);
    }

    #[test]
    fn an_unset_global_registry_covers_all_that_it_reaches() {
        let slots = [slot("global", ""), slot("a", "docker.io"), slot("b", "docker.io")];
        let wishes: Vec<Wish> = [(1, "a"), (2, "b")]
            .into_iter()
            .map(|(slot, name)| {
                let given = Form {
                    text: format!("/x/{name}:1"),
                    slots: vec![(0, 0)],
                    given: BTreeSet::from([0]),
                };
                let (wanted, was) =
                    (format!("site/ai/x/{name}:1"), format!("docker.io/x/{name}:1"));
                let set = wish(&wanted, &was, &[(slot, 0)]).forms.remove(0);
                Wish { was, wanted, forms: vec![set, given] }
            })
            .collect();
        assert_eq!(solved(&slots, &wishes), [(0, "site/ai".into())]);
    }

    #[test]
    fn a_literal_before_the_first_value_is_out_of_reach() {
        let slots = [slot("name", "app")];
        let wishes = [wish("site/ai/org/app:1", "ghcr.io/org/app:1", &[(0, 12)])];
        assert!(solved(&slots, &wishes).is_empty());
    }
}
