//! The HTML page that an auditor reads: the content of the index, with links to the other files of the
//! archive. Findings with the same cause are one row.

use html::{
    ColumnWidth, PageSection, PageTable, PageVerdict, ReportPage, TableCell, TextLine, Tone,
    format_count, group_by_cause,
};
use types::ByteSize;

use crate::Result;
use crate::file_format::ModelFileFormat;
use crate::index::{EvidenceFinding, EvidenceIndex, ModelEvidence, ModelFileEvidence, Severity};
use crate::pickle::{ImportDanger, PickleImport};

/// The width of most columns.
const WIDE: ColumnWidth = ColumnWidth::Text;

/// Renders the page for an index.
pub(crate) fn render_page(index: &EvidenceIndex) -> Result<String> {
    let mut page = ReportPage {
        kind: "Evidence",
        subject: index.name.clone(),
        verdict: page_verdict(&index.findings),
        footer: format!(
            "Gathered by gantry {}. The signature covers index.json, which has the SHA-256 of every \
             file here.",
            index.gantry
        ),
        ..ReportPage::default()
    };
    for (severity, label) in [
        (Severity::High, "severe findings"),
        (Severity::Medium, "findings to look into"),
        (Severity::Low, "remarks"),
    ] {
        let count = count_findings(&index.findings, severity);
        let tone = if count > 0 { severity.tone() } else { Tone::Good };
        page.add_figure(tone, count, label);
    }
    page.add_figure(Tone::Neutral, index.images.len(), "images");
    page.add_figure(Tone::Neutral, index.models.len(), "models");
    page.add_figure(Tone::Neutral, index.charts.len(), "charts");
    page.add_fact("Index", TextLine::link(crate::part::INDEX));
    page.add_fact(
        "Verify the signature",
        TextLine::code(format!("minisign -Vm {} -p KEY.pub", crate::part::INDEX)),
    );
    page.add_fact("Verify everything", TextLine::code("gantry evidence verify"));
    page.sections = vec![
        findings_section(&index.findings),
        reports_section(index),
        models_section(index),
        images_section(index),
        charts_section(index),
        parts_section(index),
    ];
    Ok(page.to_html()?)
}

fn page_verdict(findings: &[EvidenceFinding]) -> PageVerdict {
    let count = |severity| count_findings(findings, severity);
    let (tone, headline, explanation) = match (count(Severity::High), count(Severity::Medium)) {
        (0, 0) => (
            Tone::Good,
            "Nothing severe was found".to_owned(),
            "What was gathered is complete as far as Gantry can tell.",
        ),
        (0, medium) => (
            Tone::Warning,
            format!("{} to look into", format_count(medium, "finding")),
            "Nothing severe was found, but somebody has to look into what comes first below.",
        ),
        (high, _) => (
            Tone::Bad,
            format_count(high, "severe finding"),
            "Loading a file may run any code, or a proof failed. Each finding has its next step.",
        ),
    };
    PageVerdict { tone, headline, explanation: explanation.to_owned() }
}

fn count_findings(findings: &[EvidenceFinding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.weight == severity).count()
}

fn findings_section(findings: &[EvidenceFinding]) -> PageSection {
    let mut table = PageTable::new([
        ("Severity", ColumnWidth::Narrow),
        ("Finding", WIDE),
        ("About", WIDE),
        ("Next step", WIDE),
    ]);
    let cause =
        |finding: &&EvidenceFinding| (finding.weight, finding.why.clone(), finding.next.clone());
    for ((weight, why, next), all) in group_by_cause(findings, cause) {
        let about = all.iter().map(|finding| TextLine::code(finding.what.as_str()));
        table.add_row(
            weight.tone(),
            [
                TextLine::badge(weight.tone(), weight.as_str()).into(),
                why.into(),
                TableCell::list(about, |count| format_count(count, "subject")),
                next.into(),
            ],
        );
    }
    PageSection::new("Findings").with_count(findings.len()).with_table(table)
}

fn reports_section(index: &EvidenceIndex) -> PageSection {
    let mut table = PageTable::new([("Verdict", ColumnWidth::Narrow), ("Report", WIDE)]);
    for report in &index.reports {
        // The same judgement as that of the findings.
        let is_bad = index.findings.iter().any(|finding| finding.what == report.path);
        let tone = if is_bad { Tone::Bad } else { Tone::Good };
        let verdict = match &report.verdict {
            Some(verdict) => TextLine::badge(tone, verdict.as_str()),
            None => TextLine::muted("none"),
        };
        table.add_row(Tone::Neutral, [verdict.into(), TextLine::link(report.path.as_str()).into()]);
    }
    PageSection::new("Reports").with_table(table)
}

fn images_section(index: &EvidenceIndex) -> PageSection {
    let mut table = PageTable::new([
        ("Image", WIDE),
        ("Licences", WIDE),
        ("SBOMs", WIDE),
        ("Signatures (not verified)", WIDE),
    ]);
    for image in &index.images {
        table.add_row(
            Tone::Neutral,
            [
                named_digest(&image.reference, &image.digest.to_string()).with_folded(
                    "origin",
                    image.origin.iter().map(|text| TextLine::from(text.as_str())).collect(),
                ),
                list_texts(&image.licences, "licence"),
                list_links(&image.sboms),
                list_links(&image.signatures),
            ],
        );
    }
    PageSection::new("Images").with_count(index.images.len()).with_table(table)
}

