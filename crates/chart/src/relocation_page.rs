//! The report of a relocation as an HTML page: the verdict with its figures, what speaks against it,
//! then each image with its name at the site, and the offline configuration. What has one cause is one
//! row, with all of its locations in it.

use std::collections::BTreeSet;

use html::{
    ColumnWidth, PageBlock, PageSection, PageTable, PageVerdict, ReportPage, TableCell, TextLine,
    Tone, format_count, group_by_cause,
};

use crate::FieldLabel;
use crate::find::ManifestLocation;
use crate::manifest::Manifests;
use crate::offline::OfflineValues;
use crate::path::DocumentPath;
use crate::phone_home::PhoneHomeFinding;
use crate::relocate::{ProofVerdict, UnexpectedChange, UnlockedImage};
use crate::report::{ImageLeftover, LeftoverKind, RelocationReport};
use crate::wiring::OfflineWiring;

/// The most lines of a changed text that are shown: a whole script would bury the rest of the page.
const MOST_LINES: usize = 20;

/// What the page is made from.
#[derive(Debug, Clone, Copy)]
pub struct RelocationPage<'a> {
    /// The report.
    pub report: &'a RelocationReport,
    /// The objects of the chart as it will be installed, by which fields get their names.
    pub rendered: &'a Manifests,
    /// What was turned off, and what could not be; absent if nobody asked for it.
    pub offline: Option<&'a OfflineValues>,
    /// How runtimes were configured for offline use; absent if nobody asked for it.
    pub wiring: Option<&'a OfflineWiring>,
    /// What still connects to the outside by itself.
    pub phone_home: &'a [PhoneHomeFinding],
}

