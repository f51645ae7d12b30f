//! Shared by the tests on a cluster.

pub(crate) mod guard;
pub(crate) mod platform;
pub(crate) mod seeding;
pub(crate) mod shop;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A cluster has one CoreDNS, which an audit changes: only one at a time.
static ONE_AUDIT: Mutex<()> = Mutex::new(());

/// Waits until no other test audits. The turn ends on drop.
pub(crate) fn take_audit_turn() -> MutexGuard<'static, ()> {
    ONE_AUDIT.lock().unwrap_or_else(PoisonError::into_inner)
}
