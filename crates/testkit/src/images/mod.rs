//! Real images without a container engine: Debian packages as layers, written as OCI layouts, kept
//! below the cache folder, and placed into registries.
//!
//! ```text
//!  recipe ──debian──▶ .deb files ──layer──▶ blobs ──build──▶ layouts ──storage──▶ a registry's disk
//! ```

pub(crate) mod blobs;
mod build;
mod cluster;
mod companions;
mod compiled;
mod debian;
mod image_set;
mod layer;
pub(crate) mod python;
mod recipes;
mod sets;
mod storage;

pub use image_set::{TestImage, TestImages, TestManifest};
