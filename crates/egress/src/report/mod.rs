//! The report: what would leave and what tried to, with the workload and the setting that stops it,
//! and by what all of it was seen. One value, written as JSON, Markdown and one HTML page.

mod judge;
mod write;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::coverage::Closed;
use crate::evidence::{Exercised, Seeing};
use crate::findings::Static;
use crate::pods::Workload;
pub use judge::{Case, judge};

/// A whole report. The JSON's schema is this, in camelCase.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The form's version: 1.
    pub version: u32,
    /// The Gantry that wrote it.
    pub gantry: String,
    /// The context of the cluster; empty when only manifests were looked at.
    pub context: String,
    /// Its API server.
    pub server: String,
    /// The audited namespaces; empty for all.
    pub namespaces: Vec<String>,
    /// When it was written.
    pub written: Timestamp,
    /// What comes of it.
    pub verdict: Verdict,
    /// From when on it was listened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// What the audited workloads tried.
    pub attempts: Vec<Tried>,
    /// What others tried: other namespaces, nodes themselves. No part of the verdict.
    pub elsewhere: Vec<Tried>,
    /// What stands in objects and would leave.
    pub findings: Vec<Static>,
    /// The policies.
    pub policies: Vec<Closed>,
    /// By what it was seen.
    pub sources: Vec<Seeing>,
    /// What was done meanwhile.
    pub exercised: Vec<Exercised>,
    /// What was not seen.
    pub gaps: Vec<String>,
}

/// What comes of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Only objects were looked at.
    NotSoaked,
    /// Nothing tried to leave.
    Quiet,
    /// Nothing was seen to leave, and not everything was seen.
    Unproven,
    /// Something tried to leave.
    Tried,
}

/// Something that a workload tried to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// The workload; absent where an address belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Its pods that did; where it is not known which, those that may have.
    pub pods: BTreeSet<String>,
    /// The nodes that they ran on.
    pub nodes: BTreeSet<String>,
    /// The address that it came from, where no workload is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where to: a name, or an address with port and protocol.
    pub to: String,
    /// How.
    pub by: By,
    /// Types of questions, or the names that were asked for past the cluster's name service.
    pub detail: BTreeSet<String>,
    /// How often at least.
    pub count: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
    /// What stops it, the likeliest first.
    pub stops: Vec<Stop>,
}

/// How something tried to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// It asked for a name.
    Name,
    /// It sent a packet.
    Packet,
}

/// What stops an attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// How sure it is that this is it.
    pub sure: Sure,
    /// The setting.
    pub setting: String,
    /// The object that it belongs into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Workload>,
    /// Why it is thought of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// How sure it is that a setting stops an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sure {
    /// The workload's own setting names the host.
    Certain,
    /// An object of the same namespace names the host, or a rule knows it.
    Likely,
    /// It keeps the program inside, whoever it talks to.
    Possible,
}

impl Report {
    /// Indented JSON.
    pub fn json(&self) -> crate::Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|cause| crate::Error::Report { cause: cause.to_string() })? + "\n")
    }
}

impl Verdict {
    /// In a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NotSoaked => "objects were looked at, nothing was listened to",
            Self::Quiet => "nothing tried to leave",
            Self::Unproven => "nothing was seen to leave, but not everything was seen",
            Self::Tried => "something tried to leave",
        }
    }
}
