//! What a folder and a bucket have in common: small files are kept in them (records), and what was
//! put can be looked at and proven. How models are put differs too much to be shared: a folder
//! renames, a bucket completes uploads.

use std::path::{Path, PathBuf};

use types::Digest;

use super::Result;

/// Longest small file that is read: a record of a model with 50,000 files has half of this.
pub(super) const LONGEST: u64 = 16 << 20;

/// A place that models were put into. Everything blocks; all paths are relative to the place.
pub trait Place {
    /// What people call a file in it.
    fn shown(&self, path: &Path) -> PathBuf;

    /// Length and time of a file, or `None` where there is none.
    fn stat(&self, path: &Path) -> Result<Option<Stat>>;

    /// Reads a file and gives the digest of what came; `advance` gets the bytes as they come.
    fn digest(&self, path: &Path, advance: &mut dyn FnMut(u64)) -> Result<Digest>;

    /// What a symbolic link says, or `None` where there is none.
    fn link(&self, path: &Path) -> Result<Option<PathBuf>>;

    /// A small file's content, or `None` where there is none.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>>;

    /// The files directly in a folder, none where there is no such folder.
    fn names(&self, folder: &Path) -> Result<Vec<PathBuf>>;

    /// Writes a small file whole or not at all.
    fn put(&self, path: &Path, bytes: &[u8]) -> Result<()>;

    /// Removes a file that Gantry made.
    fn remove(&self, path: &Path) -> Result<()>;
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified: u64,
}
