//! Writes items into a folder: each in [`OWN`] first, verified, and then under its name by one rename.
//! What a killed run left there is continued, and removed when all is done.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use store::Source;
use store::confined::ConfinedFolder;
use store::hash::{DigestHasher, sha256};
use store::progress::Progress;
use types::lock::Blob;

use super::error::{Error, Result, disk_error};
use super::plan::{ExtractItem, ExtractPlan, ItemContent, OWN};
use super::state::{ItemState, has_blob, has_bytes};
use crate::blob_file::{BlobFileWriter, PIECE};
use crate::blob_tar::{BlobTar, BlobTarPiece};

/// What happens to files that are there with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverwritePolicy {
    /// They are an error, and nothing at all is written.
    Refuse,
    /// They are replaced. Other files of a model's folder stay.
    Replace,
}

/// Writes the items of a plan, one after the other, into a folder, which is made where it does not exist.
/// Returns what was in the place of each. Blocks until all is on the disk.
///
/// # Errors
/// Before the first byte: files that may not be overwritten, no room on the disk.
pub fn write_items(
    source: &dyn Source,
    plan: &ExtractPlan,
    folder: &Path,
    overwrite: OverwritePolicy,
    progress: &dyn Progress,
) -> Result<Vec<ItemState>> {
    let confined = ConfinedFolder::new(folder);
    confined.create_folders("").map_err(disk_error(folder))?;
    // One process at a time. The folder itself is locked, so that no file of Gantry's stays in it.
    let lock = File::open(folder).map_err(disk_error(folder))?;
    lock.lock().map_err(disk_error(folder))?;
    progress.expect_bytes(plan.items.iter().map(ExtractItem::size).sum());
    let mut states = Vec::with_capacity(plan.items.len());
    let mut needed = 0;
    for item in &plan.items {
        let state = item.inspect(folder)?;
        match state {
            ItemState::Present => progress.skip_bytes(item.size()),
            ItemState::Absent | ItemState::Different => needed += item.size(),
        }
        states.push(state);
    }
    let different = plan.items.iter().zip(&states).filter(|(_, s)| **s == ItemState::Different);
    let different: Vec<PathBuf> = different.map(|(item, _)| folder.join(&item.path)).collect();
    if overwrite == OverwritePolicy::Refuse && !different.is_empty() {
        return Err(Error::Exists { paths: different });
    }
    store::space::ensure_free_space(folder, needed)?;
    confined.create_folders(OWN).map_err(disk_error(&folder.join(OWN)))?;
    let writer = ItemWriter { source, folder: &confined, progress };
    for (item, state) in plan.items.iter().zip(&states) {
        if *state != ItemState::Present {
            writer.write_item(item, *state)?;
        }
        progress.finish_item(&item.path.display().to_string());
    }
    confined.remove_folder(OWN).map_err(disk_error(&folder.join(OWN)))?;
    rustix::fs::syncfs(&lock).map_err(|errno| disk_error(folder)(errno.into()))?;
    Ok(states)
}

/// Writes items of a source into a folder.
struct ItemWriter<'a> {
    source: &'a dyn Source,
    folder: &'a ConfinedFolder,
    progress: &'a dyn Progress,
}

