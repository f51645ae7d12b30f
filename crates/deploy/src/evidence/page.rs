//! Renders the HTML page that an auditor reads: one file without external resources, which shows
//! the content of the index and links to the other files of the archive. Every text in it may come
//! from a stranger (model cards, annotations), so all of them are escaped.

use std::fmt::Write as _;

use super::form::Form;
use super::index::{File, Finding, Index, Weight};
use super::pickle::Danger;

/// The style sheet, inline, as the page must work offline.
const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1b1f24}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #d8dee4}\
th{font-size:.85rem;color:#57606a}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}\
.high{color:#b42318;font-weight:600}.medium{color:#9a6700;font-weight:600}.low{color:#57606a}\
.none{color:#57606a}";

/// Renders the page for an index.
pub(super) fn html(index: &Index) -> String {
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
        escaped(&index.name),
        escaped(&index.gantry),
    );
    findings(&mut page, &index.findings);
    reports(&mut page, index);
    images(&mut page, index);
    models(&mut page, index);
    charts(&mut page, index);
    parts(&mut page, index);
    page.push_str("</body></html>\n");
    page
}

fn findings(page: &mut String, findings: &[Finding]) {
    let count = |weight| findings.iter().filter(|finding| finding.weight == weight).count();
    let _ = write!(
        page,
        "<h2>Findings</h2>\n<p><span class=\"high\">{} high</span>, <span class=\"medium\">{} medium</span>, \
         <span class=\"low\">{} low</span></p>\n",
        count(Weight::High),
        count(Weight::Medium),
        count(Weight::Low),
    );
    table(
        page,
        &["", "What", "Finding", "Next step"],
        findings.iter().map(|finding| {
            let class = word(finding.weight);
            vec![
                format!("<span class=\"{class}\">{class}</span>"),
                code(&finding.what),
                escaped(&finding.why),
                escaped(&finding.next),
            ]
        }),
    );
}

fn reports(page: &mut String, index: &Index) {
    page.push_str("<h2>Reports</h2>\n");
    table(
        page,
        &["Report", "Verdict"],
        index.reports.iter().map(|report| {
            let verdict = report.verdict.as_deref().map_or_else(none, escaped);
            vec![link(&report.path), verdict]
        }),
    );
}

fn images(page: &mut String, index: &Index) {
    page.push_str("<h2>Images</h2>\n");
    let head = ["Image", "Licences", "SBOMs", "Signatures (not verified)", "Origin"];
    table(
        page,
        &head,
        index.images.iter().map(|image| {
            vec![
                format!("{}<br>{}", code(&image.reference), code(&image.digest.to_string())),
                lines(image.licences.iter().map(|text| escaped(text))),
                lines(image.sboms.iter().map(|path| link(path))),
                lines(image.signatures.iter().map(|path| link(path))),
                lines(image.origin.iter().map(|text| escaped(text))),
            ]
        }),
    );
}

fn models(page: &mut String, index: &Index) {
    page.push_str("<h2>Models</h2>\n");
    table(
        page,
        &["Model", "Licences", "Files that can run code", "Files"],
        index.models.iter().map(|model| {
            let licences = model.licences.iter().map(|text| escaped(text));
            let texts = model.texts.iter().map(|path| link(path));
            let all = model.files.iter().map(|file| {
                format!("{} <span class=\"low\">{}</span>", code(&file.path), form(file))
            });
            vec![
                code(&model.name),
                lines(licences.chain(texts)),
                lines(model.files.iter().filter_map(pickles)),
                format!(
                    "<details><summary>{} files</summary>{}</details>",
                    model.files.len(),
                    lines(all)
                ),
            ]
        }),
    );
}

/// Lists what the pickles of a file import; `None` if it has none and was inspected completely.
fn pickles(file: &File) -> Option<String> {
    let looked = file.looked.as_ref()?;
    let class = match looked.danger()? {
        Danger::Dangerous => "high",
        Danger::Unknown => "medium",
        Danger::Usual => "low",
    };
    let imports = looked.pickles.iter().flat_map(|member| &member.found.imports);
    let imports = imports.map(|import| format!("{} ×{}", code(&import.name), import.times));
    Some(format!("<span class=\"{class}\">{}</span><br>{}", escaped(&file.path), lines(imports)))
}

fn charts(page: &mut String, index: &Index) {
    page.push_str("<h2>Charts</h2>\n");
    table(
        page,
        &["Chart", "Licences"],
        index.charts.iter().map(|chart| {
            let said = chart.licences.iter().map(|text| escaped(text));
            vec![
                format!("{}<br>{}", code(&chart.reference), code(&chart.digest.to_string())),
                lines(said.chain(chart.texts.iter().map(|path| link(path)))),
            ]
        }),
    );
}

fn parts(page: &mut String, index: &Index) {
    page.push_str("<h2>Files</h2>\n");
    table(
        page,
        &["File", "About", "Bytes", "sha256"],
        index.parts.iter().map(|part| {
            vec![
                link(&part.path),
                escaped(&part.of),
                part.size.to_string(),
                code(&part.sha256.hex()),
            ]
        }),
    );
}

/// Writes a table, or "none" if it has no rows. The cells are HTML already.
fn table(page: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
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
fn lines(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    if all.is_empty() { none() } else { all.join("<br>") }
}

fn none() -> String {
    "<span class=\"none\">none</span>".to_owned()
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// Links to a file of the archive. Its path needs no URL encoding: it has only letters, digits and
/// `. - _ @ /`.
fn link(path: &str) -> String {
    format!("<a href=\"{0}\">{0}</a>", escaped(path))
}

/// Escapes a text for HTML content and attribute values.
fn escaped(text: &str) -> String {
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

fn word(weight: Weight) -> &'static str {
    match weight {
        Weight::High => "high",
        Weight::Medium => "medium",
        Weight::Low => "low",
    }
}

/// Describes the format of a file; empty if it is of no interest.
fn form(file: &File) -> &'static str {
    match file.looked.as_ref().map(|looked| looked.form) {
        Some(Form::Safetensors) => "safetensors: pure data",
        Some(Form::Gguf) => "GGUF: pure data",
        Some(Form::Pickle) => "pickle",
        Some(Form::PickleArchive) => "zip archive with pickles",
        Some(Form::Archive) => "zip archive without pickles",
        Some(Form::Packed) => "compressed, not inspected",
        Some(Form::Other) => "",
        None => "not inspected: content not available",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_stays_text() {
        assert_eq!(
            escaped("<script>\"a\"&'b'\u{202e}\n"),
            "&lt;script&gt;&quot;a&quot;&amp;&#39;b&#39;\u{fffd} "
        );
    }
}
