//! An archive of images as a set of members that can be read in any order: indexed once, then each
//! member is read where it lies. A compressed archive, or one that comes through a socket, is
//! unpacked to a nameless temporary file on the store's disk first.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use store::Store;

use crate::compression::{self, Compression};
use crate::tarball::{self, Kind};
use crate::{Error, Result};

/// Links of links in old `docker save` archives are one deep; more than this is a circle.
const MAX_LINKS: usize = 16;
/// The index reads headers only, 512 bytes each, far apart: a large buffer would read the contents.
const INDEX_BUFFER: usize = 8 << 10;

/// An indexed archive.
pub(super) struct Archive {
    name: String,
    file: Arc<File>,
    members: HashMap<String, Entry>,
}

enum Entry {
    Content { offset: u64, size: u64 },
    Link(String),
}

impl Archive {
    /// Opens an archive file. `store` is where a compressed one is unpacked meanwhile.
    pub(super) fn open(path: &Path, store: &Store) -> Result<Self> {
        let name = path.display().to_string();
        let unreadable = |cause| Error::Read { what: path.display().to_string(), cause };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut first = [0; 8];
        let read = net::body::fill(&mut file, &mut first).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        if Compression::of(&first[..read]) == Compression::None {
            return Self::index(name, file);
        }
        let (_, plain) = compression::open(file).map_err(unreadable)?;
        Self::spool(name, plain, store)
    }

    /// Takes a whole archive from a stream.
    fn spool(name: String, mut stream: impl Read, store: &Store) -> Result<Self> {
        let folder = store.path();
        let unwritable = |cause| Error::Write { what: folder.display().to_string(), cause };
        let mut file = tempfile::tempfile_in(folder).map_err(unwritable)?;
        io::copy(&mut stream, &mut file).map_err(|cause| {
            if cause.kind() == io::ErrorKind::StorageFull {
                return unwritable(cause);
            }
            Error::Damaged { what: name.clone(), reason: format!("it cannot be read: {cause}") }
        })?;
        Self::from_file(name, file)
    }

    /// An archive in an open file that is no longer written to, and not compressed.
    pub(super) fn from_file(name: String, mut file: File) -> Result<Self> {
        file.rewind().map_err(|cause| Error::Read { what: name.clone(), cause })?;
        Self::index(name, file)
    }

    fn index(name: String, file: File) -> Result<Self> {
        let unreadable = |cause| Error::Read { what: name.clone(), cause };
        let length = file.metadata().map_err(unreadable)?.len();
        let mut members = HashMap::new();
        let reader = BufReader::with_capacity(INDEX_BUFFER, &file);
        tarball::index(&name, reader, |member| {
            let folder = member.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let entry = match member.kind {
                Kind::File => {
                    if member.offset.saturating_add(member.size) > length {
                        return Err(Error::Damaged {
                            what: name.clone(),
                            reason: format!(
                                "it is cut: {} should have {} bytes more than there are",
                                member.path,
                                member.offset.saturating_add(member.size) - length
                            ),
                        });
                    }
                    Entry::Content { offset: member.offset, size: member.size }
                }
                Kind::Symlink(target) => {
                    Entry::Link(tarball::normal(&format!("{folder}/{target}")))
                }
                Kind::Hardlink(target) => Entry::Link(target),
                Kind::Folder | Kind::Other => return Ok(()),
            };
            members.insert(member.path, entry);
            Ok(())
        })?;
        Ok(Self { name, file: Arc::new(file), members })
    }

    /// What errors call the archive.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the archive has such a file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// The content of a file and its length, or `None`.
    pub(super) fn content(&self, path: &str) -> Option<Content> {
        let (offset, size) = self.find(path)?;
        Some(Content { file: Arc::clone(&self.file), offset, end: offset + size })
    }

    /// A small document, or `None` when it is not there.
    pub(super) fn document(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut content) = self.content(path) else { return Ok(None) };
        let size = content.len();
        let what = format!("{path} of {}", self.name);
        if size > most {
            return Err(Error::TooLarge { what, size, most });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        content.read_to_end(&mut bytes).map_err(|cause| Error::Read { what, cause })?;
        Ok(Some(bytes))
    }

    fn find(&self, path: &str) -> Option<(u64, u64)> {
        let mut path = tarball::normal(path);
        for _ in 0..MAX_LINKS {
            match self.members.get(&path)? {
                Entry::Content { offset, size } => return Some((*offset, *size)),
                Entry::Link(target) => path.clone_from(target),
            }
        }
        None
    }
}

/// The bytes of a member, read where they lie.
#[derive(Clone)]
pub(super) struct Content {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl Content {
    /// Bytes that are still to come.
    pub(super) fn len(&self) -> u64 {
        self.end - self.offset
    }
}

impl Read for Content {
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
