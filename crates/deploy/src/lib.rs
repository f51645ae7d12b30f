//! Releases in a cluster: [`release`] installs and removes them with helm, [`check`] tests the
//! cluster before and after that, and [`inference`] asks deployed model servers a first question.
//! The command line calls each of them.

pub mod check;
mod error;
pub mod inference;
pub mod release;

pub use error::{Error, Result};
