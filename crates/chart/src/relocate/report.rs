//! Makes the result of a relocation from the best attempt: the overlay's text with its comments,
//! the images that each value moves, and the reason for each image that was not moved.

use std::collections::{BTreeMap, BTreeSet};

use types::Reference;

use super::attempt::{OverlayAttempt, WrittenOverlay};
use super::relocation::{RelocatedValue, Relocation};
use super::relocator::Relocator;
use super::solve::{self, SlotAssignment};
use crate::find::ManifestLocation;
use crate::image_names::is_part_of_reference;
use crate::manifest::{self, Manifests};
use crate::overlay::{self, OverlayComments};
use crate::path::DocumentPath;
use crate::proof::relocation_proof::{RelocationProof, UnmovedImage};
use crate::proof::unlocked_images::{UnlockedImage, list_unlocked_images};
use crate::site_digests::{UnconfirmedDigest, list_unconfirmed_digests};

impl Relocator<'_> {
    /// The result, from the best attempt; without one, of a render in which nothing was moved.
    pub(super) fn build_relocation(&self, best: Option<OverlayAttempt>) -> Relocation {
        let (written, mut proof) = match best {
            Some(OverlayAttempt { written, proof, .. }) => (written, proof),
            None => (self.write_overlay(&SlotAssignment::new()), self.prove_without_overlay()),
        };
        proof.not_locked = self.find_unlocked_images();
        proof.unconfirmed = self.find_unconfirmed_digests(&proof);
        let reasons = proof.stayed.iter().map(|stayed| self.explain_unmoved(stayed)).collect();
        let places: BTreeMap<usize, &ManifestLocation> = self
            .learnt
            .moves
            .iter()
            .map(|site| (site.found.place.document, &site.found.place))
            .collect();
        let without = self.learnt.secrets.find_unreached_documents(&self.learnt.moves);
        let without_secret = without
            .iter()
            .filter_map(|document| places.get(document))
            .map(|place| ManifestLocation { path: DocumentPath::default(), ..(*place).clone() })
            .collect();
        Relocation {
            overlay: written.text,
            lines: written.lines,
            proof,
            reasons,
            without_secret,
            notes: self.reported.notes.clone(),
            renders: self.reported.renders,
            rendered: Manifests::default(),
        }
    }

    /// The images that the chart needs and the lock does not have.
    fn find_unlocked_images(&self) -> Vec<UnlockedImage> {
        let Some(locked) = self.known.options.locked else { return vec![] };
        let written = self.learnt.moves.iter().map(|site| &site.found);
        let compiled = self.learnt.operator_images.iter().map(|compiled| &compiled.found);
        // What the user's own values point at the site is loaded only if it is locked.
        let all = self.learnt.before.findings().images.iter();
        let at_site = all.filter(|found| self.known.target.is_site_image(&found.reference));
        list_unlocked_images(written.chain(compiled).chain(at_site), locked)
    }

    /// The digests that the chart names with the overlay and that the site may not have: of images
    /// that were moved, and of those that had the site's name before.
    fn find_unconfirmed_digests(&self, proof: &RelocationProof) -> Vec<UnconfirmedDigest> {
        let Some(locked) = self.known.options.locked else { return vec![] };
        let moved = proof.moved.iter().map(|moved| (&moved.to, &moved.place));
        let found = self.learnt.before.findings().images.iter();
        let own = found
            .filter(|found| self.known.target.is_site_image(&found.reference))
            .map(|found| (&found.reference, &found.place));
        list_unconfirmed_digests(moved.chain(own), locked)
    }

    /// The overlay file for an assignment, with a comment for every value.
    pub(super) fn write_overlay(&self, assignment: &SlotAssignment) -> WrittenOverlay {
        let lines = self.list_relocated_values(assignment);
        let mut comments = OverlayComments::new();
        for line in &lines {
            comments.entry(line.path.clone()).or_default().push(comment_for_images(&line.moves));
        }
        for (slot, _) in self.registry_texts(assignment) {
            let why = "the registry of images that a program names itself";
            comments.insert(self.learnt.slots[*slot].path.clone(), vec![why.into()]);
        }
        for path in &self.known.guards {
            comments.insert(
                path.clone(),
                vec!["lets the chart accept images of another registry".into()],
            );
        }
        for path in self.tried.restored.keys() {
            let why = "restores what the chart omits when an image is not its default";
            comments.insert(path.clone(), vec![why.into()]);
        }
        for (path, _) in self.learnt.secrets.chosen_values() {
            comments.insert(path.clone(), vec!["the pull secret of the site's registry".into()]);
        }
        for path in self.learnt.policies.chosen_paths() {
            comments.insert(path.clone(), vec!["the site's pull policy".into()]);
        }
        // A value may have a reason already (an image that is also a switch): both are kept.
        for setting in self.known.options.settings {
            comments.entry(setting.path.clone()).or_default().push(setting.why.clone());
        }
        let text = overlay::write_overlay(
            &[self.overlay_heading()],
            &self.overlay_values(assignment),
            &comments,
        );
        WrittenOverlay { text, lines }
    }

    /// The comment at the top of the overlay.
    fn overlay_heading(&self) -> String {
        format!("Points the images of the chart at {}.", self.known.target.prefix)
    }

    /// The reason why no value moves an image, best first: helm does not render the file, helm fails
    /// with another value, the value covers only a part of the name, or no value reaches it at all.
    fn explain_unmoved(&self, stayed: &UnmovedImage) -> String {
        if stayed.place.template.as_deref().is_some_and(manifest::is_definition_path) {
            return "the chart's crds/ folder is installed as it is: no value reaches it".into();
        }
        let at = self.learnt.moves.iter().position(|site| site.found.place == stayed.place);
        let forms = at.into_iter().flat_map(|at| &self.learnt.goals[at].compositions);
        let slots: Vec<usize> =
            forms.flat_map(|form| form.slots.iter().map(|(slot, _)| *slot)).collect();
        if let Some(reason) = slots.iter().find_map(|slot| self.tried.unusable.get(slot)) {
            return reason.clone();
        }
        if let Some(reason) = at.and_then(|at| self.explain_composition(at)) {
            return reason;
        }
        // A value that holds this image and never showed up in a marked render is one that helm
        // refused there, so no composition mentions it.
        let text = at.map(|at| self.learnt.moves[at].text.as_str()).unwrap_or_default();
        let refused = self.tried.unusable.iter().find(|(slot, _)| {
            let own = &self.learnt.slots[**slot].text;
            !own.is_empty() && is_part_of_reference(own, text)
        });
        match refused {
            Some((_, why)) => why.clone(),
            None if at.is_none() => {
                "the text mentions the image, and no value of the chart appears in it".into()
            }
            None => {
                let tried = self.learnt.slots.len();
                format!(
                    "the image is fixed in the template: none of the {tried} values of the chart that \
                     could be a part of an image appears in it"
                )
            }
        }
    }

    /// The reason where values make up the image, and none of them gives it its name at the site:
    /// what its name would be with the site in the first of them, or what stands in front of that.
    fn explain_composition(&self, goal: usize) -> Option<String> {
        let goal = &self.learnt.goals[goal];
        let forms =
            || goal.compositions.iter().filter_map(|form| Some((form, form.slots.first()?)));
        let first = forms().min_by_key(|(_, (_, start))| *start);
        let (form, (slot, start)) = first?;
        let path = &self.learnt.slots[*slot].path;
        if *start > 0 {
            let front = &form.text[..*start];
            return Some(format!("the template has {front:?} in front of what {path} sets"));
        }
        let behind = form.text.strip_prefix(self.learnt.slots[*slot].text.as_str())?;
        let site = self.known.target.prefix.to_string();
        let wanted = &goal.wanted;
        if format!("{site}{behind}") == *wanted {
            return Some(format!(
                "{path} moves it and other images too, which would not get their names at the site"
            ));
        }
        Some(format!(
            "with {site} in {path} it would be {site}{behind}, and at the site it is {wanted}"
        ))
    }

    /// The proof where no overlay could be rendered: every image stays as it is.
    fn prove_without_overlay(&self) -> RelocationProof {
        let stayed = self.learnt.moves.iter().map(|site| UnmovedImage {
            from: site.found.reference.clone(),
            to: site.target.clone(),
            place: site.found.place.clone(),
        });
        let broken = self.learnt.before.findings().broken.clone();
        let mut proof =
            RelocationProof { stayed: stayed.collect(), broken, ..RelocationProof::default() };
        self.add_operator_images(&self.learnt.before, &mut proof);
        proof
    }

    /// The values of an overlay with the images that each moves, in the order of their paths.
    fn list_relocated_values(&self, assignment: &SlotAssignment) -> Vec<RelocatedValue> {
        let mut lines: BTreeMap<&DocumentPath, RelocatedValue> = BTreeMap::new();
        let new = |path: &DocumentPath, text: &str| RelocatedValue {
            path: path.clone(),
            text: text.to_owned(),
            moves: BTreeSet::new(),
        };
        for (slot, text) in assignment {
            let path = &self.learnt.slots[*slot].path;
            lines.entry(path).or_insert_with(|| new(path, text));
        }
        // By image and not by value: a chart may have thousands of both, and each image is moved by a
        // few values.
        for (site, goal) in self.learnt.moves.iter().zip(&self.learnt.goals) {
            // A value moves an image if it is part of the composition that the overlay leads to.
            let form = solve::find_composition(goal, assignment);
            for (slot, _) in form.into_iter().flat_map(|form| &form.slots) {
                let is_set = assignment.contains_key(slot);
                let line = lines.get_mut(&self.learnt.slots[*slot].path).filter(|_| is_set);
                if let Some(line) = line {
                    line.moves.insert(site.found.reference.clone());
                }
            }
        }
        for compiled in &self.learnt.operator_images {
            if let Some(path) = &compiled.value {
                let line =
                    lines.entry(path).or_insert_with(|| new(path, &compiled.target.to_string()));
                line.moves.insert(compiled.found.reference.clone());
            }
        }
        for (path, value) in &self.tried.restored {
            lines.entry(path).or_insert_with(|| new(path, &value.to_string()));
        }
        lines.into_values().collect()
    }
}

/// The comment for a value: the first few images that it moves. A global registry may move a
/// hundred.
fn comment_for_images(moves: &BTreeSet<Reference>) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = moves.iter().take(SHOWN).map(ToString::to_string).collect();
    match moves.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}
