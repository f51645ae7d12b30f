//! Some charts do something else as soon as an image is not their own. Where that is lines that a
//! text loses and a list of the values brings lines into the same text, the overlay brings them
//! back. Else the value is left alone, another way to the same places is looked for, and what has
//! none is a leftover with that reason.

use std::collections::BTreeSet;
use std::slice;

use regex::Regex;
use serde_json::{Map, Value};

use super::attempt::Attempt;
use super::prove::Change;
use super::solve::Assignment;
use super::{Mover, Rendered};
use crate::find::Place;
use crate::path::{Encoding, Path};
use crate::values;

/// Renders that are spent on the search for values with side effects.
const MOST: usize = 32;

/// A text that lost lines: its document and path, and the lines.
pub(super) struct Loss {
    document: usize,
    path: Path,
    lines: Vec<String>,
}

impl Mover<'_> {
    /// The overlay without side effects, as far as one is found.
    pub(super) fn without_side_effects(&mut self, attempt: Attempt) -> Attempt {
        // One value after another may turn out to have one; a chart has few of them.
        const ROUNDS: usize = 3;
        let mut best = attempt;
        if !best.proof.changes.is_empty()
            && let Some(restored) = self.restored(&best)
        {
            return restored;
        }
        if !best.proof.changes.is_empty()
            && let Some(bare) = self.without_extras(&best)
        {
            return bare;
        }
        let mut marks = vec![self.other_ways()];
        for _ in 0..ROUNDS {
            if best.proof.changes.is_empty() || !self.leave_culprits(&best, &mut marks) {
                break;
            }
            match self.solved(vec![]) {
                Some(attempt) => best = attempt,
                None => break,
            }
        }
        best
    }

    /// The overlay without a pull policy or a pull secret, where one of these is what changes more
    /// than it should.
    fn without_extras(&mut self, attempt: &Attempt) -> Option<Attempt> {
        let (secrets, policies) = (self.secrets.clone(), self.policies.clone());
        let change = attempt.proof.changes.first().map(|change| change.place.to_string());
        for what in ["pull policy", "pull secret"] {
            let is_set = if what == "pull policy" {
                !std::mem::replace(&mut self.policies, policies.without()).is_empty()
            } else {
                !std::mem::replace(&mut self.secrets, secrets.without()).is_empty()
            };
            if !is_set {
                continue;
            }
            let tried = self.attempts(slice::from_ref(&attempt.assignment), &[]).pop();
            if let Some(Ok(tried)) = tried
                && tried.is_clean()
            {
                let change = change.unwrap_or_default();
                self.notes.push(format!("the {what} is left as it is: it also changes {change}"));
                return Some(tried);
            }
        }
        (self.secrets, self.policies) = (secrets, policies);
        None
    }

    /// Finds half by half which values of an overlay change something else, and leaves them alone.
    fn leave_culprits(&mut self, attempt: &Attempt, marks: &mut Vec<Vec<usize>>) -> bool {
        let mut open: Vec<Assignment> = vec![attempt.assignment.clone()];
        let mut is_found = false;
        if let [(slot, _)] = attempt.assignment.iter().collect::<Vec<_>>()[..]
            && let Some(change) = attempt.proof.changes.first()
        {
            self.leave_culprit(*slot, change);
            self.attempts(&[], &std::mem::take(marks));
            return true;
        }
        let mut spent = 0;
        while !open.is_empty() && spent < MOST {
            let parts: Vec<Assignment> = std::mem::take(&mut open)
                .into_iter()
                .flat_map(|all| {
                    let mut one = all;
                    let middle = one.keys().nth(one.len() / 2).copied().unwrap_or_default();
                    let other = one.split_off(&middle);
                    [one, other]
                })
                .filter(|part| !part.is_empty())
                .collect();
            spent += parts.len();
            for tried in self.attempts(&parts, &std::mem::take(marks)).into_iter().flatten() {
                let Some(change) = self.elsewhere(&tried.proof.changes) else { continue };
                match tried.assignment.keys().collect::<Vec<_>>()[..] {
                    [slot] => {
                        is_found = true;
                        self.leave_culprit(*slot, change);
                    }
                    _ => open.push(tried.assignment),
                }
            }
        }
        is_found
    }

    /// A change that is not of an image: a part of an overlay may well make half a name.
    fn elsewhere<'c>(&self, changes: &'c [Change]) -> Option<&'c Change> {
        let is_image = |change: &Change| {
            self.sites.iter().any(|site| {
                let Place { document, path, .. } = &change.place;
                let in_text = path.inside(Encoding::Text);
                site.found.place.document == *document
                    && site.name_paths().any(|own| own == path || *own == in_text)
            })
        };
        changes.iter().find(|change| !is_image(change))
    }

    fn leave_culprit(&mut self, slot: usize, change: &Change) {
        let why = format!("setting {} also changes {}", self.slots[slot].path, change.place);
        self.unusable.insert(slot, why);
    }

    /// Finds the lists that bring back what the marked render lost. Whether they do, the proof says.
    pub(super) fn restore_losses(&mut self) {
        let losses = std::mem::take(&mut self.losses);
        if !losses.is_empty() && self.lists_for(&losses).is_none() {
            self.restored.clear();
        }
    }

    /// The overlay with what it loses brought back. `None` unless the render is then the same but
    /// for the images.
    fn restored(&mut self, attempt: &Attempt) -> Option<Attempt> {
        let was_restored = !std::mem::take(&mut self.restored).is_empty();
        let changes = attempt.proof.changes.iter().map(|change| {
            let Change { place, before, after } = change;
            Loss::new(place.document, &place.path, before.as_deref()?, after.as_deref()?)
        });
        let losses: Option<Vec<Loss>> = changes.collect();
        let found = losses.filter(|_| !was_restored).and_then(|losses| self.lists_for(&losses));
        if found.is_none() && !was_restored {
            self.restored.clear();
            return None;
        }
        let tried = self.attempts(slice::from_ref(&attempt.assignment), &[]).pop()?.ok();
        let tried = tried.filter(Attempt::is_clean);
        if tried.is_none() {
            self.restored.clear();
        }
        tried
    }

    /// Sets what is restored to the lists that bring lines into the texts that lost some.
    fn lists_for(&mut self, losses: &[Loss]) -> Option<()> {
        let lists = self.lists(losses);
        if lists.is_empty() {
            return None;
        }
        let mut probe = Value::Object(Map::new());
        for (index, path) in lists.iter().enumerate() {
            let value = self.longer(path, &[mark(index)]);
            values::set(&mut probe, path, value, &self.effective);
        }
        let stream = self.streams(&[Some(probe.to_string())]).pop()?.ok()?;
        let probed = self.read(&stream).ok()?;
        for loss in losses {
            let text = self.text_of(loss, &probed)?;
            let index = (0..lists.len())
                .find(|index| text.lines().any(|line| line.trim() == mark(*index)))?;
            let value = self.longer(&lists[index], &loss.lines);
            self.restored.insert(lists[index].clone(), value);
        }
        Some(())
    }

    /// The lists of texts that the templates of these documents ask for.
    fn lists(&self, losses: &[Loss]) -> Vec<Path> {
        let Ok(asked) = Regex::new(r"\.Values\.([A-Za-z0-9_.]+)") else { return vec![] };
        let templates: BTreeSet<&str> = losses
            .iter()
            .filter_map(|loss| self.before.manifests.documents[loss.document].template.as_deref())
            .collect();
        let mut lists = BTreeSet::new();
        self.chart.each(&Path::default(), &mut |chart, scope| {
            for (name, text) in &chart.templates {
                // The render names a template by its chart and its path there.
                let whole = format!("{}/{name}", chart.name());
                if !templates.iter().any(|template| template.ends_with(&whole)) {
                    continue;
                }
                for found in asked.captures_iter(text) {
                    let path = found[1].split('.').fold(scope.clone(), |path, key| path.key(key));
                    let items = path.find(&self.effective).and_then(Value::as_array);
                    if items.is_some_and(|items| items.iter().all(Value::is_string)) {
                        lists.insert(self.scopes.own_path(&path));
                    }
                }
            }
        });
        lists.into_iter().collect()
    }

    /// A list of the values with more items in front.
    fn longer(&self, path: &Path, more: &[String]) -> Value {
        let own = path.find(&self.effective).and_then(Value::as_array).into_iter().flatten();
        more.iter().cloned().map(Value::from).chain(own.cloned()).collect()
    }

    /// The text of a loss in another render.
    fn text_of(&self, loss: &Loss, rendered: &Rendered) -> Option<String> {
        let document = rendered.same_document(&self.before, loss.document)?;
        rendered.text_at(document, &loss.path)
    }
}

impl Loss {
    /// The lines that a text lost, if losing lines is all that happened to it.
    pub(super) fn new(document: usize, path: &Path, before: &str, after: &str) -> Option<Self> {
        let (mut lines, mut left) = (Vec::new(), after.lines().peekable());
        for line in before.lines() {
            if left.peek() == Some(&line) {
                left.next();
            } else if !line.trim().is_empty() {
                lines.push(line.trim().to_owned());
            }
        }
        let is_all = left.all(|line| line.trim().is_empty());
        let path = path.clone();
        (is_all && !lines.is_empty()).then_some(Self { document, path, lines })
    }
}

/// Not the marker of a slot.
fn mark(index: usize) -> String {
    format!("zqr{index}qz")
}
