//! The report that a reviewer signs: image by image from where to where, by which value, and the
//! verdict. As data for `--output json`, as Markdown for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use types::Reference;

use crate::chart::Chart;
use crate::mirrors::{self, Remedy, Scheme};
use crate::relocate::{Change, Foreign, Relocation, Target, Verdict};
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
    /// Where it stands.
    pub place: find::Place,
    /// Why no value moves it.
    pub reason: String,
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
                reason: reason.clone(),
            })
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
        if !self.leftovers.is_empty() {
            text.push_str(
                "\n## Leftovers\n\nNo value moves these. `gantry post-render` does, and so do the \
                 files below on the nodes.\n\n",
            );
            for leftover in &self.leftovers {
                let Leftover { image, place, reason, .. } = leftover;
                let _ = writeln!(text, "- `{image}` in {place}: {reason}");
            }
            for remedy in &self.remedies {
                let Remedy { reader, path, text: file } = remedy;
                let _ = write!(text, "\n{reader}, `{path}`:\n\n```\n{}\n```\n", file.trim_end());
            }
        }
        text + &self.refutation()
    }

    /// What refutes the proof, as Markdown: what changed and should not have, with both sides, and
    /// what points outside. Empty where nothing does.
    pub fn refutation(&self) -> String {
        let mut text = String::new();
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
