//! The report on a relocation, for a reviewer: each image with its old and new name and the values
//! that move it, what is left over with its workarounds, and the verdict of the proof. Serialised
//! for `--output json`, as Markdown for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use html::format_count;
use serde::Serialize;
use types::Reference;

use crate::chart::HelmChart;
use crate::manifest::Manifests;
use crate::mirrors::{self, MirrorFile, RegistryScheme};
use crate::relocate::{
    CompiledInImage, ForeignReference, ProofVerdict, Relocation, RelocationProof, RelocationTarget,
    UnconfirmedDigest, UnexpectedChange, UnlockedImage,
};
use crate::{DocumentPath, Result, find};

/// The report on one relocation.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelocationReport {
    /// The chart's name; of plain manifests that of their release or file.
    pub chart: String,
    /// The chart's version; empty for plain manifests.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The site's registry and path that the images were moved to.
    pub site: String,
    /// The verdict of the proof.
    pub verdict: ProofVerdict,
    /// The images that were moved.
    pub moved: Vec<RelocatedImage>,
    /// The images that no value moves.
    pub leftovers: Vec<ImageLeftover>,
    /// Image fields whose content is not an image, with or without the overlay.
    #[serde(rename = "invalidFields", skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<find::BrokenImageField>,
    /// Registries outside that stand alone in a configuration, and that no value moves. Which images
    /// a program puts behind them is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<ForeignReference>,
    /// Images that operators may pull; the manifests do not show whether they do. Not proven.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub possible: Vec<CompiledInImage>,
    /// Images that are not in the lock, so that the site will not have them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_locked: Vec<UnlockedImage>,
    /// Digests that the site may not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unconfirmed: Vec<UnconfirmedDigest>,
    /// The documents that pull from the site and to which no value adds its pull secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_secret: Vec<find::ManifestLocation>,
    /// Settings that the user asked for and that could not be made, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Files that make nodes pull the leftovers from the site.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<MirrorFile>,
    /// Other differences between the two renders, which the move does not explain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<UnexpectedChange>,
    /// Texts that still point outside the site and that no finder knows.
    #[serde(rename = "stillOutside", skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<ForeignReference>,
}

/// An image that was moved, with all of its locations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RelocatedImage {
    /// The image.
    #[serde(rename = "image")]
    pub from: Reference,
    /// Its name at the site.
    #[serde(rename = "target")]
    pub to: Reference,
    /// The values that move it.
    #[serde(rename = "values")]
    pub by: Vec<DocumentPath>,
    /// The number of locations where it was moved.
    #[serde(rename = "locationCount")]
    pub places: usize,
}

/// An image that no value moves, at one location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ImageLeftover {
    /// The image.
    pub image: Reference,
    /// Its name at the site.
    #[serde(rename = "target")]
    pub to: Reference,
    /// Its location; for an image that is built into an operator, the object that makes the
    /// operator pull it.
    #[serde(rename = "location")]
    pub place: find::ManifestLocation,
    /// Why it stays, and so which workarounds there are.
    pub kind: LeftoverKind,
    /// Why no value moves it.
    pub reason: String,
}

/// What a release has that no value moves and no accepted workaround covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenLeftovers {
    /// The images that no value moves.
    pub images: Vec<ImageLeftover>,
    /// The registries outside that no value changes.
    pub registries: Vec<ForeignReference>,
    /// The image fields whose text is no image reference.
    pub broken: Vec<find::BrokenImageField>,
}

impl OpenLeftovers {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.registries.is_empty() && self.broken.is_empty()
    }

    /// Whether an image of this kind is left.
    pub fn has_kind(&self, kind: LeftoverKind) -> bool {
        self.images.iter().any(|leftover| leftover.kind == kind)
    }

    /// One line for each, in the order of the report.
    pub fn lines(&self) -> Vec<String> {
        let images = self.images.iter();
        let images = images.map(|one| format!("{} in {}: {}", one.image, one.place, one.reason));
        let registries = self.registries.iter().map(|one| {
            format!(
                "the registry {} in {} points outside, and no value changes it",
                one.text, one.place
            )
        });
        let broken = self.broken.iter().map(|one| {
            format!("{:?} in {} is not an image reference: {}", one.text, one.place, one.reason)
        });
        images.chain(registries).chain(broken).collect()
    }
}

