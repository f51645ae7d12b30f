//! What answers the API server. [`webhook`] moves the images that no overlay reached to the site
//! when their pods are made, and refuses what was never locked.

mod error;

pub mod webhook;

pub use error::{Error, Result};
