//! The report of a run: all findings, their counts, the verdict, and the changes since an earlier
//! run (for `--watch`).

use serde::Serialize;

use super::finding::{Finding, State};

/// The result of a run. `gantry check --output json` prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The cluster's context.
    pub context: String,
    /// The address of the API server.
    pub server: String,
    /// Whether everything passed.
    pub verdict: Verdict,
    /// The number of findings in each state.
    pub counts: Counts,
    /// The findings, in the order of [`super::CheckName::ALL`].
    pub findings: Vec<Finding>,
}

/// The verdict of a report. `gantry evidence` reads it from the JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing failed.
    #[default]
    Passed,
    /// Something failed.
    Failed,
}

/// The number of findings in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// As they should be.
    pub ok: usize,
    /// Working, but worth a look.
    pub warning: usize,
    /// Not working.
    pub failed: usize,
    /// Not checked.
    pub skipped: usize,
}

impl Report {
    /// Makes a report of findings: counts them and derives the verdict.
    pub fn new(context: &str, server: &str, findings: Vec<Finding>) -> Self {
        let of = |state| findings.iter().filter(|finding| finding.state == state).count();
        let counts = Counts {
            ok: of(State::Ok),
            warning: of(State::Warning),
            failed: of(State::Failed),
            skipped: of(State::Skipped),
        };
        let verdict = if counts.failed == 0 { Verdict::Passed } else { Verdict::Failed };
        Self { context: context.to_owned(), server: server.to_owned(), verdict, counts, findings }
    }

    /// Whether nothing failed.
    pub fn is_well(&self) -> bool {
        self.verdict == Verdict::Passed
    }

    /// Whether any content is not what was locked.
    pub fn is_digest_wrong(&self) -> bool {
        self.findings.iter().any(|finding| finding.is_digest_wrong)
    }

    /// The first finding that failed.
    pub fn first_failure(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.state == State::Failed)
    }

    /// The findings that are new, or differ in state or next step, since an earlier run.
    pub fn changes<'a>(&'a self, before: &Self) -> Vec<&'a Finding> {
        // The reason is left out: it has counts and times that change in every run.
        let was = |now: &Finding| {
            before
                .findings
                .iter()
                .find(|then| then.key() == now.key())
                .is_some_and(|then| then.state == now.state && then.next == now.next)
        };
        self.findings.iter().filter(|finding| !was(finding)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Name;
    use super::*;

    #[test]
    fn a_report_counts_and_tells_what_changed() {
        let waits = Finding::failed(Name::Pods, "rag", "Pod a").because("it waits", "wait");
        let runs = Finding::ok(Name::Pods, "rag", "Pod b", "ready");
        let before = Report::new("c", "s", vec![waits, runs.clone()]);
        let now = Finding::ok(Name::Pods, "rag", "Pod a", "ready");
        let after = Report::new("c", "s", vec![now.clone(), runs]);
        assert!(!before.is_well() && after.is_well());
        assert_eq!(after.changes(&before), [&now]);
        assert_eq!(before.counts.failed, 1);
    }
}
