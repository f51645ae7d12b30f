//! What a pack did.

use std::path::PathBuf;

use crate::BundleId;

/// How finished files of an earlier run are checked before they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recheck {
    /// By their end records and indexes: takes a second at any size. Finds everything except damage
    /// that happened after the file was written.
    Index,
    /// By every byte.
    Everything,
}

/// What a pack wrote or kept.
#[derive(Debug, Clone)]
pub struct PackReport {
    /// The bundle's id.
    pub bundle: BundleId,
    /// The bundle files by number; empty for a stream.
    pub files: Vec<PackedBundleFile>,
    /// The path of the manifest next to them; `None` for a stream.
    pub manifest: Option<PathBuf>,
}

/// A bundle file on the disk.
#[derive(Debug, Clone)]
pub struct PackedBundleFile {
    /// Its path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Whether it was written or kept.
    pub action: PackAction,
}

/// What was done for a bundle file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackAction {
    /// It is complete from an earlier run, and was left as it is.
    Kept,
    /// It was written.
    Written,
}
