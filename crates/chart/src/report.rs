//! The report that a reviewer signs: image by image from where to where, by which value, and the
//! verdict. As data for `--output json`, as Markdown for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use types::Reference;

use crate::chart::Chart;
use crate::manifest::Manifests;
use crate::mirrors::{self, Remedy, Scheme};
use crate::relocate::{Change, CompiledIn, Foreign, NotLocked, Relocation, Target, Verdict};
use crate::{Path, Result, find};

/// The report on one relocation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The chart's name.
    pub chart: String,
    /// The chart's version.
    pub version: String,
    /// Where it was moved to.
    pub site: String,
    /// What the proof says.
    pub verdict: Verdict,
    /// The images that were moved.
    pub moved: Vec<Image>,
    /// The images that stayed.
    pub leftovers: Vec<Leftover>,
    /// Image fields that hold no image, whatever the overlay says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<find::Broken>,
    /// Images that operators may pull, which cannot be told from the manifests: not proven.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub possible: Vec<CompiledIn>,
    /// Images that the lock does not have, so that the site will not have them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_locked: Vec<NotLocked>,
    /// The documents that pull from the site and that no value gives its pull secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_secret: Vec<find::Place>,
    /// What was asked for beside the move and could not be set, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What makes nodes pull the leftovers from the site.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Remedy>,
    /// What else changed and should not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// What still points outside unseen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<Foreign>,
}

/// An image that was moved, with all of its places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// The image.
    pub from: Reference,
    /// Its name at the site.
    pub to: Reference,
    /// The values that move it.
    pub by: Vec<Path>,
    /// The number of places that it stands in.
    pub places: usize,
}

/// A place that stayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// The image.
    pub image: Reference,
    /// The name that it has at the site.
    pub to: Reference,
    /// Where it stands, or, of an image that an operator has compiled in, what makes it pull it.
    pub place: find::Place,
    /// Whether a manifest names it.
    pub kind: LeftoverKind,
    /// Why no value moves it.
    pub reason: String,
}

/// What keeps an image from being moved, and so which ways out there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftoverKind {
    /// A manifest names it, and no value reaches it there: a post-renderer does.
    Rendered,
    /// A hook names it: helm 4 hands hooks to a post-renderer, helm 3 does not.
    Hook,
    /// A file of the chart's `crds/` names it: no helm hands those to a post-renderer.
    Crds,
    /// An operator has it compiled in, and no manifest names it: only the nodes' mirrors help.
    CompiledIn,
}

impl LeftoverKind {
    /// What keeps the image of a manifest.
    fn of(place: &find::Place, rendered: &Manifests) -> Self {
        let is_file =
            |template: &String| template.starts_with("crds/") || template.contains("/crds/");
        let document = rendered.documents.get(place.document);
        match document {
            Some(document) if document.is_hook() => Self::Hook,
            _ if place.template.as_ref().is_some_and(is_file) => Self::Crds,
            _ => Self::Rendered,
        }
    }

    /// The section of the report on its leftovers: the title, and the ways out.
    fn section(self) -> (&'static str, &'static str) {
        match self {
            Self::Rendered => (
                "Leftovers",
                "No value moves these. `gantry post-render` does, with helm 3 and helm 4, and so do \
                 the files below on the nodes.",
            ),
            Self::Hook => (
                "Leftovers in hooks",
                "No value moves these. Helm 3 hands no hooks to a post-renderer: there only the \
                 files below on the nodes do. Helm 4 does, so with it `gantry post-render` moves \
                 them too.",
            ),
            Self::Crds => (
                "Leftovers in crds/",
                "No value moves these, and helm hands the files of `crds/` to no post-renderer: \
                 the files below on the nodes do, or install these files by `gantry post-render` \
                 and kubectl before the chart.",
            ),
            Self::CompiledIn => (
                "Compiled in",
                "Operators pull these without any manifest's naming them. Only the files below \
                 move them, or a field that chooses another image.",
            ),
        }
    }
}

