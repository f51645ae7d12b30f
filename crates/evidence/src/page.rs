//! Renders the HTML page that an auditor reads: one file without external resources, which shows
//! the content of the index and links to the other files of the archive. Every text in it may come
//! from a stranger (model cards, annotations), so all of them are escaped.

use std::fmt::Write as _;

use crate::file_format::ModelFileFormat;
use crate::index::{EvidenceFinding, EvidenceIndex, ModelFileEvidence, Severity};
use crate::pickle::ImportDanger;

/// The style sheet, inline, as the page must work offline.
const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1b1f24}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #d8dee4}\
th{font-size:.85rem;color:#57606a}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}\
.high{color:#b42318;font-weight:600}.medium{color:#9a6700;font-weight:600}.low{color:#57606a}\
.none{color:#57606a}";

/// Renders the page for an index.
pub(crate) fn render_page(index: &EvidenceIndex) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        // The policy forbids scripts and any request, should the escaping ever have a gap.
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Evidence of {0}</title>\
         <style>{STYLE}</style></head><body>\n<h1>Evidence of {0}</h1>\n\
         <p>Gathered by gantry {1}. The signature covers <a href=\"index.json\">index.json</a>, which has the \
         sha256 of every file here. Verify it with <code>minisign -Vm index.json -p KEY.pub</code>, or \
         everything with <code>gantry evidence verify</code>.</p>\n",
        escape_html(&index.name),
        escape_html(&index.gantry),
    );
    write_findings(&mut page, &index.findings);
    write_reports(&mut page, index);
    write_images(&mut page, index);
    write_models(&mut page, index);
    write_charts(&mut page, index);
    write_parts(&mut page, index);
    page.push_str("</body></html>\n");
    page
}

fn write_findings(page: &mut String, findings: &[EvidenceFinding]) {
    let count = |weight| findings.iter().filter(|finding| finding.weight == weight).count();
    let _ = write!(
        page,
        "<h2>Findings</h2>\n<p><span class=\"high\">{} high</span>, <span class=\"medium\">{} medium</span>, \
         <span class=\"low\">{} low</span></p>\n",
        count(Severity::High),
        count(Severity::Medium),
        count(Severity::Low),
    );
    write_table(
        page,
        &["", "What", "Finding", "Next step"],
        findings.iter().map(|finding| {
            let class = severity_name(finding.weight);
            vec![
                format!("<span class=\"{class}\">{class}</span>"),
                format_code(&finding.what),
                escape_html(&finding.why),
                escape_html(&finding.next),
            ]
        }),
    );
}

fn write_reports(page: &mut String, index: &EvidenceIndex) {
    page.push_str("<h2>Reports</h2>\n");
    write_table(
        page,
        &["Report", "Verdict"],
        index.reports.iter().map(|report| {
            let verdict = report.verdict.as_deref().map_or_else(format_none, escape_html);
            vec![format_link(&report.path), verdict]
        }),
    );
}

fn write_images(page: &mut String, index: &EvidenceIndex) {
    page.push_str("<h2>Images</h2>\n");
    let head = ["Image", "Licences", "SBOMs", "Signatures (not verified)", "Origin"];
    write_table(
        page,
        &head,
        index.images.iter().map(|image| {
            vec![
                format!(
                    "{}<br>{}",
                    format_code(&image.reference),
                    format_code(&image.digest.to_string())
                ),
                join_lines(image.licences.iter().map(|text| escape_html(text))),
                join_lines(image.sboms.iter().map(|path| format_link(path))),
                join_lines(image.signatures.iter().map(|path| format_link(path))),
                join_lines(image.origin.iter().map(|text| escape_html(text))),
            ]
        }),
    );
}

fn write_models(page: &mut String, index: &EvidenceIndex) {
    page.push_str("<h2>Models</h2>\n");
    write_table(
        page,
        &["Model", "Licences", "Files that can run code", "Files"],
        index.models.iter().map(|model| {
            let licences = model.licences.iter().map(|text| escape_html(text));
            let texts = model.texts.iter().map(|path| format_link(path));
            let all = model.files.iter().map(|file| {
                format!(
                    "{} <span class=\"low\">{}</span>",
                    format_code(&file.path),
                    describe_format(file)
                )
            });
            vec![
                format_code(&model.name),
                join_lines(licences.chain(texts)),
                join_lines(model.files.iter().filter_map(format_pickles)),
                format!(
                    "<details><summary>{} files</summary>{}</details>",
                    model.files.len(),
                    join_lines(all)
                ),
            ]
        }),
    );
}

/// Lists what the pickles of a file import; `None` if it has none and was inspected completely.
fn format_pickles(file: &ModelFileEvidence) -> Option<String> {
    let looked = file.looked.as_ref()?;
    let class = match looked.worst_danger()? {
        ImportDanger::Dangerous => "high",
        ImportDanger::Unknown => "medium",
        ImportDanger::Usual => "low",
    };
    let imports = looked.pickles.iter().flat_map(|member| &member.found.imports);
    let imports = imports.map(|import| format!("{} ×{}", format_code(&import.name), import.times));
    Some(format!(
        "<span class=\"{class}\">{}</span><br>{}",
        escape_html(&file.path),
        join_lines(imports)
    ))
}

fn write_charts(page: &mut String, index: &EvidenceIndex) {
    page.push_str("<h2>Charts</h2>\n");
    write_table(
        page,
        &["Chart", "Licences"],
        index.charts.iter().map(|chart| {
            let said = chart.licences.iter().map(|text| escape_html(text));
            vec![
                format!(
                    "{}<br>{}",
                    format_code(&chart.reference),
                    format_code(&chart.digest.to_string())
                ),
                join_lines(said.chain(chart.texts.iter().map(|path| format_link(path)))),
            ]
        }),
    );
}

fn write_parts(page: &mut String, index: &EvidenceIndex) {
    page.push_str("<h2>Files</h2>\n");
    write_table(
        page,
        &["File", "About", "Bytes", "sha256"],
        index.parts.iter().map(|part| {
            vec![
                format_link(&part.path),
                escape_html(&part.of),
                part.size.to_string(),
                format_code(&part.sha256.hex()),
            ]
        }),
    );
}

/// Writes a table, or "none" if it has no rows. The cells are HTML already.
fn write_table(page: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<String> = rows
        .map(|row| {
            let cells: Vec<String> = row.iter().map(|cell| format!("<td>{cell}</td>")).collect();
            format!("<tr>{}</tr>\n", cells.concat())
        })
        .collect();
    if rows.is_empty() {
        page.push_str("<p class=\"none\">none</p>\n");
        return;
    }
    let head: Vec<String> = head.iter().map(|cell| format!("<th>{cell}</th>")).collect();
    let head = head.concat();
    let _ = write!(
        page,
        "<table><thead><tr>{head}</tr></thead><tbody>\n{}</tbody></table>\n",
        rows.concat()
    );
}

/// Puts each item on a line of its own.
fn join_lines(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    if all.is_empty() { format_none() } else { all.join("<br>") }
}

fn format_none() -> String {
    "<span class=\"none\">none</span>".to_owned()
}

fn format_code(text: &str) -> String {
    format!("<code>{}</code>", escape_html(text))
}

/// Links to a file of the archive. Its path needs no URL encoding: it has only letters, digits and
/// `. - _ @ /`.
fn format_link(path: &str) -> String {
    format!("<a href=\"{0}\">{0}</a>", escape_html(path))
}

/// Escapes a text for HTML content and attribute values.
fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Characters that reverse the reading direction can make a name look like another one
            // ("Trojan Source", CVE-2021-42574).
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

fn severity_name(weight: Severity) -> &'static str {
    match weight {
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
    }
}

/// Describes the format of a file; empty if it is of no interest.
fn describe_format(file: &ModelFileEvidence) -> &'static str {
    match file.looked.as_ref().map(|looked| looked.form) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_stays_text() {
        assert_eq!(
            escape_html("<script>\"a\"&'b'\u{202e}\n"),
            "&lt;script&gt;&quot;a&quot;&amp;&#39;b&#39;\u{fffd} "
        );
    }
}
