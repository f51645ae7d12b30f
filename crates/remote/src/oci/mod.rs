//! OCI registries (distribution-spec 1.1): looking up images when a lock is made, and pushing roots
//! when content is loaded.

mod attached;
mod inspect;
mod push;
mod registry;
mod upload;

pub use inspect::{Want, inspect};
pub use push::{Push, Rewritten, SparsePolicy};
pub use registry::{Fetched, Registry};
