//! x
pub mod pickle;
