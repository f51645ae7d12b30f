//! What network policies do not restrict, or block although it may be needed.

use std::fmt;

use serde::Serialize;

/// Something that the policies do not restrict, or that they block although it may be needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct PolicyGap {
    /// What it is about: an object's kind and name, or a part of the site.
    pub subject: String,
    /// The kind of gap.
    pub why: PolicyGapKind,
    /// What is not covered, and why.
    pub reason: String,
    /// What the user can do about it.
    pub next: String,
}

/// The kinds of gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyGapKind {
    /// The site names a host; network policies know only addresses.
    Name,
    /// A pod in the network of its node, which network policies do not restrict.
    HostNetwork,
    /// A workload in another namespace.
    OtherNamespace,
    /// A network policy of the chart that allows more. Network policies only add permissions, so it
    /// weakens the others.
    LetsOutMore,
    /// A service of type ExternalName.
    ExternalName,
    /// A workload that may need the API server, which is blocked.
    ApiServer,
}

impl fmt::Display for PolicyGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.subject, self.reason, self.next)
    }
}
