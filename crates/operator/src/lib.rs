//! The parts of Gantry that run inside the cluster. [`webhook`] changes the images of new pods to their
//! names at the site, where no overlay did so, and denies pods with images that were never locked.
//! [`namespaces`] keeps the pull secret, the CA and the policies of the site in its namespaces.

mod error;

pub mod namespaces;
pub mod webhook;

pub use error::{Error, Result};
