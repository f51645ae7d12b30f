//! Things outside: OCI registries, Hugging Face, Ollama, Helm, plain HTTP, and what is already on
//! this machine. All of it ends in one form: roots in a store.
//!
//! [`fetch`] is the one engine that brings blobs in, whatever they come from; [`oci::Push`] is the
//! way out, into a registry.

mod error;
pub mod fetch;
pub mod oci;

pub use error::{Error, Result};
