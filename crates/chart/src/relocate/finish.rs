//! What is handed back: the overlay with its comments, what each value moves, and why the rest stays.

use std::collections::{BTreeMap, BTreeSet};

use types::Reference;

use super::attempt::Attempt;
use super::prove::{Proof, Stayed};
use super::solve::{self, Assignment};
use super::{Line, Mover, Relocation, slot};
use crate::find::Place;
use crate::manifest::Manifests;
use crate::overlay::{self, Comments};
use crate::path::Path;

/// An overlay as a file, and what each of its values moves.
pub(super) struct Written {
    pub(super) text: String,
    pub(super) lines: Vec<Line>,
}

impl Mover<'_> {
    pub(super) fn finished(&self, best: Option<Attempt>) -> Relocation {
        let (written, mut proof) = match best {
            Some(Attempt { written, proof, .. }) => (written, proof),
            None => (self.written(&Assignment::new()), self.nothing_moved()),
        };
        proof.not_locked = self.not_locked();
        let reasons = proof.stayed.iter().map(|stayed| self.reason(stayed)).collect();
        let places: BTreeMap<usize, &Place> =
            self.sites.iter().map(|site| (site.found.place.document, &site.found.place)).collect();
        let without = self.secrets.unreached(&self.sites);
        let without_secret = without
            .iter()
            .filter_map(|document| places.get(document))
            .map(|place| Place { path: Path::default(), ..(*place).clone() })
            .collect();
        Relocation {
            overlay: written.text,
            lines: written.lines,
            proof,
            reasons,
            without_secret,
            notes: self.notes.clone(),
            renders: self.renders,
            rendered: Manifests::default(),
        }
    }

    /// The file that an assignment makes, and what each of its values moves.
    pub(super) fn written(&self, assignment: &Assignment) -> Written {
        let lines = self.lines(assignment);
        let mut comments = Comments::new();
        for line in &lines {
            comments.entry(line.path.clone()).or_default().push(comment(&line.moves));
        }
        for path in &self.guards {
            comments.insert(path.clone(), vec!["the chart's guard lets other images in".into()]);
        }
        for path in self.restored.keys() {
            let why = "what the chart leaves out when an image is not its own";
            comments.insert(path.clone(), vec![why.into()]);
        }
        for (path, _) in self.secrets.values() {
            comments.insert(path.clone(), vec!["what pods need to pull from there".into()]);
        }
        for path in self.policies.paths() {
            comments.insert(path.clone(), vec!["the site's pull policy".into()]);
        }
        for setting in self.options.settings {
            comments.entry(setting.path.clone()).or_default().push(setting.why.clone());
        }
        let text = overlay::write(&[self.head()], &self.overlay(assignment), &comments);
        Written { text, lines }
    }

    fn head(&self) -> String {
        format!("Moves the chart's images to {}.", self.target.prefix)
    }

    /// Why no value moves a place.
    fn reason(&self, stayed: &Stayed) -> String {
        let at = self.sites.iter().position(|site| site.found.place == stayed.place);
        let forms = at.into_iter().flat_map(|at| &self.wishes[at].forms);
        let slots: Vec<usize> =
            forms.flat_map(|form| form.slots.iter().map(|(slot, _)| *slot)).collect();
        if let Some(reason) = slots.iter().find_map(|slot| self.unusable.get(slot)) {
            return reason.clone();
        }
        if let Some(slot) = slots.first() {
            let path = &self.slots[*slot].path;
            return format!("the value {path} gives a part of it, but not its registry");
        }
        // A value that is the image and never came out in a marked render was refused there.
        let text = at.map(|at| self.sites[at].text.as_str()).unwrap_or_default();
        let refused = self.unusable.iter().find(|(slot, _)| {
            let own = &self.slots[**slot].text;
            !own.is_empty() && slot::is_part(own, text)
        });
        match refused {
            Some((_, why)) => why.clone(),
            None => "the template has it written out: no value reaches it".into(),
        }
    }

    fn nothing_moved(&self) -> Proof {
        let stayed = self.sites.iter().map(|site| Stayed {
            from: site.found.reference.clone(),
            to: site.target.clone(),
            place: site.found.place.clone(),
        });
        let broken = self.before.findings().broken.clone();
        let mut proof = Proof { stayed: stayed.collect(), broken, ..Proof::default() };
        self.prove_compiled(&self.before, &mut proof);
        proof
    }

    fn lines(&self, assignment: &Assignment) -> Vec<Line> {
        let mut lines: BTreeMap<&Path, Line> = BTreeMap::new();
        let new = |path: &Path, text: &str| Line {
            path: path.clone(),
            text: text.to_owned(),
            moves: BTreeSet::new(),
        };
        for (slot, text) in assignment {
            let path = &self.slots[*slot].path;
            let line = lines.entry(path).or_insert_with(|| new(path, text));
            for (site, wish) in self.sites.iter().zip(&self.wishes) {
                let form = solve::form(wish, assignment);
                let mut slots = form.into_iter().flat_map(|form| &form.slots);
                if slots.any(|(own, _)| own == slot) {
                    line.moves.insert(site.found.reference.clone());
                }
            }
        }
        for compiled in &self.compiled {
            if let Some(path) = &compiled.value {
                let line =
                    lines.entry(path).or_insert_with(|| new(path, &compiled.target.to_string()));
                line.moves.insert(compiled.found.reference.clone());
            }
        }
        for (path, value) in &self.restored {
            lines.entry(path).or_insert_with(|| new(path, &value.to_string()));
        }
        lines.into_values().collect()
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
