//! Releases in a cluster: [`release`] installs and removes them with helm, [`check`] tests the
//! cluster before and after that, [`inference`] asks deployed model servers a first question, and
//! [`evidence`] collects what an auditor wants to see. The command line calls each of them.

pub mod check;
mod error;
pub mod evidence;
pub mod inference;
pub mod release;

pub use error::{Error, Result};
