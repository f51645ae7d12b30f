//! OCI registries (distribution-spec 1.1): looking up images when a lock is made, and pushing roots
//! when content is loaded.

mod attached;
mod document;
mod index_tree;
mod inspect;
mod push;
mod push_access;
mod push_digest;
mod push_state;
mod registry;
mod upload;
mod upload_failure;
mod upload_session_folder;
mod upload_state;

pub use document::download_document;
pub use index_tree::PlatformRequirement;
pub use inspect::{ImageQuery, inspect_image};
pub use push::{RegistrySink, SparsePolicy};
pub use push_state::{LeftOutManifest, RewrittenIndex};
pub use registry::{FetchedManifest, RegistryClient};
pub use upload_state::RestartedUpload;
