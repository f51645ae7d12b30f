//! Everything that Gantry reads from or writes to outside of its own store: OCI registries, the
//! Hugging Face Hub, Ollama, Helm repositories, plain HTTP servers, and images and models that are
//! already on this machine. Whatever the source is, the result is the same: roots (named manifests)
//! and their blobs in a [`store::Store`].
//!
//! Two steps use this crate. `gantry lock` calls the modules of the sources ([`registry_location`], [`hub`],
//! [`ollama`], [`helm`], [`http`], [`local`]) to turn names into digests. `gantry fetch` then gives
//! all locked blobs to [`fetch_blobs`], the one download engine. [`registry_location::RegistrySink`] is the opposite
//! direction: `gantry load` pushes roots into a registry through it.

pub mod artifact;
mod compression;
pub mod doctor;
mod error;
pub mod fetch;
pub mod helm;
pub mod http;
pub mod hub;
pub mod kustomize;
mod linked_folder;
pub mod local;
mod lock_manifest;
pub mod model;
pub mod name_pattern;
pub mod oci;
pub mod ollama;
pub mod own_image;
mod paging;
mod receive;
mod render_remedy;
pub mod scratch;
pub mod similar_names;
pub mod site_receipt;
pub mod site_registry;
mod tarball;

pub use error::{Error, Result};

/// Media type of an OCI layer compressed with zstd (image-spec 1.1, layer.md).
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
