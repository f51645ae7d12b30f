//! Writes blobs of a source as files of a folder: into a part first, resumed where a killed run left one,
//! hashed on the way, and under their own name when the digest is right.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use store::confined::ConfinedFolder;
use store::hash::{DigestHasher, sha256};
use store::progress::Progress;
use store::{Error, Result, Source};
use types::lock::Blob;

/// Bytes that are read, hashed and written at a time.
pub(crate) const PIECE: usize = 1 << 20;

/// Writes blobs of a source into a folder that others may write: no link in it is followed.
pub(crate) struct BlobFileWriter<'a> {
    /// Where the bytes come from.
    pub(crate) source: &'a dyn Source,
    /// The folder.
    pub(crate) folder: &'a ConfinedFolder,
    /// Where unfinished files are, relative to the folder and on the same file system.
    pub(crate) parts: &'a Path,
    /// Gets the bytes as they are written.
    pub(crate) progress: &'a dyn Progress,
}

impl BlobFileWriter<'_> {
    /// Writes one file, under a path relative to the folder. A part that a killed run left is read and
    /// hashed from its start, so that the digest is always that of what is on the disk.
    pub(crate) fn write_file(&self, path: &Path, content: Blob, piece: &mut [u8]) -> Result<()> {
        let part = self.part_path(path, content);
        let mut hash = DigestHasher::for_digest(&content.digest);
        let mut file = self.folder.open_writable_file(&part).map_err(self.write_error(&part))?;
        let mut there = file.metadata().map_err(self.write_error(&part))?.len();
        // Longer than the file can be: not ours, or damaged.
        if there > content.size {
            file.set_len(0).map_err(self.write_error(&part))?;
            there = 0;
        }
        hash_existing_part(&mut file, there, &mut hash, piece).map_err(self.write_error(&part))?;
        self.progress.skip_bytes(there);
        let mut reader = self.source.open_blob(&content.digest, there..content.size)?;
        loop {
            let read = reader
                .read(piece)
                .map_err(|cause| Error::Read { what: content.digest.to_string(), cause })?;
            if read == 0 {
                break;
            }
            hash.update(&piece[..read]);
            let left = content.size - there;
            store::disk::write_in_pieces(&mut file, &piece[..read]).map_err(|cause| {
                let (part, folder) = (self.folder.path().join(&part), self.folder.path());
                store::space::write_error(&part, folder, left, cause)
            })?;
            there += read as u64;
            self.progress.advance_bytes(read as u64);
        }
        let actual = hash.finish();
        if actual != content.digest {
            // Nothing to resume from: the next run has to begin from the start.
            self.folder.remove_file(&part).map_err(self.write_error(&part))?;
            return Err(Error::DigestMismatch { digest: content.digest, actual });
        }
        if let Some(parent) = path.parent() {
            self.folder.create_folders(parent).map_err(self.write_error(parent))?;
        }
        self.folder.rename(&part, path).map_err(self.write_error(path))
    }

    /// The path is in the part's name, too: two files may have the same content and be written at the
    /// same time.
    fn part_path(&self, path: &Path, content: Blob) -> PathBuf {
        let name = sha256(path.as_os_str().as_encoded_bytes()).short_hex();
        self.parts.join(format!("{}-{name}", content.digest.hex()))
    }

    /// A closure that names the path in an IO error.
    fn write_error(&self, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let what = self.folder.path().join(path).display().to_string();
        move |cause| Error::Write { what, cause }
    }
}

/// Hashes the `left` bytes that a part has already.
fn hash_existing_part(
    file: &mut File,
    mut left: u64,
    hash: &mut DigestHasher,
    piece: &mut [u8],
) -> io::Result<()> {
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let read = file.read(&mut piece[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&piece[..read]);
        left -= read as u64;
    }
    Ok(())
}