impl Report {
    /// The report on a relocation.
    pub fn new(
        chart: &Chart,
        target: &Target,
        scheme: Scheme,
        relocation: &Relocation,
    ) -> Result<Self> {
        let proof = &relocation.proof;
        let pairs: BTreeSet<(&Reference, &Reference)> =
            proof.moved.iter().map(|moved| (&moved.from, &moved.to)).collect();
        let moved = pairs.into_iter().map(|(from, to)| Image {
            from: from.clone(),
            to: to.clone(),
            by: relocation
                .lines
                .iter()
                .filter(|line| line.moves.contains(from))
                .map(|line| line.path.clone())
                .collect(),
            places: proof.moved.iter().filter(|moved| moved.from == *from).count(),
        });
        let stayed = proof.stayed.iter().zip(&relocation.reasons);
        let leftovers: Vec<Leftover> = stayed
            .map(|(stayed, reason)| Leftover {
                image: stayed.from.clone(),
                to: stayed.to.clone(),
                place: stayed.place.clone(),
                kind: LeftoverKind::of(&stayed.place, &relocation.rendered),
                reason: reason.clone(),
            })
            .chain(proof.compiled_in.iter().map(|compiled| Leftover {
                image: compiled.image.clone(),
                to: compiled.to.clone(),
                place: compiled.place.clone(),
                kind: LeftoverKind::CompiledIn,
                reason: compiled.reason(),
            }))
            .collect();
        let images = leftovers.iter().map(|leftover| leftover.image.clone()).collect();
        Ok(Self {
            chart: chart.name().to_owned(),
            version: chart.version().to_owned(),
            site: target.prefix.to_string(),
            verdict: proof.verdict(),
            moved: moved.collect(),
            remedies: mirrors::remedies(&images, target, scheme)?,
            leftovers,
            broken: proof.broken.clone(),
            possible: proof.possible.clone(),
            not_locked: proof.not_locked.clone(),
            without_secret: relocation.without_secret.clone(),
            notes: relocation.notes.clone(),
            changes: proof.changes.clone(),
            foreign: proof.foreign.clone(),
        })
    }

    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {} {} to {}\n\n", self.chart, self.version, self.site);
        let _ = writeln!(text, "Verdict: **{}**\n", self.verdict.as_str());
        text.push_str("| image | at the site | places | by |\n|---|---|---|---|\n");
        for image in &self.moved {
            let by: Vec<String> = image.by.iter().map(|path| format!("`{path}`")).collect();
            let (from, to) = (&image.from, &image.to);
            let _ = writeln!(text, "| `{from}` | `{to}` | {} | {} |", image.places, by.join(", "));
        }
        self.write_leftovers(&mut text);
        self.write_notes(&mut text);
        text + &self.refutation()
    }

    fn write_leftovers(&self, text: &mut String) {
        let all = [
            LeftoverKind::Rendered,
            LeftoverKind::Hook,
            LeftoverKind::Crds,
            LeftoverKind::CompiledIn,
        ];
        for kind in all {
            let (title, ways) = kind.section();
            let mut own = self.leftovers.iter().filter(|leftover| leftover.kind == kind).peekable();
            if own.peek().is_some() {
                let _ = write!(text, "\n## {title}\n\n{ways}\n\n");
            }
            for Leftover { image, place, reason, .. } in own {
                let _ = writeln!(text, "- `{image}` in {place}: {reason}");
            }
        }
        for Remedy { reader, path, text: file, .. } in &self.remedies {
            let _ = write!(text, "\n{reader}, `{path}`:\n\n```\n{}\n```\n", file.trim_end());
        }
    }

    fn write_notes(&self, text: &mut String) {
        if !self.broken.is_empty() {
            text.push_str(
                "\n## No images\n\nSet the values behind these; they cannot be pulled.\n\n",
            );
            for find::Broken { place, text: field, reason } in &self.broken {
                let _ = writeln!(text, "- `{field}` in {place}: {reason}");
            }
        }
        if !self.possible.is_empty() {
            text.push_str("\n## Not proven\n\nIt cannot be told whether these are pulled.\n\n");
            for possible in &self.possible {
                let _ = writeln!(text, "- `{}`: {}", possible.image, possible.reason());
            }
        }
        if !self.without_secret.is_empty() {
            text.push_str(
                "\n## Without the pull secret\n\nNo value gives it to these; give it to their \
                 service accounts.\n\n",
            );
            for place in &self.without_secret {
                let _ = writeln!(text, "- {place}");
            }
        }
        if !self.notes.is_empty() {
            text.push_str("\n## Not set\n\n");
            for note in &self.notes {
                let _ = writeln!(text, "- {note}");
            }
        }
    }

    /// What refutes the proof, as Markdown: what changed and should not have, with both sides, and
    /// what points outside. Empty where nothing does.
    pub fn refutation(&self) -> String {
        let mut text = String::new();
        if !self.not_locked.is_empty() {
            text.push_str(
                "\n## Not in the lock\n\nThe site will not have these; add them to gantry.yaml and \
                 run `gantry lock`.\n\n",
            );
            for NotLocked { image, place } in &self.not_locked {
                let _ = writeln!(text, "- `{image}` in {place}");
            }
        }
        if !self.changes.is_empty() {
            text.push_str("\n## Changed, and should not have\n\n");
            for Change { place, before, after } in &self.changes {
                let _ = writeln!(
                    text,
                    "- {place}\n{}{}",
                    marked('-', before.as_ref()),
                    marked('+', after.as_ref())
                );
            }
        }
        if !self.foreign.is_empty() {
            text.push_str("\n## Points outside\n\n");
            for Foreign { place, text: outside } in &self.foreign {
                let _ = writeln!(text, "- `{outside}` in {place}");
            }
        }
        text
    }
}

/// The lines of one side of a difference, as far as a reader wants to see them.
fn marked(sign: char, side: Option<&String>) -> String {
    const SHOWN: usize = 20;
    let lines = side.into_iter().flat_map(|text| text.lines().take(SHOWN));
    lines.fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "      {sign} {line}");
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find::Place;

    #[test]
    fn a_leftover_is_told_apart_by_what_helm_hands_to_a_post_renderer() {
        let rendered = Manifests::read(
            "# Source: a/templates/x.yaml\nkind: Pod\n---\n# Source: a/templates/h.yaml\nkind: Job\n\
             metadata: {annotations: {helm.sh/hook: pre-install}}\n---\n# Source: a/crds/c.yaml\n\
             kind: CustomResourceDefinition\n",
        );
        for (document, kind) in
            [(0, LeftoverKind::Rendered), (1, LeftoverKind::Hook), (2, LeftoverKind::Crds)]
        {
            let template = rendered.documents[document].template.clone();
            let (name, path) = (String::new(), Path::default());
            let place = Place { template, document, kind: name.clone(), name, path };
            assert_eq!(LeftoverKind::of(&place, &rendered), kind);
        }
    }
}
