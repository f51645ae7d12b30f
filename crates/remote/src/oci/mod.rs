//! OCI registries (distribution-spec 1.1): looking images up, and pushing roots.

mod attached;
mod inspect;
mod push;
mod registry;
mod upload;

pub use inspect::{Want, inspect};
pub use push::{Push, Rewritten, SparsePolicy};
pub use registry::{Fetched, Registry};
