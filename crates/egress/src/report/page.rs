//! The report as an HTML page: the verdict with its figures, what tried to leave as a timeline and a
//! table, then the settings that lead outside. What has one cause is one row, with all workloads in it.

use std::collections::BTreeSet;

use html::{
    AttemptTimeline, ColumnWidth, PageBlock, PageSection, PageTable, PageVerdict, ReportPage,
    TableCell, TextLine, TimelineLane, Tone, format_count, format_instant, format_interval,
    format_seconds, group_by_cause,
};

use super::{AuditReport, AuditVerdict, EgressAttempt, FixConfidence, SuggestedFix};
use crate::Result;
use crate::coverage::NamespaceCoverage;
use crate::evidence::ExerciseOutcome;
use crate::findings::StaticFinding;
use crate::pods::Workload;

impl AuditReport {
    /// The report as one HTML page.
    pub fn to_html(&self) -> Result<String> {
        Ok(self.to_page().to_html()?)
    }

    fn to_page(&self) -> ReportPage {
        let mut page = ReportPage {
            kind: "Egress audit",
            subject: self.audited_label(),
            verdict: self.page_verdict(),
            footer: format!("Written {} by gantry {}.", format_instant(self.written), self.gantry),
            ..ReportPage::default()
        };
        self.add_figures(&mut page);
        if let (Some(from), Some(to)) = (self.from, self.to) {
            page.add_fact("Observed", format_interval(from, to));
        }
        if !self.context.is_empty() {
            page.add_fact("API server", TextLine::code(self.server.as_str()));
        }
        page.sections.push(self.gaps_section());
        if self.is_soaked() {
            page.sections.push(self.attempts_section());
            page.sections.push(self.others_section());
        }
        page.sections.push(self.findings_section());
        page.sections.push(self.policies_section());
        if self.is_soaked() {
            page.sections.push(self.observers_section());
            page.sections.push(self.exercises_section());
        }
        page
    }

    fn audited_label(&self) -> String {
        let namespaces = match self.namespaces.as_slice() {
            [] => "all namespaces".to_owned(),
            [one] => format!("namespace {one}"),
            names => format!("namespaces {}", names.join(", ")),
        };
        match self.context.as_str() {
            "" => format!("manifests, {namespaces}"),
            context => format!("cluster {context}, {namespaces}"),
        }
    }

    fn page_verdict(&self) -> PageVerdict {
        let (tone, explanation) = match self.verdict {
            AuditVerdict::Quiet => {
                (Tone::Good, "Everything that could leave was observed, and nothing did.")
            }
            AuditVerdict::Unproven => (
                Tone::Warning,
                "Silence proves nothing where nobody listened. Remove what is listed below, then audit \
                 again.",
            ),
            AuditVerdict::Tried => {
                (Tone::Bad, "Apply the settings in the column “What stops it”, then audit again.")
            }
            AuditVerdict::NotSoaked => (
                Tone::Neutral,
                "This report has the settings that lead outside. What a workload really tries to reach \
                 is seen with --soak.",
            ),
        };
        PageVerdict {
            tone,
            headline: capitalize(self.verdict.as_sentence()),
            explanation: explanation.to_owned(),
        }
    }

    fn add_figures(&self, page: &mut ReportPage) {
        let bad_if = |is_some: bool, tone: Tone| if is_some { tone } else { Tone::Good };
        if self.is_soaked() {
            let count: u64 = self.attempts.iter().map(|tried| tried.count).sum();
            let tone = bad_if(count > 0, Tone::Bad);
            page.add_figure(tone, count, "attempts to leave");
            let senders: BTreeSet<String> =
                self.attempts.iter().map(EgressAttempt::sender_label).collect();
            page.add_figure(tone, senders.len(), "senders");
            let destinations: BTreeSet<&str> =
                self.attempts.iter().map(|tried| tried.to.as_str()).collect();
            page.add_figure(tone, destinations.len(), "destinations outside");
        }
        let causes = group_by_cause(&self.findings, |finding| finding.cause()).len();
        page.add_figure(bad_if(causes > 0, Tone::Warning), causes, "settings that lead outside");
        if !self.policies.is_empty() {
            let open: usize = self.policies.iter().map(|closed| closed.uncovered.len()).sum();
            let tone = bad_if(open > 0, Tone::Warning);
            page.add_figure(tone, open, "workloads without a network policy");
        }
        if self.is_soaked() {
            let seconds = u64::try_from(self.duration_seconds()).unwrap_or_default();
            page.add_figure(Tone::Neutral, format_seconds(seconds), "observed");
        }
    }

