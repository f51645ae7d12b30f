//! Prints a report as JUnit XML, which CI systems read: a test suite for each check, and a test
//! case for each of its findings.

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::finding::{CheckFinding, CheckName, FindingState};
use super::report::CheckReport;
use crate::{Error, Result};

/// Prints the report as JUnit XML. JUnit has no warnings: one is a passed test case with its text
/// in `system-out`.
///
/// # Errors
/// [`Error::Junit`] if the XML cannot be written.
pub fn print_junit(report: &CheckReport) -> Result<String> {
    let mut junit = Junit::new("gantry check");
    for name in CheckName::ALL {
        let findings: Vec<&CheckFinding> =
            report.findings.iter().filter(|finding| finding.check == name).collect();
        if findings.is_empty() {
            continue;
        }
        let mut suite = TestSuite::new(name.as_str());
        suite.add_test_cases(findings.into_iter().map(build_test_case));
        junit.add_test_suite(suite);
    }
    junit.to_string().map_err(|cause| Error::Junit { cause })
}

/// Converts a finding into a test case.
fn build_test_case(finding: &CheckFinding) -> TestCase {
    let words = match finding.next.as_str() {
        "" => finding.why.clone(),
        next => format!("{}\nnext step: {next}", finding.why),
    };
    let status = match finding.state {
        FindingState::Failed => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            // The type lets a CI system treat wrong content differently from a pod that is not
            // ready.
            let kind = if finding.is_digest_wrong { "digest" } else { "failed" };
            status.set_message(finding.why.as_str()).set_type(kind).set_description(words.as_str());
            status
        }
        FindingState::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(finding.why.as_str());
            status
        }
        FindingState::Ok | FindingState::Warning => TestCaseStatus::success(),
    };
    let mut case = TestCase::new(finding.what.as_str(), status);
    case.set_classname(format!("{}.{}", finding.check, finding.place));
    if let Some(took) = finding.took {
        case.set_time(took);
    }
    if matches!(finding.state, FindingState::Ok | FindingState::Warning) && !words.is_empty() {
        case.set_system_out(format!("{}: {words}", finding.state.as_str()));
    }
    case
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_report_is_junit_with_a_suite_for_each_check() {
        let findings = vec![
            CheckFinding::ok(CheckName::Nodes, "cluster", "Node a", "ready"),
            CheckFinding::failed(CheckName::Running, "rag", "Pod <b>")
                .with_reason("it runs \u{1} & more", "deploy it again")
                .with_wrong_digest(),
            CheckFinding::skipped(
                CheckName::Inference,
                "rag",
                "inference",
                "nothing is recognised",
            ),
            CheckFinding::ok(CheckName::Inference, "rag", "chat", "hello")
                .with_duration(Duration::from_millis(1500)),
        ];
        let text = print_junit(&CheckReport::new("c", "s", findings)).unwrap();
        for part in [
            "<testsuite name=\"running\" tests=\"1\" skipped=\"0\" errors=\"0\" failures=\"1\"",
            "type=\"digest\"",
            "Pod &lt;b&gt;",
            "<skipped message=\"nothing is recognised\"",
            "time=\"1.500\"",
            "next step: deploy it again",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\u{1}'));
        Junit::deserialize_from_str(&text).unwrap();
    }
}
