//! The report of a run: all findings, their counts, the verdict, and the changes since an earlier
//! run (for `--watch`).

use serde::Serialize;

use super::finding::{CheckFinding, FindingState};

/// The result of a run. `gantry check --output json` prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// The cluster's context.
    pub context: String,
    /// The address of the API server.
    pub server: String,
    /// Whether everything passed.
    pub verdict: CheckVerdict,
    /// The number of findings in each state.
    pub counts: FindingCounts,
    /// The findings, in the order of [`super::CheckName::ALL`].
    pub findings: Vec<CheckFinding>,
}

/// The verdict of a report. `gantry evidence` reads it from the JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    /// Nothing failed.
    #[default]
    Passed,
    /// Something failed.
    Failed,
}

/// The number of findings in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct FindingCounts {
    /// As they should be.
    pub ok: usize,
    /// Working, but worth a look.
    pub warning: usize,
    /// Not working.
    pub failed: usize,
    /// Not checked.
    pub skipped: usize,
}

impl CheckReport {
    /// Makes a report of findings: counts them and derives the verdict.
    pub fn new(context: &str, server: &str, findings: Vec<CheckFinding>) -> Self {
        let of = |state| findings.iter().filter(|finding| finding.state == state).count();
        let counts = FindingCounts {
            ok: of(FindingState::Ok),
            warning: of(FindingState::Warning),
            failed: of(FindingState::Failed),
            skipped: of(FindingState::Skipped),
        };
        let verdict = if counts.failed == 0 { CheckVerdict::Passed } else { CheckVerdict::Failed };
        Self { context: context.to_owned(), server: server.to_owned(), verdict, counts, findings }
    }

    /// Whether nothing failed.
    pub fn has_passed(&self) -> bool {
        self.verdict == CheckVerdict::Passed
    }

    /// Whether any content is not what was locked.
    pub fn is_digest_wrong(&self) -> bool {
        self.findings.iter().any(|finding| finding.is_digest_wrong)
    }

    /// The first finding that failed.
    pub fn first_failure(&self) -> Option<&CheckFinding> {
        self.findings.iter().find(|finding| finding.state == FindingState::Failed)
    }

    /// The findings that are new, or differ in state or next step, since an earlier run.
    pub fn changes_since<'a>(&'a self, before: &Self) -> Vec<&'a CheckFinding> {
        // The reason is left out: it has counts and times that change in every run.
        let was = |now: &CheckFinding| {
            before
                .findings
                .iter()
                .find(|then| then.identity() == now.identity())
                .is_some_and(|then| then.state == now.state && then.next == now.next)
        };
        self.findings.iter().filter(|finding| !was(finding)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckName;
    use super::*;

    #[test]
    fn a_report_counts_and_tells_what_changed() {
        let waits =
            CheckFinding::failed(CheckName::Pods, "rag", "Pod a").with_reason("it waits", "wait");
        let runs = CheckFinding::ok(CheckName::Pods, "rag", "Pod b", "ready");
        let before = CheckReport::new("c", "s", vec![waits, runs.clone()]);
        let now = CheckFinding::ok(CheckName::Pods, "rag", "Pod a", "ready");
        let after = CheckReport::new("c", "s", vec![now.clone(), runs]);
        assert!(!before.has_passed() && after.has_passed());
        assert_eq!(after.changes_since(&before), [&now]);
        assert_eq!(before.counts.failed, 1);
    }
}
