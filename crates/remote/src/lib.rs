//! Things outside: OCI registries, Hugging Face, Ollama, Helm, plain HTTP, and local sources

pub mod artifact;
mod compression;
mod error;
pub mod helm;
pub mod hub;
pub mod local;
pub mod model;
mod near;
pub mod ollama;
mod tarball;

pub use error::{Error, Result};

/// OCI layer, zstd (image-spec 1.1, layer.md).
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
