//! Values that helm refuses to render with: a schema, or a template that asks for something of a
//! value. They are left alone with helm's own words as the reason, and the rest is moved.

use std::collections::BTreeSet;

use super::Mover;
use super::learn::Extras;
use super::slot::Reason;
use super::solve::Assignment;

/// Renders that are spent on the search for a refused value; a chart that needs more is not worth
/// them all.
const MOST: usize = 40;

impl Mover<'_> {
    /// Helm refused the first marked values: leaves out what its message names, else looks for what
    /// it was, first among the pull secrets and registries that are not set, then half by half.
    pub(super) fn learn_refused(&mut self, slots: &[usize], message: &str) {
        if self.leave_named(slots, message) {
            let rest = self.usable(slots);
            let marked = self.marked(&rest, Extras::Mark);
            // A schema names all that it refuses at once; what is refused then is another matter.
            if let Some(Ok(stream)) = self.streams(&[Some(marked)]).pop() {
                return self.learn_all(&stream);
            }
        }
        let slots = self.usable(slots);
        let likely = self.likely();
        let tries = [
            Some(self.marked(&slots, Extras::Leave)),
            Some(self.marked(&likely, Extras::Leave)),
            Some(self.marked(&[], Extras::Mark)),
        ];
        let mut tries = self.streams(&tries).into_iter();
        let (all, set, extras) = (tries.next(), tries.next(), tries.next());
        match extras {
            Some(Ok(stream)) => self.learn_all(&stream),
            _ => {
                self.secrets.unmarked();
                self.policies.unmarked();
            }
        }
        self.is_unsteady = true;
        match (all, set) {
            (Some(Ok(all)), set) => {
                self.learn(&all);
                if let Some(Ok(set)) = set {
                    self.learn(&set);
                }
            }
            (_, Some(Ok(set))) => {
                self.learn(&set);
                self.learn_given_one_by_one(&likely, &slots);
            }
            _ => {
                self.learn_by_halves(&likely);
                let likely = self.likely();
                self.learn_given_one_by_one(&likely, &slots);
            }
        }
    }

    /// Helm refused an overlay: finds which of its values it was. `false` if none can be told.
    pub(super) fn exclude_refused(&mut self, assignment: &Assignment, message: &str) -> bool {
        let slots: Vec<usize> = assignment.keys().copied().collect();
        if self.leave_named(&slots, message) {
            return true;
        }
        if self.has_extras() {
            let own = self.written(&Assignment::new()).text;
            if matches!(self.streams(&[Some(own)]).pop(), Some(Err(_))) {
                self.drop_extras(&reason(message));
                return true;
            }
        }
        let mut open = vec![slots];
        let mut spent = 0;
        let mut is_found = false;
        while !open.is_empty() && spent < MOST {
            let parts = halved(&mut open);
            let overlays: Vec<Option<String>> = parts
                .iter()
                .map(|part| {
                    let own = assignment.iter().filter(|(slot, _)| part.contains(slot));
                    let own = own.map(|(slot, text)| (*slot, text.clone())).collect();
                    Some(self.written(&own).text)
                })
                .collect();
            spent += overlays.len();
            for (part, result) in parts.into_iter().zip(self.streams(&overlays)) {
                let Err(error) = result else { continue };
                match part.as_slice() {
                    [slot] => {
                        is_found = true;
                        self.leave(*slot, &error.message);
                    }
                    _ => open.push(part),
                }
            }
        }
        is_found
    }

    fn learn_by_halves(&mut self, slots: &[usize]) {
        let mut open = vec![slots.to_vec()];
        let mut spent = 0;
        let mut last = String::new();
        while !open.is_empty() && spent < MOST {
            let parts = halved(&mut open);
            let overlays: Vec<Option<String>> =
                parts.iter().map(|part| Some(self.marked(part, Extras::Leave))).collect();
            spent += overlays.len();
            for (part, result) in parts.into_iter().zip(self.streams(&overlays)) {
                match (result, part.as_slice()) {
                    (Ok(stream), _) => self.learn(&stream),
                    (Err(error), [slot]) => self.leave(*slot, &error.message),
                    (Err(error), _) => {
                        last = error.message;
                        open.push(part);
                    }
                }
            }
        }
        for slot in open.into_iter().flatten() {
            self.leave(slot, &last);
        }
    }

    fn learn_given_one_by_one(&mut self, likely: &[usize], slots: &[usize]) {
        // The globals come first: they move most.
        const MOST: usize = 8;
        let mut unset: Vec<usize> =
            slots.iter().copied().filter(|s| self.slots[*s].reason == Reason::Unset).collect();
        unset.sort_by_key(|slot| self.slots[*slot].path.steps().len());
        for slot in unset.split_off(unset.len().min(MOST)) {
            self.leave(slot, "the chart refuses markers in it, or in one like it");
        }
        let with = |slot: usize| [likely, &[slot]].concat();
        let overlays: Vec<Option<String>> =
            unset.iter().map(|slot| Some(self.marked(&with(*slot), Extras::Leave))).collect();
        for (slot, result) in unset.into_iter().zip(self.streams(&overlays)) {
            match result {
                Ok(stream) => self.learn(&stream),
                Err(error) => self.leave(slot, &error.message),
            }
        }
    }

    /// Leaves alone what a message names. `false` if it names nothing.
    fn leave_named(&mut self, slots: &[usize], message: &str) -> bool {
        let mut is_named = false;
        for slot in slots {
            if let Some(line) = self.scopes.line_about(message, &self.slots[*slot].path) {
                is_named = true;
                let line = line.to_owned();
                self.leave(*slot, &line);
            }
        }
        let scopes = &self.scopes;
        let about = |path: &crate::Path| scopes.line_about(message, path).map(str::to_owned);
        is_named |= self.secrets.leave(about);
        is_named |= self.policies.leave(about);
        is_named | self.leave_compiled(message)
    }

    fn leave(&mut self, slot: usize, message: &str) {
        let path = &self.slots[slot].path;
        let why = format!("helm refuses another {path}: {}", reason(message));
        self.unusable.entry(slot).or_insert(why);
    }

    fn usable(&self, slots: &[usize]) -> Vec<usize> {
        slots.iter().copied().filter(|slot| !self.unusable.contains_key(slot)).collect()
    }

    fn has_extras(&self) -> bool {
        !self.secrets.is_empty()
            || !self.policies.is_empty()
            || self.compiled_values().next().is_some()
            || !self.restored.is_empty()
    }

    fn drop_extras(&mut self, message: &str) {
        self.notes.push(format!(
            "neither pull secrets nor pull policies nor images of operators are set: helm refuses \
             one of them: {message}"
        ));
        self.secrets.clear();
        self.policies.clear();
        self.restored.clear();
        self.clear_compiled();
    }
}

fn halved(open: &mut Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut seen = BTreeSet::new();
    std::mem::take(open)
        .into_iter()
        .flat_map(|slots| {
            let (one, other) = slots.split_at(slots.len() / 2);
            [one.to_vec(), other.to_vec()]
        })
        .filter(|part| !part.is_empty() && seen.insert(part.clone()))
        .collect()
}

/// What of helm's message a person wants to see beside a value: its last line that says something.
fn reason(message: &str) -> String {
    let says = |line: &&str| !line.is_empty() && !line.starts_with("Use --debug");
    let line = message.lines().map(str::trim).rfind(says).unwrap_or_default();
    line.trim_start_matches("- ").to_owned()
}
