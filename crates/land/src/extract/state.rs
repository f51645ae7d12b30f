//! Compares items with what is in the folder already: content that is right is not written again.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;
use store::confined::{ConfinedFolder, is_refused_link};
use store::hash::DigestHasher;
use types::lock::Blob;

use super::error::{Error, Result, disk_error};
use super::plan::{ExtractItem, ItemContent};
use crate::blob_file::PIECE;
use crate::blob_tar::{BlobTar, BlobTarPiece};

/// What is in the place of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ItemState {
    /// Nothing.
    Absent,
    /// The item, with its content.
    Present,
    /// Something of another content.
    Different,
}

impl ExtractItem {
    /// Finds out what is in the place of the item. Files of its length are read and hashed; a folder may
    /// have other files besides. Blocks on the disk.
    ///
    /// # Errors
    /// A folder in the place of a file, a file in the place of a folder.
    pub fn inspect(&self, folder: &Path) -> Result<ItemState> {
        let confined = ConfinedFolder::new(folder);
        let metadata = match confined.read_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ItemState::Absent),
            Err(cause) => return Err(disk_error(&folder.join(&self.path))(cause)),
        };
        let in_the_way = |reason| Error::InTheWay { path: folder.join(&self.path), reason };
        let is_right = match &self.content {
            ItemContent::Folder { .. } if !metadata.is_dir() => {
                return Err(in_the_way("it is not a folder"));
            }
            ItemContent::File(_) | ItemContent::Archive(_) if !metadata.is_file() => {
                return Err(in_the_way("it is not a file"));
            }
            ItemContent::File(blob) => has_blob(&confined, &self.path, *blob)?,
            ItemContent::Archive(tar) => has_archive(&confined, &self.path, tar)?,
            ItemContent::Folder { files, documents } => {
                let mut is_right = true;
                for (path, blob) in files {
                    is_right = is_right && has_blob(&confined, &self.path.join(path), *blob)?;
                }
                for (path, bytes) in documents {
                    is_right = is_right && has_bytes(&confined, &self.path.join(path), bytes)?;
                }
                is_right
            }
        };
        Ok(if is_right { ItemState::Present } else { ItemState::Different })
    }
}

/// Whether a file has the content of a blob.
pub(super) fn has_blob(folder: &ConfinedFolder, path: &Path, blob: Blob) -> Result<bool> {
    let Some(mut file) = open_of_size(folder, path, blob.size)? else { return Ok(false) };
    let mut hash = DigestHasher::for_digest(&blob.digest);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(disk_error(&folder.path().join(path)))?;
        if read == 0 {
            return Ok(hash.finish() == blob.digest);
        }
        hash.update(&piece[..read]);
    }
}

/// Whether a small file has this content.
pub(super) fn has_bytes(folder: &ConfinedFolder, path: &Path, bytes: &[u8]) -> Result<bool> {
    let Some(file) = open_of_size(folder, path, bytes.len() as u64)? else { return Ok(false) };
    let mut own = Vec::with_capacity(bytes.len());
    let limit = bytes.len() as u64 + 1;
    file.take(limit).read_to_end(&mut own).map_err(disk_error(&folder.path().join(path)))?;
    Ok(own == bytes)
}

/// Whether a file is this archive: each piece is compared, those of blobs by their digest.
fn has_archive(folder: &ConfinedFolder, path: &Path, tar: &BlobTar) -> Result<bool> {
    let Some(mut file) = open_of_size(folder, path, tar.size())? else { return Ok(false) };
    let failed = || disk_error(&folder.path().join(path));
    let mut buffer = vec![0; PIECE];
    for piece in tar.pieces() {
        match piece {
            BlobTarPiece::Bytes(bytes) => {
                let mut own = vec![0; bytes.len()];
                file.read_exact(&mut own).map_err(failed())?;
                if own[..] != bytes[..] {
                    return Ok(false);
                }
            }
            BlobTarPiece::Blob(blob) => {
                let mut hash = DigestHasher::for_digest(&blob.digest);
                let mut left = blob.size;
                while left > 0 {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    file.read_exact(&mut buffer[..most]).map_err(failed())?;
                    hash.update(&buffer[..most]);
                    left -= most as u64;
                }
                if hash.finish() != blob.digest {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// Opens a file that has this length. A link is not followed, and so is no file.
fn open_of_size(folder: &ConfinedFolder, path: &Path, size: u64) -> Result<Option<File>> {
    let failed = || disk_error(&folder.path().join(path));
    let metadata = match folder.read_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_refused_link(&error) => {
            return Ok(None);
        }
        metadata => metadata.map_err(failed())?,
    };
    if !metadata.is_file() || metadata.len() != size {
        return Ok(None);
    }
    folder.open_file(path).map(Some).map_err(failed())
}