    fn gaps_section(&self) -> PageSection {
        let gaps = self.gaps.iter().map(|gap| TextLine::from(gap.as_str())).collect();
        PageSection::new("What could not be observed").with_count(self.gaps.len()).with_list(gaps)
    }

    fn attempts_section(&self) -> PageSection {
        let section = PageSection::new("What tried to leave");
        if self.attempts.is_empty() {
            return section.with_paragraph("Nothing.");
        }
        let attempts = sort_by_time(&self.attempts);
        let mut section = section;
        if let (Some(from), Some(to)) = (self.from, self.to) {
            let lanes = attempts.iter().map(|tried| TimelineLane {
                label: format!("{} → {}", tried.sender_label(), tried.to),
                first: tried.first,
                last: tried.last,
                count: tried.count,
                tone: Tone::Bad,
            });
            let timeline = AttemptTimeline { from, to, lanes: lanes.collect() };
            section = section.with_block(PageBlock::Timeline(timeline));
        }
        let mut table = PageTable::new([
            ("Destination", ColumnWidth::Text),
            ("Who tried", ColumnWidth::Text),
            ("Times", ColumnWidth::Number),
            ("When (UTC)", ColumnWidth::Text),
            ("What stops it", ColumnWidth::Text),
        ]);
        let groups = group_by_cause(attempts, |tried| {
            (tried.to.as_str(), tried.method_label(), self.list_stops(tried))
        });
        for ((to, method, stops), all) in groups {
            table.add_row(
                Tone::Bad,
                [
                    vec![TextLine::new().with_strong(to), TextLine::muted(method)].into(),
                    list_senders(&all),
                    count_attempts(&all).to_string().into(),
                    interval_cell(&all),
                    stops.into(),
                ],
            );
        }
        section.with_table(table)
    }

    fn others_section(&self) -> PageSection {
        let mut table = PageTable::new([
            ("Destination", ColumnWidth::Text),
            ("Who tried", ColumnWidth::Text),
            ("Times", ColumnWidth::Number),
            ("When (UTC)", ColumnWidth::Text),
        ]);
        let attempts = sort_by_time(&self.elsewhere);
        let groups = group_by_cause(attempts, |tried| (tried.to.as_str(), tried.method_label()));
        for ((to, method), all) in groups {
            table.add_row(
                Tone::Neutral,
                [
                    vec![to.into(), TextLine::muted(method)].into(),
                    list_senders(&all),
                    count_attempts(&all).to_string().into(),
                    interval_cell(&all),
                ],
            );
        }
        let section = PageSection::new("Attempts of others").with_count(self.elsewhere.len());
        if self.elsewhere.is_empty() {
            return section;
        }
        section
            .closed()
            .with_paragraph("From other namespaces or from nodes; the verdict does not count them.")
            .with_table(table)
    }