/// Why an image cannot be moved by values, which decides the possible workarounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeftoverKind {
    /// Only the template names it: a post-renderer can move it.
    Rendered,
    /// A helm hook names it: helm 4 passes hooks to a post-renderer, helm 3 does not.
    Hook,
    /// A file in the chart's `crds/` names it: no version of helm passes those to a post-renderer.
    Crds,
    /// It is built into an operator, and no manifest names it: only mirrors on the nodes help.
    CompiledIn,
}

impl LeftoverKind {
    /// All kinds, in the order of the report.
    pub(crate) const ALL: [Self; 4] = [Self::Rendered, Self::Hook, Self::Crds, Self::CompiledIn];

    /// The kind of a leftover at a location of a manifest.
    fn from_location(place: &find::ManifestLocation, rendered: &Manifests) -> Self {
        let document = rendered.documents.get(place.document);
        match document {
            Some(document) if document.is_hook() => Self::Hook,
            Some(document) if document.is_definition_file() => Self::Crds,
            _ => Self::Rendered,
        }
    }

    /// The section of the report for this kind: its title, and the workarounds.
    pub(crate) fn report_section(self) -> (&'static str, &'static str) {
        match self {
            Self::Rendered => (
                "Leftovers",
                "No value of the chart changes these images. Either install the chart with the \
                 post-renderer `gantry post-render` (helm 3 and helm 4), or put the files below on \
                 the nodes.",
            ),
            Self::Hook => (
                "Leftovers in hooks",
                "No value of the chart changes these images in hooks. With helm 4, install the \
                 chart with the post-renderer `gantry post-render`. Helm 3 does not pass hooks to a \
                 post-renderer: put the files below on the nodes.",
            ),
            Self::Crds => (
                "Leftovers in crds/",
                "No value of the chart changes these images, and helm does not pass the files of \
                 `crds/` to a post-renderer. Either put the files below on the nodes, or send \
                 these files through `gantry post-render` and apply them with kubectl before you install \
                 the chart.",
            ),
            Self::CompiledIn => (
                "Built into operators",
                "Operators pull these images although no manifest names them. Put the files below \
                 on the nodes, or set the field by which the operator takes another image.",
            ),
        }
    }
}

impl RelocationReport {
    /// Writes the report on a relocation. `scheme` is how nodes talk to the site's registry.
    pub fn new(
        chart: &HelmChart,
        target: &RelocationTarget,
        scheme: RegistryScheme,
        relocation: &Relocation,
    ) -> Result<Self> {
        let proof = &relocation.proof;
        let reasons = &relocation.reasons;
        let stayed = proof.stayed.iter().zip(reasons).map(|(stayed, reason)| ImageLeftover {
            image: stayed.from.clone(),
            to: stayed.to.clone(),
            place: stayed.place.clone(),
            kind: LeftoverKind::from_location(&stayed.place, &relocation.rendered),
            reason: reason.clone(),
        });
        let mut report = Self::from_proof(chart.name(), proof, stayed.collect(), target, scheme)?;
        chart.version().clone_into(&mut report.version);
        let mut paths: BTreeMap<&Reference, Vec<DocumentPath>> = BTreeMap::new();
        for line in &relocation.lines {
            for image in &line.moves {
                paths.entry(image).or_default().push(line.path.clone());
            }
        }
        for image in &mut report.moved {
            image.by = paths.remove(&image.from).unwrap_or_default();
        }
        report.without_secret.clone_from(&relocation.without_secret);
        report.notes.clone_from(&relocation.notes);
        Ok(report)
    }

    /// Writes the report on plain manifests, which are moved by edits in place. `name` is the release or
    /// the file.
    pub fn for_manifests(
        name: &str,
        target: &RelocationTarget,
        scheme: RegistryScheme,
        proof: &RelocationProof,
    ) -> Result<Self> {
        let stayed = proof.stayed.iter().map(|stayed| ImageLeftover {
            image: stayed.from.clone(),
            to: stayed.to.clone(),
            place: stayed.place.clone(),
            kind: LeftoverKind::Rendered,
            reason: "its text cannot be edited in place; write the image in one plain text".into(),
        });
        Self::from_proof(name, proof, stayed.collect(), target, scheme)
    }

