//! The report as a value, with the fields of its JSON.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use crate::coverage::NamespaceCoverage;
use crate::evidence::{ExerciseResult, Observer};
use crate::findings::StaticFinding;
use crate::pods::Workload;

/// A report. Its JSON has these fields in camelCase.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditReport {
    /// The version of the format: 1.
    pub version: u32,
    /// The version of Gantry that wrote it.
    pub gantry: String,
    /// The kubeconfig context of the cluster; empty when only manifests were examined.
    pub context: String,
    /// The URL of its API server.
    pub server: String,
    /// The audited namespaces; empty for all.
    pub namespaces: Vec<String>,
    /// When it was written.
    pub written: Timestamp,
    /// The result in a word.
    pub verdict: AuditVerdict,
    /// When the audit began to listen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// When it stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// What the audited workloads tried to reach.
    pub attempts: Vec<EgressAttempt>,
    /// What others tried to reach: other namespaces, the nodes themselves. The verdict ignores it.
    pub elsewhere: Vec<EgressAttempt>,
    /// The settings in objects that lead outside.
    pub findings: Vec<StaticFinding>,
    /// The network policies of each audited namespace.
    pub policies: Vec<NamespaceCoverage>,
    /// How each observer saw.
    pub sources: Vec<Observer>,
    /// What was done during the audit so that the workloads do their work.
    pub exercised: Vec<ExerciseResult>,
    /// What could not be seen, and why.
    pub gaps: Vec<String>,
}

/// The result of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuditVerdict {
    /// Only objects were examined; nothing was listened to.
    NotSoaked,
    /// Nothing tried to leave.
    Quiet,
    /// Nothing was seen that tried to leave, but not everything could be seen.
    Unproven,
    /// Something tried to leave.
    Tried,
}

/// A destination outside that a workload tried to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressAttempt {
    /// The workload; absent where the sender's address belongs to no pod, or to several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Its pods that tried; where that is not known, those that may have.
    pub pods: BTreeSet<String>,
    /// The nodes that they ran on.
    pub nodes: BTreeSet<String>,
    /// The sender's address, where it is not the address of one pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The destination: a name, or an address with port and protocol.
    pub to: String,
    /// Whether a name was asked for or a packet sent.
    pub by: AttemptMethod,
    /// For names the record types; for packets the names that DNS questions to outside asked for.
    pub detail: BTreeSet<String>,
    /// How many times, at least.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// What stops it, the most certain first.
    pub stops: Vec<SuggestedFix>,
}

/// How a workload tried to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttemptMethod {
    /// It asked for a DNS name.
    Name,
    /// It sent a packet.
    Packet,
}

/// A setting that stops an attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuggestedFix {
    /// How certain it is that this setting is the right one.
    pub sure: FixConfidence,
    /// What to do, in words.
    pub setting: String,
    /// The object to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Workload>,
    /// Why this setting is suggested; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// How certain it is that a setting stops an attempt. The order is that of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FixConfidence {
    /// The workload's own setting names the host.
    Certain,
    /// An object of the same namespace names the host, or a rule knows it.
    Likely,
    /// It is a setting of the workload that keeps its program from going out, for another host.
    Possible,
}

impl AuditReport {
    /// Indented JSON.
    pub fn to_json(&self) -> crate::Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|error| crate::Error::Report { source: error.into() })? + "\n")
    }
}

impl AuditVerdict {
    /// The result as a sentence.
    pub fn as_sentence(self) -> &'static str {
        match self {
            Self::NotSoaked => "only objects were examined; nothing was observed",
            Self::Quiet => "nothing tried to leave",
            Self::Unproven => {
                "nothing was seen that tried to leave, but not everything could be observed"
            }
            Self::Tried => "something tried to leave",
        }
    }
}
