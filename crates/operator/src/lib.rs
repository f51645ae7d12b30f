//! The parts of Gantry that run inside the cluster and answer the API server. [`webhook_entry`] changes
//! the images of new pods to their names at the site, where no overlay did so, and denies pods with
//! images that were never locked.

mod error;

pub mod webhook;

pub use error::{Error, Result};