    /// The report on a proof alone: without values, and with the leftovers that could not be moved.
    fn from_proof(
        name: &str,
        proof: &RelocationProof,
        mut leftovers: Vec<ImageLeftover>,
        target: &RelocationTarget,
        scheme: RegistryScheme,
    ) -> Result<Self> {
        // An image may be moved at many locations; the table has one row for it.
        let pairs: BTreeSet<(&Reference, &Reference)> =
            proof.moved.iter().map(|moved| (&moved.from, &moved.to)).collect();
        let mut counts: BTreeMap<&Reference, usize> = BTreeMap::new();
        for moved in &proof.moved {
            *counts.entry(&moved.from).or_default() += 1;
        }
        let moved = pairs.into_iter().map(|(from, to)| RelocatedImage {
            from: from.clone(),
            to: to.clone(),
            by: Vec::new(),
            places: counts.get(from).copied().unwrap_or_default(),
        });
        leftovers.extend(proof.compiled_in.iter().map(|compiled| ImageLeftover {
            image: compiled.image.clone(),
            to: compiled.to.clone(),
            place: compiled.place.clone(),
            kind: LeftoverKind::CompiledIn,
            reason: compiled.reason(),
        }));
        let images = leftovers.iter().map(|leftover| leftover.image.clone()).collect();
        Ok(Self {
            chart: name.to_owned(),
            version: String::new(),
            site: target.prefix.to_string(),
            verdict: proof.verdict(),
            moved: moved.collect(),
            remedies: mirrors::build_mirror_files(&images, target, scheme)?,
            leftovers,
            broken: proof.broken.clone(),
            registries: proof.registries.clone(),
            possible: proof.possible.clone(),
            not_locked: proof.not_locked.clone(),
            unconfirmed: proof.unconfirmed.clone(),
            without_secret: Vec::new(),
            notes: Vec::new(),
            changes: proof.changes.clone(),
            foreign: proof.foreign.clone(),
        })
    }

    /// What was moved: a chart with its version, or manifests by their name.
    pub(crate) fn subject(&self) -> String {
        format!("{} {}", self.chart, self.version).trim_end().to_owned()
    }

    /// The verdict with what it does not cover: images that an operator may pull were not looked at.
    pub fn verdict_text(&self) -> String {
        let verdict = self.verdict.as_str();
        let images: BTreeSet<&Reference> = self.possible.iter().map(|found| &found.image).collect();
        match (self.verdict, images.len()) {
            (ProofVerdict::Refuted, _) | (_, 0) => verdict.to_owned(),
            (_, 1) => format!("{verdict}, but 1 possible image was not looked at"),
            (_, count) => format!("{verdict}, but {count} possible images were not looked at"),
        }
    }

    /// What still points outside or is no image, without the leftovers of kinds that a workaround covers.
    /// `relocate` and `deploy` go by this alone, so that what one counts the other does too.
    pub fn open_leftovers(&self, is_covered: impl Fn(LeftoverKind) -> bool) -> OpenLeftovers {
        let images = self.leftovers.iter().filter(|leftover| !is_covered(leftover.kind));
        // A registry that stands alone is in a text of a manifest, as a rendered leftover is, and only what
        // acts on pods sees the images that a program puts behind it.
        let is_seen = is_covered(LeftoverKind::CompiledIn);
        let registries = self.registries.iter().filter(|_| !is_seen);
        OpenLeftovers {
            images: images.cloned().collect(),
            registries: registries.cloned().collect(),
            broken: self.broken.clone(),
        }
    }

    /// One line: how many images there are at how many locations, and what became of them.
    pub fn summary(&self) -> String {
        let moved: usize = self.moved.iter().map(|image| image.places).sum();
        let (left, broken) = (self.leftovers.len(), self.broken.len());
        let all: BTreeSet<&Reference> = self
            .moved
            .iter()
            .map(|image| &image.from)
            .chain(self.leftovers.iter().map(|leftover| &leftover.image))
            .collect();
        let (images, places) = (format_count(all.len(), "image"), moved + left + broken);
        let mut text = format!(
            "{}: {images} at {}: {moved} moved, {left} left over",
            self.subject(),
            format_count(places, "location")
        );
        let registries = format_count(self.registries.len(), "registry");
        for (count, part) in [
            (broken, format!("{broken} not valid")),
            (self.registries.len(), format!("{registries} outside")),
            (self.possible.len(), format!("{} possible and not looked at", self.possible.len())),
        ] {
            if count > 0 {
                let _ = write!(text, ", {part}");
            }
        }
        text
    }