impl RelocationPage<'_> {
    /// The page as HTML. `gantry` is the version that wrote it.
    pub fn to_html(&self, gantry: &str) -> html::Result<String> {
        let report = self.report;
        let mut page = ReportPage {
            kind: "Relocation",
            subject: format!("{} to {}", report.subject(), report.site),
            verdict: self.page_verdict(),
            footer: format!("Written by gantry {gantry}."),
            ..ReportPage::default()
        };
        self.add_figures(&mut page);
        page.sections.extend(self.refutation_sections());
        for kind in LeftoverKind::ALL {
            page.sections.push(self.leftovers_section(kind));
        }
        page.sections.push(self.broken_section());
        page.sections.push(self.registries_section());
        page.sections.push(self.wiring_leftovers_section());
        page.sections.push(self.phone_home_section());
        page.sections.push(self.moved_section());
        page.sections.push(self.wiring_section());
        page.sections.push(self.offline_section());
        page.sections.push(self.possible_section());
        let unconfirmed = self.report.unconfirmed.iter().map(|unconfirmed| {
            let (image, place) = (&unconfirmed.image, &unconfirmed.place);
            TextLine::from(format!("{image} in {place}: {}", unconfirmed.reason()).as_str())
        });
        page.sections.push(
            PageSection::new("Digests that the site may not have").with_list(unconfirmed.collect()),
        );
        page.sections.push(self.secrets_section());
        let notes = report.notes.iter().map(|note| TextLine::from(note.as_str())).collect();
        page.sections.push(PageSection::new("Not set").with_list(notes));
        page.sections.push(self.mirrors_section());
        page.to_html()
    }

    fn page_verdict(&self) -> PageVerdict {
        let report = self.report;
        let count = report.leftovers.len() + report.broken.len() + report.registries.len();
        let (tone, headline, explanation) = match self.report.verdict {
            ProofVerdict::Proven if !self.report.possible.is_empty() => (
                Tone::Warning,
                self.report.verdict_text().replacen("proven", "Proven", 1),
                "Every image that the manifests name comes from the site. Whether an operator pulls \
                 the images under “Not proven” they do not show.",
            ),
            ProofVerdict::Proven => (
                Tone::Good,
                "Proven: every image comes from the site".to_owned(),
                "The chart was rendered with and without the overlay. With it, every image is the \
                 site's name for the same tag or digest, and nothing but image references differs.",
            ),
            ProofVerdict::Unconfirmed => (
                Tone::Warning,
                format!(
                    "Unconfirmed: {} that the site may not have",
                    format_count(self.report.unconfirmed.len(), "digest")
                ),
                "Everything else is proven. The site's registry may have another index under these \
                 names, without the platforms that were left out.",
            ),
            ProofVerdict::Leftovers => (
                Tone::Warning,
                format!("{} cannot be moved by a value of the chart", format_count(count, "image")),
                "Everything else is proven. Each image below needs one of the workarounds that stand \
                 with it.",
            ),
            ProofVerdict::Refuted => (
                Tone::Bad,
                "Refuted: the overlay does not do what it should".to_owned(),
                "No overlay was written. What speaks against it comes first below.",
            ),
        };
        PageVerdict { tone, headline, explanation: explanation.to_owned() }
    }

    fn add_figures(&self, page: &mut ReportPage) {
        let report = self.report;
        let tone = |count: usize, tone: Tone| if count > 0 { tone } else { Tone::Good };
        page.add_figure(Tone::Good, report.moved.len(), "images moved");
        let values: BTreeSet<&DocumentPath> =
            report.moved.iter().flat_map(|image| &image.by).collect();
        page.add_figure(Tone::Neutral, values.len(), "values set for them");
        let left = report.leftovers.len() + report.broken.len() + report.registries.len();
        page.add_figure(tone(left, Tone::Warning), left, "images left over");
        let refuted = report.not_locked.len() + report.changes.len() + report.foreign.len();
        page.add_figure(tone(refuted, Tone::Bad), refuted, "reasons against the proof");
        if let Some(wiring) = self.wiring {
            page.add_figure(Tone::Neutral, wiring.lines.len(), "offline settings made");
        }
        let online = self.phone_home.len();
        page.add_figure(tone(online, Tone::Warning), online, "connections to the internet");
    }

    /// What refutes the proof.
    fn refutation_sections(&self) -> [PageSection; 3] {
        let report = self.report;
        let mut unlocked = PageTable::new([("Image", WIDE), ("Where", WIDE)]);
        let name = |unlocked: &&UnlockedImage| format!("{}{}", unlocked.image, unlocked.remark());
        for (image, all) in group_by_cause(&report.not_locked, name) {
            let places = self.list_places(all.iter().map(|unlocked| &unlocked.place));
            unlocked.add_row(Tone::Bad, [TextLine::code(image).into(), places]);
        }
        let mut foreign = PageTable::new([("Text", WIDE), ("Where", WIDE)]);
        for (text, all) in group_by_cause(&report.foreign, |outside| outside.text.as_str()) {
            let places = self.list_places(all.iter().map(|outside| &outside.place));
            foreign.add_row(Tone::Bad, [TextLine::code(text).into(), places]);
        }
        let mut changes = PageSection::new("Unexpected changes");
        if !report.changes.is_empty() {
            changes = changes.with_count(report.changes.len()).with_paragraph(
                "The overlay changes these, and moving images does not explain it.",
            );
        }
        for UnexpectedChange { place, before, after } in &report.changes {
            changes = changes.with_block(PageBlock::File {
                name: self.describe_place(place),
                text: quote_lines('-', before.as_deref()) + &quote_lines('+', after.as_deref()),
            });
        }
        let count = report.not_locked.len();
        let unlocked = PageSection::new("Not in the lock").with_table(unlocked);
        let unlocked = match count {
            0 => unlocked,
            _ => unlocked.with_count(count).with_paragraph(
                "The site will not have these images. Add them to gantry.yaml and run: gantry lock",
            ),
        };
        [unlocked, changes, PageSection::new("Still outside the site").with_table(foreign)]
    }

    /// The registries outside that stand alone in a configuration.
    fn registries_section(&self) -> PageSection {
        let mut table = PageTable::new([("Registry", WIDE), ("Where", WIDE)]);
        for (text, all) in group_by_cause(&self.report.registries, |one| one.text.as_str()) {
            let places = self.list_places(all.iter().map(|one| &one.place));
            table.add_row(Tone::Warning, [TextLine::code(text).into(), places]);
        }
        PageSection::new("Registries outside").with_table(table)
    }

    /// The leftovers of a kind, with their workarounds.
    fn leftovers_section(&self, kind: LeftoverKind) -> PageSection {
        let (title, ways) = kind.report_section();
        let own = self.report.leftovers.iter().filter(|leftover| leftover.kind == kind);
        let mut table = PageTable::new([("Image", WIDE), ("Where", WIDE), ("Why", WIDE)]);
        let cause = |leftover: &&ImageLeftover| (leftover.image.clone(), leftover.reason.clone());
        for ((image, reason), all) in group_by_cause(own, cause) {
            let places = self.list_places(all.iter().map(|leftover| &leftover.place));
            table.add_row(
                Tone::Warning,
                [TextLine::code(image.to_string()).into(), places, reason.into()],
            );
        }
        let section = PageSection::new(title);
        match table.rows.len() {
            0 => section,
            count => {
                section.with_count(count).with_paragraph(ways.replace('`', "")).with_table(table)
            }
        }
    }

    fn broken_section(&self) -> PageSection {
        let mut table = PageTable::new([("Text", WIDE), ("Where", WIDE), ("What is wrong", WIDE)]);
        let cause =
            |field: &&crate::find::BrokenImageField| (field.text.clone(), field.reason.clone());
        for ((text, reason), all) in group_by_cause(&self.report.broken, cause) {
            let places = self.list_places(all.iter().map(|field| &field.place));
            table.add_row(Tone::Bad, [TextLine::code(text).into(), places, reason.into()]);
        }
        let section = PageSection::new("Invalid image fields");
        match table.rows.len() {
            0 => section,
            _ => section
                .with_paragraph("These cannot be pulled; correct the values.")
                .with_table(table),
        }
    }

    fn moved_section(&self) -> PageSection {
        let mut table = PageTable::new([
            ("Image", WIDE),
            ("At the site", WIDE),
            ("Set by", WIDE),
            ("Locations", ColumnWidth::Number),
        ]);
        for image in &self.report.moved {
            let by = image.by.iter().map(|path| TextLine::code(path.to_string()));
            table.add_row(
                Tone::Neutral,
                [
                    TextLine::code(image.from.to_string()).into(),
                    TextLine::code(image.to.to_string()).into(),
                    TableCell::list(by, |count| format_count(count, "value")),
                    image.places.to_string().into(),
                ],
            );
        }
        PageSection::new("Images moved").with_count(self.report.moved.len()).with_table(table)
    }

    fn wiring_section(&self) -> PageSection {
        let mut table = PageTable::new([
            ("Setting", WIDE),
            ("Where", WIDE),
            ("Set by", WIDE),
            ("Reason", WIDE),
        ]);
        let Some(wiring) = self.wiring else { return PageSection::new("Offline configuration") };
        let rows =
            group_by_cause(wiring.to_rows(), |row| (row.what.clone(), row.by, row.why.clone()));
        for ((what, by, why), all) in rows {
            let what = what.into_iter().map(TextLine::code);
            let places = all.iter().map(|row| TextLine::from(row.place));
            let by = by.map_or_else(|| "patch".into(), |path| TextLine::code(path.to_string()));
            table.add_row(
                Tone::Neutral,
                [
                    TableCell::list(what, |count| format_count(count, "setting")),
                    TableCell::list(places, |count| format_count(count, "container")),
                    by.into(),
                    why.join("; ").into(),
                ],
            );
        }
        let notes = wiring.notes.iter().map(|note| TextLine::from(format!("{note}."))).collect();
        let mut section = PageSection::new("Offline configuration").with_table(table);
        if !wiring.patches.is_empty() {
            section = section.with_paragraph(
                "No value of the chart can set what is marked as a patch: install with gantry \
                 post-render --patches FILE",
            );
        }
        section.with_list(notes)
    }

    fn wiring_leftovers_section(&self) -> PageSection {
        let mut table = PageTable::new([("Problem", WIDE), ("Where", WIDE), ("Next step", WIDE)]);
        let left = self.wiring.into_iter().flat_map(|wiring| &wiring.leftovers);
        let cause = |left: &&crate::wiring::WiringLeftover| (left.what.clone(), left.next.clone());
        for ((what, next), all) in group_by_cause(left, cause) {
            let places = all.iter().map(|left| TextLine::from(left.place.as_str()));
            let places = TableCell::list(places, |count| format_count(count, "location"));
            table.add_row(Tone::Warning, [what.into(), places, next.into()]);
        }
        PageSection::new("Not configured for offline use").with_table(table)
    }

    fn offline_section(&self) -> PageSection {
        let mut table = PageTable::new([("Value", WIDE), ("What it does", WIDE)]);
        for switch in self.offline.into_iter().flat_map(|offline| &offline.off) {
            let value = TextLine::code(format!("{}: {}", switch.path, switch.off));
            table.add_row(Tone::Neutral, [value.into(), switch.why.as_str().into()]);
        }
        for refused in self.offline.into_iter().flat_map(|offline| &offline.refused) {
            let why = format!("cannot be set; helm says: {}", refused.message);
            let value = TextLine::code(refused.path.to_string());
            table.add_row(Tone::Warning, [value.into(), why.into()]);
        }
        PageSection::new("Turned off").with_table(table)
    }

    fn phone_home_section(&self) -> PageSection {
        let mut table = PageTable::new([("Cause", WIDE), ("Where", WIDE), ("What it does", WIDE)]);
        for finding in self.phone_home {
            let (cause, places, why) = self.phone_home_cells(finding);
            table.add_row(Tone::Warning, [cause.into(), places, why.into()]);
        }
        let section = PageSection::new("Connects to the internet by itself");
        match self.phone_home.len() {
            0 => section,
            count => section.with_count(count).with_table(table),
        }
    }

    /// The cause of a connection by the name of its value, variable or host; where it is; what it does.
    fn phone_home_cells<'a>(
        &self,
        finding: &'a PhoneHomeFinding,
    ) -> (TextLine, TableCell, &'a str) {
        match finding {
            PhoneHomeFinding::Value { path, off, why, .. } => {
                let off = off.as_ref().map(|off| format!("turn it off with {off}"));
                let cause = TextLine::code(path.to_string()).with_muted(off.unwrap_or_default());
                (cause, "the chart's values".into(), why)
            }
            PhoneHomeFinding::Environment { name, off, image, places, why } => {
                let cause = TextLine::code(name).with_muted(format!("is not set to {off}"));
                let lines = places.iter().map(|place| self.describe_place(place));
                let places = TableCell::list(lines, |count| {
                    format!("{} of {image}", format_count(count, "container"))
                });
                (cause, places, why)
            }
            PhoneHomeFinding::Address { host, urls, place, values, why } => {
                let cause = TextLine::code(host);
                let mut lines = vec![self.describe_place(place)];
                lines.extend(
                    values.iter().map(|path| {
                        TextLine::new().with_plain("value").with_code(path.to_string())
                    }),
                );
                let all = urls.iter().map(TextLine::code).collect();
                let places =
                    TableCell::from(lines).with_folded(format_count(urls.len(), "address"), all);
                (cause, places, why.as_deref().unwrap_or("no rule knows what it is for"))
            }
        }
    }

    fn possible_section(&self) -> PageSection {
        let mut table = PageTable::new([("Image", WIDE), ("Reason", WIDE)]);
        for possible in &self.report.possible {
            let image = TextLine::code(format!("{}{}", possible.image, possible.lock_remark()));
            table.add_row(Tone::Neutral, [image.into(), possible.reason().into()]);
        }
        let section = PageSection::new("Not proven");
        match table.rows.len() {
            0 => section,
            _ => section
                .with_paragraph("The manifests do not show whether an operator pulls these.")
                .with_table(table),
        }
    }

    fn secrets_section(&self) -> PageSection {
        let section = PageSection::new("Without the pull secret");
        if self.report.without_secret.is_empty() {
            return section;
        }
        section
            .with_paragraph(
                "No value of the chart adds it to these; add it to their service accounts.",
            )
            .with_list(self.report.without_secret.iter().map(|p| self.describe_place(p)).collect())
    }

    fn mirrors_section(&self) -> PageSection {
        let section = PageSection::new("Files for the nodes");
        let files = self.report.remedies.iter().map(|file| PageBlock::File {
            name: TextLine::from(file.reader).with_code(file.path.as_str()),
            text: file.text.trim_end().to_owned(),
        });
        files.fold(section, PageSection::with_block)
    }

    /// A cell of locations, with the fields by their names.
    fn list_places<'p>(&self, places: impl Iterator<Item = &'p ManifestLocation>) -> TableCell {
        let places: Vec<&ManifestLocation> = places.collect();
        let kinds: BTreeSet<&str> = places.iter().map(|place| place.kind.as_str()).collect();
        let lines = places.iter().map(|place| self.describe_place(place));
        TableCell::list(lines, |count| match kinds.first() {
            Some(kind) if kinds.len() == 1 => format_count(count, kind),
            _ => format_count(count, "object"),
        })
    }

    /// An object, and its field by name.
    fn describe_place(&self, place: &ManifestLocation) -> TextLine {
        let object = self.rendered.documents.get(place.document);
        // The stream that is at hand may be another render of the chart.
        let object =
            object.filter(|object| object.kind() == place.kind && object.name() == place.name);
        let value = object.map_or(&serde_json::Value::Null, |object| &object.value);
        let field = FieldLabel::of_field(value, &place.path).to_string();
        TextLine::from(format!("{} {}", place.kind, place.name)).with_muted(field)
    }
}

/// The width of most columns.
const WIDE: ColumnWidth = ColumnWidth::Text;

/// The first lines of one version of a changed text, each behind `sign`, as in a diff.
fn quote_lines(sign: char, side: Option<&str>) -> String {
    let lines = side.into_iter().flat_map(|text| text.lines().take(MOST_LINES));
    let mut quoted = String::new();
    for line in lines {
        quoted.push_str(&format!("{sign} {line}\n"));
    }
    quoted
}
