//! Releases in a cluster: install them, check them, gather the evidence.

pub mod check;
mod error;
pub mod evidence;
pub mod inference;
pub mod release;

pub use error::{Error, Result};