    /// The report as a Markdown document.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# {} to {}\n\n", self.subject(), self.site);
        let _ = writeln!(text, "{}\n", self.summary());
        let _ = writeln!(text, "Verdict: **{}**\n", self.verdict_text());
        text.push_str("| image | at the site | locations | set by |\n|---|---|---|---|\n");
        for image in &self.moved {
            let by: Vec<String> = image.by.iter().map(|path| format!("`{path}`")).collect();
            let (from, to) = (&image.from, &image.to);
            let _ = writeln!(text, "| `{from}` | `{to}` | {} | {} |", image.places, by.join(", "));
        }
        self.write_leftovers(&mut text);
        self.write_notes(&mut text);
        text + &self.refutation_markdown()
    }

    fn write_leftovers(&self, text: &mut String) {
        for kind in LeftoverKind::ALL {
            let (title, ways) = kind.report_section();
            let mut own = self.leftovers.iter().filter(|leftover| leftover.kind == kind).peekable();
            if own.peek().is_some() {
                let _ = write!(text, "\n## {title}\n\n{ways}\n\n");
            }
            for ImageLeftover { image, place, reason, .. } in own {
                let _ = writeln!(text, "- `{image}` in {place}: {reason}");
            }
        }
        for MirrorFile { reader, path, text: file, .. } in &self.remedies {
            let _ = write!(text, "\n{reader}, `{path}`:\n\n```\n{}\n```\n", file.trim_end());
        }
    }

    fn write_notes(&self, text: &mut String) {
        if !self.broken.is_empty() {
            text.push_str(
                "\n## Invalid image fields\n\nThese cannot be pulled; correct the values.\n\n",
            );
            for find::BrokenImageField { place, text: field, reason } in &self.broken {
                let _ = writeln!(text, "- `{field}` in {place}: {reason}");
            }
        }
        if !self.registries.is_empty() {
            text.push_str(
                "\n## Registries outside\n\nPrograms put names of images behind these; no value moves \
                 them.\n\n",
            );
            for ForeignReference { place, text: registry } in &self.registries {
                let _ = writeln!(text, "- `{registry}` in {place}");
            }
        }
        if !self.possible.is_empty() {
            text.push_str(
                "\n## Not proven\n\nThe manifests do not show whether an operator pulls these.\n\n",
            );
            for possible in &self.possible {
                let (image, remark) = (&possible.image, possible.lock_remark());
                let _ = writeln!(text, "- `{image}`{remark}: {}", possible.reason());
            }
        }
        text.push_str(&self.unconfirmed_markdown());
        if !self.without_secret.is_empty() {
            text.push_str(
                "\n## Without the pull secret\n\nNo value of the chart adds it to these; add it to \
                 their service accounts.\n\n",
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

    /// The digests that the site may not have, as Markdown. Empty if there are none.
    pub fn unconfirmed_markdown(&self) -> String {
        let mut text = String::new();
        if !self.unconfirmed.is_empty() {
            text.push_str(
                "\n## Digests that the site may not have\n\nLoad first, then ask again where the \
                 site's registry can be reached, or give the receipt of the load.\n\n",
            );
        }
        for unconfirmed in &self.unconfirmed {
            let UnconfirmedDigest { image, place, .. } = unconfirmed;
            let _ = writeln!(text, "- `{image}` in {place}: {}", unconfirmed.reason());
        }
        text
    }

    /// What refutes the proof, as Markdown: images that are not in the lock, unexpected changes
    /// with both versions, and texts that point outside. Empty if there are none.
    pub fn refutation_markdown(&self) -> String {
        let mut text = String::new();
        if !self.not_locked.is_empty() {
            text.push_str(
                "\n## Not in the lock\n\nThe site will not have these images. Add them to \
                 gantry.yaml and run `gantry lock`.\n\n",
            );
            for unlocked in &self.not_locked {
                let UnlockedImage { image, place, .. } = unlocked;
                let _ = writeln!(text, "- `{image}` in {place}{}", unlocked.remark());
            }
        }
        if !self.changes.is_empty() {
            text.push_str("\n## Unexpected changes\n\n");
            for UnexpectedChange { place, before, after } in &self.changes {
                let _ = writeln!(
                    text,
                    "- {place}\n{}{}",
                    format_side('-', before.as_ref()),
                    format_side('+', after.as_ref())
                );
            }
        }
        if !self.foreign.is_empty() {
            text.push_str("\n## Still outside the site\n\n");
            for ForeignReference { place, text: outside } in &self.foreign {
                let _ = writeln!(text, "- `{outside}` in {place}");
            }
        }
        text
    }
}

/// The first lines of one version of a changed text, each behind `sign`, as in a diff. A whole
/// script would bury the rest of the report.
fn format_side(sign: char, side: Option<&String>) -> String {
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
    use crate::find::ManifestLocation;

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
            let (name, path) = (String::new(), DocumentPath::default());
            let place = ManifestLocation { template, document, kind: name.clone(), name, path };
            assert_eq!(LeftoverKind::from_location(&place, &rendered), kind);
        }
    }
}