impl ItemWriter<'_> {
    fn write_item(&self, item: &ExtractItem, state: ItemState) -> Result<()> {
        match &item.content {
            ItemContent::File(blob) => self.write_blob(&item.path, *blob),
            ItemContent::Archive(tar) => self.write_archive(&item.path, tar),
            // Its files are replaced one by one where it is: others in it may be the user's.
            ItemContent::Folder { files, documents } if state == ItemState::Different => {
                self.write_files(&item.path, files, documents)
            }
            ItemContent::Folder { files, documents } => {
                let staged = Path::new(OWN).join(staged_name(&item.path));
                self.create_parent(&staged.join("x"))?;
                self.write_files(&staged, files, documents)?;
                self.rename(&staged, &item.path)
            }
        }
    }

    /// Writes the files of a folder; those that a killed run has finished are kept.
    fn write_files(
        &self,
        folder: &Path,
        files: &BTreeMap<PathBuf, Blob>,
        documents: &BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<()> {
        for (path, blob) in files {
            let path = folder.join(path);
            if has_blob(self.folder, &path, *blob)? {
                self.progress.skip_bytes(blob.size);
            } else {
                self.write_blob(&path, *blob)?;
            }
        }
        for (path, bytes) in documents {
            let path = folder.join(path);
            if !has_bytes(self.folder, &path, bytes)? {
                let part = Path::new(OWN).join("document");
                let mut file = self.create_part(&part)?;
                file.write_all(bytes).map_err(self.write_error(&part, bytes.len() as u64))?;
                self.rename(&part, &path)?;
            }
            self.progress.advance_bytes(bytes.len() as u64);
        }
        Ok(())
    }

    fn write_blob(&self, path: &Path, blob: Blob) -> Result<()> {
        let writer = BlobFileWriter {
            source: self.source,
            folder: self.folder,
            parts: Path::new(OWN),
            progress: self.progress,
        };
        Ok(writer.write_file(path, blob, &mut vec![0; PIECE])?)
    }

    /// Writes an archive. Each blob in it is hashed while it is written.
    fn write_archive(&self, path: &Path, tar: &BlobTar) -> Result<()> {
        let part = Path::new(OWN).join(staged_name(path));
        let mut file = self.create_part(&part)?;
        let mut left = tar.size();
        let mut buffer = vec![0; PIECE];
        for piece in tar.pieces() {
            match piece {
                BlobTarPiece::Bytes(bytes) => {
                    file.write_all(bytes).map_err(self.write_error(&part, left))?;
                    self.progress.advance_bytes(bytes.len() as u64);
                    left -= bytes.len() as u64;
                }
                BlobTarPiece::Blob(blob) => {
                    self.copy_blob(*blob, &mut file, &part, left, &mut buffer)?;
                    left -= blob.size;
                }
            }
        }
        self.rename(&part, path)
    }

    /// Copies a blob into an archive. `left` are the bytes that the archive still needs.
    fn copy_blob(
        &self,
        blob: Blob,
        file: &mut File,
        part: &Path,
        left: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        let mut reader = self.source.open_blob(&blob.digest, 0..blob.size)?;
        let mut hash = DigestHasher::for_digest(&blob.digest);
        loop {
            let read = reader
                .read(buffer)
                .map_err(|cause| store::Error::Read { what: blob.digest.to_string(), cause })?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            let written = store::disk::write_in_pieces(file, &buffer[..read]);
            written.map_err(self.write_error(part, left))?;
            self.progress.advance_bytes(read as u64);
        }
        match hash.finish() {
            actual if actual == blob.digest => Ok(()),
            actual => Err(store::Error::DigestMismatch { digest: blob.digest, actual }.into()),
        }
    }

    /// An empty file in Gantry's own folder; what a killed run left under its name goes.
    fn create_part(&self, part: &Path) -> Result<File> {
        let failed = || disk_error(&self.folder.path().join(part));
        match self.folder.remove_file(part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => {}
        }
        self.folder.create_new_file(part).map_err(failed())
    }

    fn create_parent(&self, path: &Path) -> Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        let failed = disk_error(&self.folder.path().join(parent));
        self.folder.create_folders(parent).map_err(failed)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.create_parent(to)?;
        self.folder.rename(from, to).map_err(disk_error(&self.folder.path().join(to)))
    }

    fn write_error(&self, part: &Path, left: u64) -> impl FnOnce(io::Error) -> Error + use<> {
        let (part, folder) = (self.folder.path().join(part), self.folder.path().to_owned());
        move |cause| store::space::write_error(&part, &folder, left, cause).into()
    }
}

/// The name of an unfinished item: the same in the next run.
fn staged_name(path: &Path) -> String {
    format!("item-{}", sha256(path.as_os_str().as_encoded_bytes()).short_hex())
}
