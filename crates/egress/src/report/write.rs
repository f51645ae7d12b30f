//! Writes the report as Markdown: a template (`templates/report.md`) that calls the methods of this
//! file, some of which `page` uses as well. Names in a report come from whoever asked for them, so the
//! template escapes all text.

use askama::Template;

use super::audit_report::{AttemptMethod, AuditReport, AuditVerdict, EgressAttempt, FixConfidence};
use crate::evidence::{ExerciseOutcome, Observer};
use crate::observer::ObservationMethod;
use crate::{Error, Result};

#[derive(Template)]
#[template(path = "report.md", escape = "none")]
struct MarkdownText<'a> {
    report: &'a AuditReport,
}

impl AuditReport {
    /// The report as Markdown.
    pub fn to_markdown(&self) -> Result<String> {
        let text = MarkdownText { report: self }.render();
        text.map_err(|error| Error::Report { source: error.into() })
    }

    /// Whether the audit listened.
    pub(super) fn is_soaked(&self) -> bool {
        self.verdict != AuditVerdict::NotSoaked
    }

    /// How long it listened, in seconds.
    pub(super) fn duration_seconds(&self) -> i64 {
        match (self.from, self.to) {
            (Some(from), Some(to)) => to.duration_since(from).as_secs(),
            _ => 0,
        }
    }

    /// What was audited.
    fn cluster_label(&self) -> String {
        match self.context.as_str() {
            "" => "Manifests".to_owned(),
            context => format!("Cluster {context} ({})", self.server),
        }
    }

    /// The audited namespaces.
    fn namespaces_label(&self) -> String {
        match self.namespaces.as_slice() {
            [] => "all namespaces".to_owned(),
            names => names.join(", "),
        }
    }
}

impl EgressAttempt {
    /// The sender: the workload, or its address, or both where several pods share the address.
    pub fn sender_label(&self) -> String {
        match (&self.workload, &self.address) {
            (Some(workload), None) => workload.to_string(),
            (Some(workload), Some(address)) => format!("{workload} or {address}"),
            (None, Some(address)) => address.clone(),
            (None, None) => {
                "unknown: the name server did not pass on the address that asked".to_owned()
            }
        }
    }

    /// How it tried.
    pub(super) fn method_label(&self) -> String {
        let detail: Vec<&str> = self.detail.iter().map(String::as_str).collect();
        let kind = match self.by {
            AttemptMethod::Name => "DNS question",
            AttemptMethod::Packet => "packet",
        };
        if detail.is_empty() { kind.to_owned() } else { format!("{kind} ({})", detail.join(", ")) }
    }

    /// The first of its pods.
    fn pods_text(&self) -> String {
        /// A workload may have thousands.
        const MOST: usize = 5;
        let mut text: Vec<String> = self.pods.iter().take(MOST).cloned().collect();
        if self.pods.len() > MOST {
            text.push(format!("and {} more", self.pods.len() - MOST));
        }
        text.join(", ")
    }
}

impl Observer {
    /// What this method can see.
    pub(super) fn describe_method(&self) -> String {
        let source = match self.source {
            ObservationMethod::Dns => "DNS names that CoreDNS forwards to the sink",
            ObservationMethod::Packets => "packets, also those that a network policy drops",
            ObservationMethod::Conntrack => {
                "the kernel's connection table; what a network policy drops may be missing"
            }
            ObservationMethod::None => "nothing",
        };
        match &self.reason {
            Some(reason) => format!("{source} ({reason})"),
            None => source.to_owned(),
        }
    }
}

impl FixConfidence {
    fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

impl ExerciseOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// Filters that the templates use.
#[allow(
    unreachable_pub,
    clippy::inline_always,
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "askama makes a type of each, and wants a Result"
)]
mod filters {
    /// Text within Markdown: one line, without anything that Markdown or HTML would interpret.
    #[askama::filter_fn]
    pub(super) fn plain(
        text: impl std::fmt::Display,
        _: &dyn askama::Values,
    ) -> askama::Result<String> {
        let mut plain = String::new();
        for c in text.to_string().chars() {
            match c {
                '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' => {
                    plain.push('\\');
                    plain.push(c);
                }
                c if c.is_control() => plain.push(' '),
                c => plain.push(c),
            }
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use jiff::Timestamp;

    use super::super::SuggestedFix;
    use super::*;
    use crate::pods::Workload;

    fn make_report(to: &str) -> AuditReport {
        let at: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let workload =
            Workload { kind: "Deployment".into(), namespace: "shop".into(), name: "llm".into() };
        let tried = EgressAttempt {
            workload: Some(workload.clone()),
            pods: ["shop/llm-1".to_owned()].into(),
            nodes: BTreeSet::new(),
            address: None,
            to: to.into(),
            by: AttemptMethod::Name,
            detail: ["A".to_owned()].into(),
            count: 3,
            first: at,
            last: at,
            stops: vec![SuggestedFix {
                sure: FixConfidence::Certain,
                setting: "set HF_HUB_OFFLINE=1".into(),
                subject: Some(workload),
                why: String::new(),
            }],
        };
        AuditReport {
            version: 1,
            gantry: "0.1.0".into(),
            context: "site".into(),
            server: "https://10.0.0.1:6443".into(),
            namespaces: vec!["shop".into()],
            written: at,
            verdict: AuditVerdict::Tried,
            from: Some(at),
            to: Some(at),
            attempts: vec![tried],
            elsewhere: vec![],
            findings: vec![],
            policies: vec![],
            sources: vec![],
            exercised: vec![],
            gaps: vec!["node2: nothing was seen".into()],
        }
    }

    #[test]
    fn each_form_has_the_verdict_who_tried_what_and_what_stops_it() {
        let report = make_report("huggingface.co");
        for text in
            [report.to_html().unwrap(), report.to_markdown().unwrap(), report.to_json().unwrap()]
        {
            for part in
                ["huggingface.co", "llm-1", "HF", "HUB", "OFFLINE=1", "node2: nothing was seen"]
            {
                assert!(text.contains(part), "{part}\n{text}");
            }
        }
        assert!(report.to_json().unwrap().contains("\"verdict\": \"tried\""));
        assert!(report.to_markdown().unwrap().contains("something tried to leave"));
    }

    #[test]
    fn a_name_that_is_no_name_stays_text() {
        let report = make_report("<script>alert(1)</script>|`x`\n# y");
        assert!(!report.to_html().unwrap().contains("<script>alert"));
        let markdown = report.to_markdown().unwrap();
        assert!(!markdown.contains("<script>") && !markdown.contains("\n# y"), "{markdown}");
    }
}
