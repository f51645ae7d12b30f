//! What is handed back: the overlay with its comments, what each value moves, and why the rest stays.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use types::Reference;

use super::prove::{Proof, Stayed};
use super::solve::{Assignment, Form};
use super::{Attempt, Line, Mover, Relocation};
use crate::find::Place;
use crate::overlay::{self, Comments};
use crate::path::Path;
use crate::values;

impl Mover<'_> {
    pub(super) fn finished(&self, best: Option<Attempt>) -> Relocation {
        let best = best.unwrap_or_else(|| Attempt {
            assignment: Assignment::new(),
            values: Value::Object(Map::new()),
            proof: self.nothing_moved(),
        });
        let lines = self.lines(&best);
        let mut comments = Comments::new();
        for line in &lines {
            comments.entry(line.path.clone()).or_default().push(comment(&line.moves));
        }
        for guard in &self.guards {
            comments.insert(guard.clone(), vec!["the chart's guard lets other images in".into()]);
        }
        for path in &self.secrets {
            comments.insert(path.clone(), vec!["what pods need to pull from there".into()]);
        }
        let head = vec![format!("Moves the chart's images to {}.", self.target.prefix)];
        let overlay = overlay::write(&head, &best.values, &comments);
        let reasons = best.proof.stayed.iter().map(|stayed| self.reason(stayed)).collect();
        let places = self.sites.iter().map(|site| &site.found.place);
        let without_secret: BTreeMap<usize, &Place> =
            places.map(|place| (place.document, place)).collect();
        let without_secret = self
            .without_secret
            .iter()
            .filter_map(|document| without_secret.get(document))
            .map(|place| Place { path: Path::default(), ..(*place).clone() })
            .collect();
        let Attempt { values, proof, .. } = best;
        let renders = self.renders;
        Relocation {
            overlay,
            values,
            head,
            comments,
            lines,
            proof,
            reasons,
            without_secret,
            renders,
        }
    }

    /// Why no value moves a place.
    pub(super) fn reason(&self, stayed: &Stayed) -> String {
        let at = self.sites.iter().position(|site| site.found.place == stayed.place);
        let forms = at.map(|at| [Some(&self.wishes[at].set), self.wishes[at].given.as_ref()]);
        let slots: Vec<usize> = forms
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(|form| form.slots.iter().map(|(slot, _)| *slot))
            .collect();
        if let Some(reason) = slots.iter().find_map(|slot| self.side_effects.get(slot)) {
            return reason.clone();
        }
        match slots.first() {
            None => "the template has it written out: no value reaches it".into(),
            Some(slot) => format!(
                "the value {} gives a part of it, but not its registry",
                self.slots[*slot].path
            ),
        }
    }

    pub(super) fn nothing_moved(&self) -> Proof {
        let stayed = self.sites.iter().map(|site| Stayed {
            from: site.found.reference.clone(),
            to: site.target.clone(),
            place: site.found.place.clone(),
        });
        Proof { stayed: stayed.collect(), ..Proof::default() }
    }

    pub(super) fn lines(&self, best: &Attempt) -> Vec<Line> {
        let mut lines: BTreeMap<&Path, Line> = BTreeMap::new();
        for (slot, text) in &best.assignment {
            let path = &self.slots[*slot].path;
            let line = lines.entry(path).or_insert_with(|| Line {
                path: path.clone(),
                text: text.clone(),
                moves: BTreeSet::new(),
            });
            for (site, wish) in self.sites.iter().zip(&self.wishes) {
                let forms = [Some(&wish.set), wish.given.as_ref()];
                let is_part = |form: &Form| form.slots.iter().any(|(own, _)| own == slot);
                if forms.into_iter().flatten().any(is_part) {
                    line.moves.insert(site.found.reference.clone());
                }
            }
        }
        lines.into_values().collect()
    }
}

impl Relocation {
    /// The overlay with further values below its own, each with a comment.
    pub fn overlay_with(&self, more: &Value, why: &[(Path, String)]) -> String {
        let mut all = more.clone();
        values::merge(&mut all, &self.values);
        let mut comments = self.comments.clone();
        for (path, why) in why {
            comments.entry(path.clone()).or_default().push(why.clone());
        }
        overlay::write(&self.head, &all, &comments)
    }
}

fn comment(moves: &BTreeSet<Reference>) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = moves.iter().take(SHOWN).map(ToString::to_string).collect();
    match moves.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}
