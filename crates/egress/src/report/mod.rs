//! The report of an audit: what would leave and what tried to, each with the workload and the setting
//! that stops it, and how it was observed. It is one value, which is written as JSON, as Markdown and as
//! one HTML page.

mod audit_report;
mod judge;
mod page;
mod write;

pub use audit_report::{
    AttemptMethod, AuditReport, AuditVerdict, EgressAttempt, FixConfidence, SuggestedFix,
};
pub use judge::{AuditCase, build_report};
