//! Releases in a cluster: [`prepare`] moves, wires and proves them for a site, [`release`] installs and
//! removes them with helm, [`render`] writes them as files for a GitOps repository, [`check`] tests the cluster before and after that, and [`inference`] asks
//! deployed model servers a first question. The command line calls each of them, and a controller can.

pub mod check;
mod error;
pub mod inference;
pub mod prepare;
mod readiness;
pub mod release;
pub mod render;

pub use error::{Error, Result};
