//! Content to its targets: walks the roots of a source and puts all that they need into a sink,
//! many blobs at once, each byte moved once. Between the volumes (or a store) and the site.

pub mod claim;
mod error;
mod load;
pub mod models;
mod target;

pub use error::{Error, Result};
pub use load::{Cause, Failure, Fault, Landed, Options, Outcome, Report, load};
pub use target::Target;
