//! Builds Gantry's own container image from its binary, without a container engine: one layer with
//! the binary and the few files that it needs, a config, a manifest, and an index where there are
//! binaries for several architectures. The same binaries give the same bytes. `gantry image` builds
//! it, and `tools: [gantry]` adds it to a lock; docs/reference/image.md describes how it runs.
//!
//! The binary must be static: with libraries of the machine that builds it, the image would differ
//! from machine to machine, depend on that machine's libc, and contain parts that no SBOM lists.

mod binary;
mod build;
mod layer;

pub use build::GantryBinaries;
