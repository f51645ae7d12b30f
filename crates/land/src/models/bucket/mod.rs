//! Writes models into a bucket of an object store, in the same layouts as folders.
//!
//! ```text
//!  plan ─▶ inspect (what is right stays) ─▶ stage ───────────────▶ commit ──▶ pointers ─▶ record
//!                                           parts of all files,    all files   refs/main,
//!                                           visible to nobody      at once     manifests
//! ```
//!
//! A bucket has no rename, and some readers take a model for complete as soon as one of its objects is
//! there (SIE lists `snapshots/`). But a bucket has multipart uploads, which nobody sees before they
//! are completed. So the parts of *all* files of a model are uploaded and checked, and then all uploads
//! are completed at once: the time in which a reader may see some files and not yet others is that of
//! one small request for each file, not that of the bytes. What points to a model (a branch, a
//! manifest) is written after that.
//!
//! The uploads and their parts are noted in `.gantry/uploads/` of the bucket ([`journal`]), so that
//! a killed push can be resumed in the midst of a file, from any machine.

mod connect;
mod explain;
mod inspect;
mod journal;
mod model_bucket;
mod part_size;
mod push;
mod stage;
#[cfg(test)]
mod test_bucket;

pub use connect::{BucketAccess, PlainHttpPolicy};
pub use model_bucket::ModelBucket;
pub use push::{find_missing_bytes, push_models};