    fn findings_section(&self) -> PageSection {
        let section = PageSection::new("Settings that lead outside");
        if self.findings.is_empty() {
            return section.with_paragraph("Nothing was found.");
        }
        let mut table = PageTable::new([
            ("What leads outside", ColumnWidth::Text),
            ("Where", ColumnWidth::Text),
            ("What stops it", ColumnWidth::Text),
        ]);
        let groups = group_by_cause(&self.findings, |finding| finding.cause());
        let count = groups.len();
        for (cause, all) in groups {
            let what = vec![TextLine::code(cause.what), TextLine::muted(cause.why)];
            let subjects: Vec<&Workload> = all.iter().map(|finding| &finding.subject).collect();
            let lines = all.iter().map(|finding| {
                let container = finding.setting.container.as_deref();
                let container = container.map(|name| format!("container {name}"));
                TextLine::from(finding.subject.to_string())
                    .with_muted(container.unwrap_or_default())
            });
            let places = TableCell::list(lines, |_| summarize_workloads(&subjects));
            table.add_row(Tone::Warning, [what.into(), places, cause.stop.into()]);
        }
        section.with_count(count).with_table(table)
    }

    fn policies_section(&self) -> PageSection {
        let mut section = PageSection::new("Network policies");
        let mut table = PageTable::new([
            ("Namespace", ColumnWidth::Narrow),
            ("Workloads that no policy restricts", ColumnWidth::Text),
            ("What the generated policies do not restrict", ColumnWidth::Text),
        ]);
        for closed in &self.policies {
            table.add_row(
                if closed.uncovered.is_empty() { Tone::Neutral } else { Tone::Warning },
                [
                    closed.namespace.as_str().into(),
                    list_uncovered(closed),
                    list_policy_gaps(closed),
                ],
            );
        }
        if !self.policies.is_empty() && self.policies.iter().all(|c| c.uncovered.is_empty()) {
            section = section.with_paragraph(
                "A network policy restricts the outgoing connections of every workload.",
            );
        }
        section.with_table(table)
    }

    fn observers_section(&self) -> PageSection {
        let mut table =
            PageTable::new([("Observer", ColumnWidth::Text), ("What it sees", ColumnWidth::Text)]);
        for (sees, all) in group_by_cause(&self.sources, |seeing| seeing.describe_method()) {
            let places = all.iter().map(|seeing| TextLine::from(seeing.place.as_str()));
            let places = TableCell::list(places, |count| format_count(count, "node"));
            table.add_row(Tone::Neutral, [places, sees.into()]);
        }
        PageSection::new("How it was observed").with_table(table)
    }

    fn exercises_section(&self) -> PageSection {
        let section = PageSection::new("What was exercised meanwhile");
        if self.exercised.is_empty() {
            return section.with_paragraph(
                "Nothing: workloads that reach outside only when they are used may have been silent.",
            );
        }
        let mut table = PageTable::new([
            ("Result", ColumnWidth::Narrow),
            ("Exercise", ColumnWidth::Text),
            ("Answer", ColumnWidth::Text),
        ]);
        for exercised in &self.exercised {
            let tone = match exercised.outcome {
                ExerciseOutcome::Done => Tone::Good,
                ExerciseOutcome::Failed => Tone::Warning,
            };
            table.add_row(
                tone,
                [
                    TextLine::badge(tone, exercised.outcome.as_str()).into(),
                    exercised.what.as_str().into(),
                    exercised.detail.as_str().into(),
                ],
            );
        }
        section.with_table(table)
    }

    /// What stops an attempt, as lines: the setting, then how certain it is and why. Fields are called
    /// by their names.
    fn list_stops(&self, tried: &EgressAttempt) -> Vec<TextLine> {
        let mut lines = Vec::new();
        for stop in &tried.stops {
            let from = self.findings.iter().find(|finding| {
                finding.stop == stop.setting && Some(&finding.subject) == stop.subject.as_ref()
            });
            let setting = from.map_or_else(|| stop.setting.clone(), StaticFinding::named_stop);
            lines.push(describe_stop(tried, stop, setting));
        }
        lines
    }
}

/// What findings of one row have in common.
#[derive(Debug, PartialEq)]
struct FindingCause<'a> {
    what: &'a str,
    why: &'a str,
    stop: String,
}

