//! Things outside: OCI registries, Hugging Face, Ollama, Helm, plain HTTP, and what is already on
//! this machine. All of it ends in one form: roots in a store.
//!
//! [`fetch`] is the one engine that brings blobs in, whatever they come from; [`oci::Push`] is the
//! way out, into a registry.

pub mod artifact;
mod compression;
mod error;
pub mod fetch;
pub mod helm;
pub mod http;
pub mod hub;
pub mod local;
pub mod model;
mod near;
pub mod oci;
pub mod ollama;
pub mod own_image;
mod receive;
pub mod scratch;
mod tarball;

pub use error::{Error, Result};

/// OCI layer, zstd (image-spec 1.1, layer.md).
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
