//! The cluster's DNS service: finds CoreDNS and its Corefile, changes that for the time of an audit,
//! and restores it. What is changed is recorded in the cluster first (`AuditLock`), so that any
//! later run can restore it after a crash.

mod find;
mod record;
mod switch;

pub use find::{CoreDns, find};
pub(crate) use record::{Lock, NAME as RECORD_NAME};
pub(crate) use switch::{put_back, switch};
