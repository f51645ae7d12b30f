//! The data types that all other crates share: image references, digests, platforms, descriptors,
//! the input (`gantry.yaml`), the lock (`gantry.lock`), `site.yaml` and the receipt.
//!
//! This is the lowest layer. Everything here is parsed from text or printed to text; nothing reads
//! a disk or a network, and nothing is async. Constructors check what they are given, so a value of
//! one of these types is always valid ("parse, don't validate").

pub mod annotation;
pub mod carried_file;
mod cause;
mod client_certificate;
pub mod config;
pub mod content_diff;
pub mod descriptor;
pub mod destination;
mod digest;
#[cfg(test)]
mod documented_examples;
mod duration;
mod error;
pub mod foreign_text;
mod hub;
mod image_pin;

pub mod input;
pub mod json;
pub mod lock;
pub mod media_type;
pub mod naming;
pub mod node_folder;
pub mod object_scope;
pub mod own_image;
pub mod pod_kinds;

mod platform;
pub mod receipt;
mod reference;
pub mod rewritten_index;
mod secret_url;
pub mod site;
pub mod site_content;
pub mod site_namespaces;
mod size;
pub mod snapshot;
mod text;
pub mod yaml;

pub use cause::{Cause, causes_of, error_chain, error_chain_without};
pub use client_certificate::ClientCertificate;
pub use descriptor::{Descriptor, Index, Manifest, Root, RootKind};
pub use digest::{Digest, DigestAlgorithm};
pub use duration::GoDuration;
pub use error::{Error, Result};
pub use hub::{CommitId, GitId, ModelId};
pub use image_pin::ImagePin;
pub use platform::Platform;
pub use reference::Reference;
pub use secret_url::{SecretUrl, redact_urls};
pub use size::ByteSize;