impl StaticFinding {
    /// What the finding has in common with others of the same cause.
    fn cause(&self) -> FindingCause<'_> {
        FindingCause { what: &self.what, why: &self.why, stop: self.named_stop() }
    }

    /// What stops it, with the field's name instead of its path.
    fn named_stop(&self) -> String {
        if self.place.is_empty() || self.setting.name.is_empty() {
            return self.stop.clone();
        }
        self.stop.replace(&self.place, &self.setting.name)
    }
}

fn describe_stop(tried: &EgressAttempt, stop: &SuggestedFix, setting: String) -> TextLine {
    let (tone, sure) = match stop.sure {
        FixConfidence::Certain => (Tone::Good, "certain"),
        FixConfidence::Likely => (Tone::Neutral, "likely"),
        FixConfidence::Possible => (Tone::Neutral, "possible"),
    };
    let line =
        TextLine::new().with_span(html::TextSpan::Badge(tone, sure.to_owned())).with_plain(setting);
    // The workload of the row is not named again.
    let other = stop.subject.as_ref().filter(|subject| tried.workload.as_ref() != Some(subject));
    let line = line.with_muted(other.map(|other| format!("in {other}")).unwrap_or_default());
    line.with_muted(stop.why.as_str())
}

/// The senders of some attempts, with their pods to unfold.
fn list_senders(all: &[&EgressAttempt]) -> TableCell {
    let workloads: Vec<&Workload> =
        all.iter().filter_map(|tried| tried.workload.as_ref()).collect();
    let lines = all.iter().map(|tried| TextLine::from(tried.sender_label()));
    let pods: BTreeSet<&str> =
        all.iter().flat_map(|tried| &tried.pods).map(String::as_str).collect();
    let senders = TableCell::list(lines, |count| match workloads.len() == count {
        true => summarize_workloads(&workloads),
        false => format_count(count, "sender"),
    });
    let summary = format_count(pods.len(), "pod");
    senders.with_folded(summary, pods.into_iter().map(TextLine::muted).collect())
}

fn count_attempts(all: &[&EgressAttempt]) -> u64 {
    all.iter().map(|tried| tried.count).sum()
}

/// From the first to the last of some attempts.
fn interval_cell(all: &[&EgressAttempt]) -> TableCell {
    let first = all.iter().map(|tried| tried.first).min();
    let last = all.iter().map(|tried| tried.last).max();
    match (first, last) {
        (Some(first), Some(last)) => {
            let text = format_interval(first, last);
            text.trim_end_matches(" UTC").into()
        }
        _ => TableCell::default(),
    }
}

/// In the order in which they were first seen.
fn sort_by_time(attempts: &[EgressAttempt]) -> Vec<&EgressAttempt> {
    let mut sorted: Vec<&EgressAttempt> = attempts.iter().collect();
    sorted.sort_by_key(|tried| tried.first);
    sorted
}

fn list_uncovered(closed: &NamespaceCoverage) -> TableCell {
    let subjects: Vec<&Workload> = closed.uncovered.iter().collect();
    let lines = subjects.iter().map(|workload| TextLine::from(workload.to_string()));
    TableCell::list(lines, |_| summarize_workloads(&subjects))
}

fn list_policy_gaps(closed: &NamespaceCoverage) -> TableCell {
    let gaps = group_by_cause(&closed.gaps, |gap| (gap.reason.as_str(), gap.next.as_str()));
    let lines = gaps.into_iter().map(|((reason, next), all)| {
        let subjects: Vec<&str> = all.iter().map(|gap| gap.subject.as_str()).collect();
        TextLine::new().with_strong(subjects.join(", ")).with_plain(reason).with_muted(next)
    });
    TableCell::list(lines, |count| format_count(count, "gap"))
}

/// `8 Deployments`, or `8 workloads` if they are of several kinds.
fn summarize_workloads(all: &[&Workload]) -> String {
    let kinds: BTreeSet<&str> = all.iter().map(|workload| workload.kind.as_str()).collect();
    match kinds.first() {
        Some(kind) if kinds.len() == 1 => format_count(all.len(), kind),
        _ => format_count(all.len(), "workload"),
    }
}

fn capitalize(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
