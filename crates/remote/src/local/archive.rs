//! Random access to the members of an image archive: the tar is indexed once, then each member is
//! read directly at its offset, without unpacking. A compressed archive, or one that is received
//! from an engine's socket, is first written to an unnamed temporary file on the store's disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use store::Store;

use crate::compression::{self, Compression};
use crate::tarball::{self, TarMemberKind};
use crate::{Error, Result};

/// Limit for links to links. Old `docker save` archives link a layer to an equal one, once; a
/// longer chain is a loop.
const MAX_LINKS: usize = 16;
/// The index reads headers only, 512 bytes each, far apart: a large buffer would read the contents.
const INDEX_BUFFER: usize = 8 << 10;

/// An archive whose members are indexed.
pub(super) struct ImageArchive {
    name: String,
    file: Arc<File>,
    members: HashMap<String, ImageArchiveEntry>,
}

enum ImageArchiveEntry {
    Content { offset: u64, size: u64 },
    Link(String),
}

impl ImageArchive {
    /// Opens an archive file. A compressed one is unpacked to a temporary file in the store's
    /// folder, which has the room for its layers.
    pub(super) fn open(path: &Path, store: &Store) -> Result<Self> {
        let name = path.display().to_string();
        let unreadable = |cause| Error::Read { what: path.display().to_string(), cause };
        let mut file = File::open(path).map_err(|cause| Error::unreadable_path(path, cause))?;
        let mut first = [0; 8];
        let read = net::body::fill_buffer(&mut file, &mut first).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        if Compression::detect(&first[..read]) == Compression::None {
            return Self::index_file(name, file);
        }
        let (_, plain) = compression::decompress(file).map_err(unreadable)?;
        Self::unpack_stream(name, plain, store)
    }

    /// Writes the plain archive from a stream to a temporary file, and indexes that.
    fn unpack_stream(name: String, mut stream: impl Read, store: &Store) -> Result<Self> {
        let folder = store.path();
        let unwritable = |cause| Error::Write { what: folder.display().to_string(), cause };
        // Without a name: the system removes it when it is closed, also after a crash.
        let mut file = tempfile::tempfile_in(folder).map_err(unwritable)?;
        io::copy(&mut stream, &mut file).map_err(|cause| {
            // Reading and writing fail in the same call; only this kind is certainly the disk's.
            if cause.kind() == io::ErrorKind::StorageFull {
                return unwritable(cause);
            }
            Error::Damaged {
                what: name.clone(),
                reason: types::Cause::about("it cannot be read", cause),
            }
        })?;
        Self::from_file(name, file)
    }

    /// Indexes an uncompressed archive in an open file, which must not change any more. `name` is
    /// its name in errors.
    pub(super) fn from_file(name: String, mut file: File) -> Result<Self> {
        file.rewind().map_err(|cause| Error::Read { what: name.clone(), cause })?;
        Self::index_file(name, file)
    }

    fn index_file(name: String, file: File) -> Result<Self> {
        let unreadable = |cause| Error::Read { what: name.clone(), cause };
        let length = file.metadata().map_err(unreadable)?.len();
        let mut members = HashMap::new();
        let reader = BufReader::with_capacity(INDEX_BUFFER, &file);
        tarball::index_tar(&name, reader, |member| {
            let folder = member.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let entry = match member.kind {
                TarMemberKind::File => {
                    // The index reads no contents, so a truncated archive is not noticed by the
                    // walk.
                    if member.offset.saturating_add(member.size) > length {
                        return Err(Error::Damaged {
                            what: name.clone(),
                            reason: format!(
                                "it is truncated: {} bytes are missing at the end of {}",
                                member.offset.saturating_add(member.size) - length,
                                member.path
                            )
                            .into(),
                        });
                    }
                    ImageArchiveEntry::Content { offset: member.offset, size: member.size }
                }
                // A symbolic link is relative to its folder, a hard link to the root of the
                // archive.
                TarMemberKind::Symlink(target) => {
                    ImageArchiveEntry::Link(tarball::normalize_path(&format!("{folder}/{target}")))
                }
                TarMemberKind::Hardlink(target) => ImageArchiveEntry::Link(target),
                TarMemberKind::Folder | TarMemberKind::Other => return Ok(()),
            };
            // Of members with the same path the last one counts, as when a tar is extracted.
            members.insert(member.path, entry);
            Ok(())
        })?;
        Ok(Self { name, file: Arc::new(file), members })
    }

    /// The archive's name in errors.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the archive has a file at this path.
    pub(super) fn has_file(&self, path: &str) -> bool {
        self.find_file(path).is_some()
    }

    /// A reader of a file's content; `None` when there is no such file.
    pub(super) fn file_content(&self, path: &str) -> Option<ArchiveFileReader> {
        let (offset, size) = self.find_file(path)?;
        Some(ArchiveFileReader { file: Arc::clone(&self.file), offset, end: offset + size })
    }

    /// Reads a document of at most `most` bytes into memory; `None` when there is no such file.
    pub(super) fn read_document(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut content) = self.file_content(path) else { return Ok(None) };
        let size = content.len();
        let what = format!("{path} of {}", self.name);
        if size > most {
            return Err(Error::TooLarge { what, size, most });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        content.read_to_end(&mut bytes).map_err(|cause| Error::Read { what, cause })?;
        Ok(Some(bytes))
    }

    /// Offset and length of a file's content; links are followed.
    fn find_file(&self, path: &str) -> Option<(u64, u64)> {
        let mut path = tarball::normalize_path(path);
        for _ in 0..MAX_LINKS {
            match self.members.get(&path)? {
                ImageArchiveEntry::Content { offset, size } => return Some((*offset, *size)),
                ImageArchiveEntry::Link(target) => path.clone_from(target),
            }
        }
        None
    }
}

/// A reader of a member's content. Clones read independently: each has its own position.
#[derive(Clone)]
pub(super) struct ArchiveFileReader {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl ArchiveFileReader {
    /// Bytes that are left to read.
    pub(super) fn len(&self) -> u64 {
        self.end - self.offset
    }
}

impl Read for ArchiveFileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.len()).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.offset)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += read as u64;
        Ok(read)
    }
}
