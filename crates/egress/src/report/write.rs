//! Writes the report for people: as Markdown, and as one HTML page that loads nothing from elsewhere.
//! Both are templates (`templates/report.md`, `report.html`) that call the methods of this file. Names
//! in a report come from whoever asked for them, so both templates escape all text.

use askama::Template;

use super::{By, Report, Sure, Tried, Verdict};
use crate::evidence::{Outcome, Seeing};
use crate::line::Source;
use crate::{Error, Result};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
}

#[derive(Template)]
#[template(path = "report.md", escape = "none")]
struct Text<'a> {
    report: &'a Report,
}

impl Report {
    /// The report as one HTML page.
    pub fn html(&self) -> Result<String> {
        render(&Page { report: self })
    }

    /// The report as Markdown.
    pub fn markdown(&self) -> Result<String> {
        render(&Text { report: self })
    }

    /// Whether the audit listened.
    fn is_soaked(&self) -> bool {
        self.verdict != Verdict::NotSoaked
    }

    /// How long it listened, in seconds.
    fn seconds(&self) -> i64 {
        match (self.from, self.to) {
            (Some(from), Some(to)) => to.duration_since(from).as_secs(),
            _ => 0,
        }
    }

    /// What was audited.
    fn place(&self) -> String {
        match self.context.as_str() {
            "" => "Manifests".to_owned(),
            context => format!("Cluster {context} ({})", self.server),
        }
    }

    /// The audited namespaces.
    fn scope(&self) -> String {
        match self.namespaces.as_slice() {
            [] => "all namespaces".to_owned(),
            names => names.join(", "),
        }
    }
}

impl Tried {
    /// The sender: the workload, or its address, or both where several pods share the address.
    pub fn who(&self) -> String {
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
    fn how(&self) -> String {
        let detail: Vec<&str> = self.detail.iter().map(String::as_str).collect();
        let kind = match self.by {
            By::Name => "DNS question",
            By::Packet => "packet",
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

impl Seeing {
    /// What this method can see.
    fn text(&self) -> String {
        let source = match self.source {
            Source::Dns => "DNS names that CoreDNS forwards to the sink",
            Source::Packets => "packets, also those that a network policy drops",
            Source::Conntrack => {
                "the kernel's connection table; what a network policy drops may be missing"
            }
            Source::None => "nothing",
        };
        match &self.reason {
            Some(reason) => format!("{source} ({reason})"),
            None => source.to_owned(),
        }
    }
}

impl Sure {
    fn text(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

fn render(template: &impl Template) -> Result<String> {
    template.render().map_err(|cause| Error::Report { cause: cause.to_string() })
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

    use super::super::Stop;
    use super::*;
    use crate::pods::Workload;

    fn report(to: &str) -> Report {
        let at: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let workload =
            Workload { kind: "Deployment".into(), namespace: "shop".into(), name: "llm".into() };
        let tried = Tried {
            workload: Some(workload.clone()),
            pods: ["shop/llm-1".to_owned()].into(),
            nodes: BTreeSet::new(),
            address: None,
            to: to.into(),
            by: By::Name,
            detail: ["A".to_owned()].into(),
            count: 3,
            first: at,
            last: at,
            stops: vec![Stop {
                sure: Sure::Certain,
                setting: "set HF_HUB_OFFLINE=1".into(),
                subject: Some(workload),
                why: String::new(),
            }],
        };
        Report {
            version: 1,
            gantry: "0.1.0".into(),
            context: "site".into(),
            server: "https://10.0.0.1:6443".into(),
            namespaces: vec!["shop".into()],
            written: at,
            verdict: Verdict::Tried,
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
        let report = report("huggingface.co");
        for text in [report.html().unwrap(), report.markdown().unwrap(), report.json().unwrap()] {
            for part in
                ["huggingface.co", "llm-1", "HF", "HUB", "OFFLINE=1", "node2: nothing was seen"]
            {
                assert!(text.contains(part), "{part}\n{text}");
            }
        }
        assert!(report.json().unwrap().contains("\"verdict\": \"tried\""));
        assert!(report.markdown().unwrap().contains("something tried to leave"));
    }

    #[test]
    fn a_name_that_is_no_name_stays_text() {
        let report = report("<script>alert(1)</script>|`x`\n# y");
        assert!(!report.html().unwrap().contains("<script>alert"));
        let markdown = report.markdown().unwrap();
        assert!(!markdown.contains("<script>") && !markdown.contains("\n# y"), "{markdown}");
    }
}
