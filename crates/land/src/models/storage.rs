//! What a folder and a bucket of models have in common: files can be looked at, hashed and, where they
//! are small (records), read and written. Records and the verification of models stand on this trait.
//! Writing the models themselves is not shared: a folder renames, a bucket completes uploads.

use std::path::{Path, PathBuf};

use types::{Digest, DigestAlgorithm};

use super::Result;

/// The longest small file that is read. The record of a model with 50,000 files has half of this.
pub(super) const LONGEST: u64 = 16 << 20;

/// A folder or a bucket that models are stored in. All methods block; all paths are relative to it.
pub trait ModelStorage {
    /// The full path or URL of a file in it, for messages.
    fn display_path(&self, path: &Path) -> PathBuf;

    /// The length and time of a file; `None` where there is no such file.
    fn file_stat(&self, path: &Path) -> Result<Option<FileStat>>;

    /// Reads a file and returns its digest of that algorithm; `advance` gets the number of bytes as they
    /// are read.
    fn digest_file(
        &self,
        path: &Path,
        algorithm: DigestAlgorithm,
        advance: &mut dyn FnMut(u64),
    ) -> Result<Digest>;

    /// The target of a symbolic link as it is written; `None` where there is no link.
    fn link_target(&self, path: &Path) -> Result<Option<PathBuf>>;

    /// The content of a small file; `None` where there is no such file.
    fn read_file(&self, path: &Path) -> Result<Option<Vec<u8>>>;

    /// The files directly in a folder; empty where there is no such folder.
    fn list_files(&self, folder: &Path) -> Result<Vec<PathBuf>>;

    /// Writes a small file. Readers see the old content or the new, never a part of it.
    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()>;

    /// Removes a file that Gantry made.
    fn remove_file(&self, path: &Path) -> Result<()>;
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified: u64,
}
