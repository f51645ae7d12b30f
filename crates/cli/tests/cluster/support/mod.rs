//! Shared by the tests on a cluster.

pub(crate) mod guard;
pub(crate) mod platform;
pub(crate) mod seeding;
pub(crate) mod shop;