fn models_section(index: &EvidenceIndex) -> PageSection {
    let mut table = PageTable::new([
        ("Model", WIDE),
        ("Licences", WIDE),
        ("Files that can run code", WIDE),
        ("Files", WIDE),
    ]);
    for model in &index.models {
        let texts = model.texts.iter().map(TextLine::link);
        let licences = model.licences.iter().map(|text| TextLine::from(text.as_str()));
        let worst =
            model.files.iter().filter_map(|file| file.looked.as_ref()?.worst_danger()).max();
        let tone = match worst {
            Some(ImportDanger::Dangerous) => Tone::Bad,
            Some(ImportDanger::Unknown) => Tone::Warning,
            _ => Tone::Neutral,
        };
        let files = model.files.iter().map(|file| {
            TextLine::code(file.path.as_str())
                .with_muted(ByteSize(file.size).to_string())
                .with_muted(file.describe_format())
        });
        table.add_row(
            tone,
            [
                vec![
                    TextLine::code(model.name.as_str()),
                    TextLine::muted(model.reference.as_str()),
                ]
                .into(),
                TableCell::list(licences.chain(texts), |count| format_count(count, "licence")),
                list_dangers(model),
                TableCell::default()
                    .with_folded(format_count(model.files.len(), "file"), files.collect()),
            ],
        );
    }
    PageSection::new("Models").with_count(index.models.len()).with_table(table)
}

/// The files of a model that can run code: those that import the same are one entry.
fn list_dangers(model: &ModelEvidence) -> TableCell {
    let dangers = model.files.iter().filter_map(|file| {
        let looked = file.looked.as_ref()?;
        let imports = looked.pickles.iter().flat_map(|member| &member.found.imports);
        Some((file, looked.worst_danger()?, imports.collect::<Vec<&PickleImport>>()))
    });
    let mut lines = Vec::new();
    let mut groups = group_by_cause(dangers, |(_, danger, imports)| {
        (*danger, imports.iter().map(|import| import.name.as_str()).collect::<Vec<_>>())
    });
    groups.sort_by_key(|(group, _)| std::cmp::Reverse(group.0));
    for ((danger, names), all) in groups {
        let (tone, word) = match danger {
            ImportDanger::Dangerous => (Tone::Bad, "dangerous"),
            ImportDanger::Unknown => (Tone::Warning, "unknown"),
            ImportDanger::Usual => (Tone::Neutral, "usual"),
        };
        let files: Vec<&str> = all.iter().map(|(file, ..)| file.path.as_str()).collect();
        let line = TextLine::badge(tone, word).with_plain(files.join(", "));
        let imports = match names.len() {
            0 => String::new(),
            _ => format!("imports {}", names.join(", ")),
        };
        lines.push(line.with_muted(imports));
    }
    lines.into()
}

fn charts_section(index: &EvidenceIndex) -> PageSection {
    let mut table = PageTable::new([("Chart", WIDE), ("Licences", WIDE)]);
    for chart in &index.charts {
        let said = chart.licences.iter().map(|text| TextLine::from(text.as_str()));
        let texts = chart.texts.iter().map(TextLine::link);
        table.add_row(
            Tone::Neutral,
            [
                named_digest(&chart.reference, &chart.digest.to_string()),
                TableCell::list(said.chain(texts), |count| format_count(count, "licence")),
            ],
        );
    }
    PageSection::new("Charts").with_count(index.charts.len()).with_table(table)
}

fn parts_section(index: &EvidenceIndex) -> PageSection {
    let mut table = PageTable::new([
        ("File", WIDE),
        ("About", WIDE),
        ("Size", ColumnWidth::Number),
        ("SHA-256", WIDE),
    ]);
    for part in &index.parts {
        table.add_row(
            Tone::Neutral,
            [
                TextLine::link(part.path.as_str()).into(),
                part.of.as_str().into(),
                ByteSize(part.size).to_string().into(),
                TextLine::code(part.sha256.hex()).into(),
            ],
        );
    }
    PageSection::new("Files of the archive")
        .with_count(index.parts.len())
        .closed()
        .with_table(table)
}

/// A name with its digest below.
fn named_digest(name: &str, digest: &str) -> TableCell {
    vec![TextLine::code(name), TextLine::muted(digest)].into()
}

fn list_texts(all: &[String], noun: &str) -> TableCell {
    let lines = all.iter().map(|text| TextLine::from(text.as_str()));
    TableCell::list(lines, |count| format_count(count, noun))
}

fn list_links(paths: &[String]) -> TableCell {
    TableCell::list(paths.iter().map(TextLine::link), |count| format_count(count, "file"))
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::High => Tone::Bad,
            Self::Medium => Tone::Warning,
            Self::Low => Tone::Neutral,
        }
    }
}

impl ModelFileEvidence {
    /// What the format of the file is; empty if it is of no interest.
    fn describe_format(&self) -> &'static str {
        match self.looked.as_ref().map(|looked| looked.form) {
            Some(ModelFileFormat::Safetensors) => "safetensors: pure data",
            Some(ModelFileFormat::Gguf) => "GGUF: pure data",
            Some(ModelFileFormat::Pickle) => "pickle",
            Some(ModelFileFormat::PickleArchive) => "zip archive with pickles",
            Some(ModelFileFormat::Archive) => "zip archive without pickles",
            Some(ModelFileFormat::Packed) => "compressed, not inspected",
            Some(ModelFileFormat::Other) => "",
            None => "not inspected: content not available",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_page_of_an_index() {
        // The same evidence as in the book's picture; `dev/report-pictures` makes it from the snapshot.
        let sample = include_str!("../testdata/index.json");
        let index = EvidenceIndex::parse(sample.as_bytes()).unwrap();

        let page = render_page(&index).unwrap();

        assert!(!page.contains("<script"), "{page}");
        insta::assert_snapshot!("page", page);
    }
}
