//! The cluster's DNS service: finds CoreDNS and its Corefile, changes that for the time of an audit,
//! and restores it. What is changed is recorded in the cluster first (`AuditLock`), so that any
//! later run can restore it after a crash.

mod audit_lock;
mod find;
mod switch;

pub(crate) use audit_lock::{AuditLock, NAME as RECORD_NAME};
pub use find::{CoreDns, find_coredns};
pub(crate) use switch::{restore_corefile, switch_corefile};
