//! OCI registries (distribution-spec 1.1): looking up images when a lock is made, and pushing roots
//! when content is loaded.

mod attached;
mod inspect;
mod push;
mod registry;
mod upload;

pub use inspect::{PlatformRequirement, inspect_image};
pub use push::{RegistrySink, RewrittenIndex, SparsePolicy};
pub use registry::{FetchedManifest, RegistryClient};
