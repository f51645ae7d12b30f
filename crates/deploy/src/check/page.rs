//! The report of a check as an HTML page: what failed with its next step, what to look at, and what was
//! seen to work. Findings with the same cause are one row.

use std::time::Duration;

use html::{
    ColumnWidth, PageSection, PageTable, PageVerdict, ReportPage, TableCell, TextLine, Tone,
    format_count, group_by_cause,
};

use super::finding::{CheckFinding, CheckName, FindingState};
use super::report::{CheckReport, CheckVerdict};

/// What findings of one row have in common: the check, the reason and the next step.
type CheckCause<'a> = (CheckName, &'a str, &'a str);

impl CheckReport {
    /// The report as one HTML page. `gantry` is the version that wrote it.
    pub fn to_html(&self, gantry: &str) -> html::Result<String> {
        let mut page = ReportPage {
            kind: "Check",
            subject: format!("cluster {}", self.context),
            verdict: self.page_verdict(),
            footer: format!("Written by gantry {gantry}."),
            ..ReportPage::default()
        };
        let counts = self.counts;
        let tone = |count: usize, tone: Tone| if count > 0 { tone } else { Tone::Neutral };
        page.add_figure(tone(counts.failed, Tone::Bad), counts.failed, "failed");
        page.add_figure(tone(counts.warning, Tone::Warning), counts.warning, "to look at");
        page.add_figure(tone(counts.ok, Tone::Good), counts.ok, "passed");
        page.add_figure(Tone::Neutral, counts.skipped, "not checked");
        page.add_fact("API server", TextLine::code(self.server.as_str()));
        page.sections.push(self.problems_section("Failed", FindingState::Failed, Tone::Bad));
        page.sections.push(self.problems_section(
            "To look at",
            FindingState::Warning,
            Tone::Warning,
        ));
        page.sections.push(self.quiet_section("Passed", "What was seen", FindingState::Ok));
        page.sections.push(self.quiet_section("Not checked", "Why not", FindingState::Skipped));
        page.to_html()
    }

    fn page_verdict(&self) -> PageVerdict {
        let counts = self.counts;
        let all = format_count(self.findings.len(), "check");
        let (tone, headline, explanation) = match (self.verdict, self.is_digest_wrong()) {
            (CheckVerdict::Passed, _) if counts.warning > 0 => (
                Tone::Warning,
                format!("Nothing failed, {} to look at", format_count(counts.warning, "finding")),
                "It works; somebody should look at what is listed first.",
            ),
            (CheckVerdict::Passed, _) => {
                (Tone::Good, "Everything that was checked works".to_owned(), "")
            }
            (CheckVerdict::Failed, true) => (
                Tone::Bad,
                format!("{} of {all} failed, and content differs from the lock", counts.failed),
                "A digest is not the locked one: something else runs, or would run, than was locked.",
            ),
            (CheckVerdict::Failed, false) => {
                (Tone::Bad, format!("{} of {all} failed", counts.failed), "Each has its next step.")
            }
        };
        PageVerdict { tone, headline, explanation: explanation.to_owned() }
    }

    /// The findings of a state, by their cause.
    fn group_findings(&self, state: FindingState) -> Vec<(CheckCause<'_>, Vec<&CheckFinding>)> {
        let own = self.findings.iter().filter(|finding| finding.state == state);
        group_by_cause(own, |finding| (finding.check, finding.why.as_str(), finding.next.as_str()))
    }

    /// Findings that need somebody, with their next step.
    fn problems_section(&self, title: &str, state: FindingState, tone: Tone) -> PageSection {
        let mut table = PageTable::new([
            ("Check", ColumnWidth::Narrow),
            ("What", ColumnWidth::Text),
            ("Reason", ColumnWidth::Text),
            ("Next step", ColumnWidth::Text),
        ]);
        let groups = self.group_findings(state);
        let count = groups.iter().map(|(_, all)| all.len()).sum();
        for ((check, why, next), all) in groups {
            let mut reason: Vec<TextLine> = why.lines().map(TextLine::from).collect();
            if all.iter().any(|finding| finding.is_digest_wrong) {
                reason.push(TextLine::badge(Tone::Bad, "digest differs"));
            }
            let check = TextLine::badge(tone, check.as_str());
            let cells = [check.into(), list_subjects(&all), reason.into(), list_lines(next)];
            table.add_row(tone, cells);
        }
        PageSection::new(title).with_count(count).with_table(table)
    }

    /// Findings that need nobody.
    fn quiet_section(&self, title: &str, why: &'static str, state: FindingState) -> PageSection {
        let mut table = PageTable::new([
            ("Check", ColumnWidth::Narrow),
            ("What", ColumnWidth::Text),
            (why, ColumnWidth::Text),
            ("Took", ColumnWidth::Number),
        ]);
        let tone = if state == FindingState::Ok { Tone::Good } else { Tone::Neutral };
        let groups = self.group_findings(state);
        let count = groups.iter().map(|(_, all)| all.len()).sum();
        for ((check, why, _), all) in groups {
            let took = all.iter().filter_map(|finding| finding.took).max().map(format_took);
            let check = TextLine::badge(tone, check.as_str());
            let took = took.map_or_else(TableCell::default, TableCell::from);
            table
                .add_row(Tone::Neutral, [check.into(), list_subjects(&all), list_lines(why), took]);
        }
        PageSection::new(title).with_count(count).with_table(table)
    }
}

/// What was checked, and where.
fn list_subjects(all: &[&CheckFinding]) -> TableCell {
    let lines = all.iter().map(|finding| {
        let place = if finding.place == finding.what { "" } else { finding.place.as_str() };
        TextLine::from(finding.what.as_str()).with_muted(place)
    });
    TableCell::list(lines, |count| {
        // `Pod web-0` and `Pod web-1` are pods; of anything else only the number is known.
        let kinds =
            group_by_cause(all, |finding| finding.what.split_once(' ').map(|(kind, _)| kind));
        match kinds.as_slice() {
            [(Some(kind), _)] => format_count(count, kind),
            _ => format_count(count, "subject"),
        }
    })
}

fn list_lines(text: &str) -> TableCell {
    text.lines().map(TextLine::from).collect::<Vec<_>>().into()
}

/// The time that something took: `31 ms`, `2.4 s`, `1 min 5 s`.
fn format_took(took: Duration) -> String {
    match took.as_secs() {
        0 => format!("{} ms", took.as_millis()),
        1..10 => format!("{:.1} s", took.as_secs_f64()),
        seconds => html::format_seconds(seconds),
    }
}
