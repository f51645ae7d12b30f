//! Bytes on their way into the store: hashed while they are written to a partial, which becomes
//! the blob by a rename once it is whole and its digest is right.
//!
//! The partial of a known digest is `gantry/partial/<hex>`. It outlives its writer, so the next
//! run goes on where this one was cut, by whatever means.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use types::Digest;

use crate::hash::Sha256;
use crate::lock::Session;
use crate::{Error, Result, Store, disk, space};

/// Small chunks are gathered up to this length before they are written: system calls cost little
/// at this size, and a killed process loses no more than this of each blob.
const BUFFER: usize = 256 << 10;
/// Chunks from this length on are written as they are: copying them into the buffer costs more than
/// the system call that it saves.
const DIRECT: usize = 32 << 10;
/// The buffer with which a partial is read again.
const READ_BUFFER: usize = 1 << 20;

/// What came of asking for a [`Writer`].
#[derive(Debug)]
pub enum Begin {
    /// The blob is here; nothing is to be written.
    Present,
    /// The bytes from [`Writer::offset`] on are to be written.
    Writer(Writer),
}

/// Takes the bytes of one blob. Dropping it keeps what was written for the next one.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    digest: Digest,
    size: u64,
    partial: PathBuf,
    file: File,
    hash: Sha256,
    /// Bytes taken in, of which the last `buffer.len()` are not yet in the file.
    offset: u64,
    buffer: Vec<u8>,
    /// After a failed write nobody knows what the file holds; the next writer reads it again.
    failed: bool,
    _session: Session,
}

/// Whether to wait for another writer of the same blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

impl Store {
    /// Begins to write a blob of `size` bytes. While another thread or process writes the same
    /// blob, this waits, mostly to find it [`Begin::Present`] then. A thread that holds a writer
    /// of the blob already would wait for ever.
    pub fn writer(&self, digest: &Digest, size: u64) -> Result<Begin> {
        loop {
            if let Some(begin) = self.begin(digest, size, Wait::Yes)? {
                return Ok(begin);
            }
        }
    }

    /// As [`Store::writer`], but `None` while another thread or process writes the same blob.
    pub fn try_writer(&self, digest: &Digest, size: u64) -> Result<Option<Begin>> {
        self.begin(digest, size, Wait::No)
    }

    fn begin(&self, digest: &Digest, size: u64, wait: Wait) -> Result<Option<Begin>> {
        let session = self.session()?;
        if self.holds_blob(digest, size)? {
            return Ok(Some(Begin::Present));
        }
        self.make_folders()?;
        let partial = self.partial_path(digest);
        let failed = |cause| space::write_error(&partial, self.path(), size, cause);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&partial)
            .map_err(failed)?;
        match (file.try_lock(), wait) {
            (Ok(()), _) => {}
            (Err(TryLockError::WouldBlock), Wait::Yes) => file.lock().map_err(failed)?,
            (Err(TryLockError::WouldBlock), Wait::No) => return Ok(None),
            (Err(TryLockError::Error(cause)), _) => return Err(failed(cause)),
        }
        // The one who had the lock may have renamed or removed the file in the meantime: then this
        // is the blob itself, or a file without a name, and must not be written to.
        if !is_same_file(&file, &partial).map_err(failed)? {
            return Ok(if wait == Wait::Yes { None } else { self.begin(digest, size, wait)? });
        }
        if self.holds_blob(digest, size)? {
            std::fs::remove_file(&partial).map_err(failed)?;
            return Ok(Some(Begin::Present));
        }
        let mut writer = Writer {
            store: self.clone(),
            digest: *digest,
            size,
            partial: partial.clone(),
            file,
            hash: Sha256::new(),
            offset: 0,
            buffer: Vec::new(),
            failed: false,
            _session: session,
        };
        writer.resume()?;
        space::need(self.path(), size - writer.offset)?;
        Ok(Some(Begin::Writer(writer)))
    }
}

impl Writer {
    /// The blob that is written.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The blob's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are there; the next one to be written has this offset.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes. More than the blob's length are refused, none of them is taken then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let after = self.offset.saturating_add(bytes.len() as u64);
        if after > self.size {
            let (digest, expected) = (self.digest, self.size);
            return Err(Error::SizeMismatch { digest, expected, actual: after });
        }
        self.check_usable()?;
        self.hash.update(bytes);
        if bytes.len() >= DIRECT || self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= DIRECT {
            self.write_through(bytes)?;
        } else {
            if self.buffer.capacity() == 0 {
                let rest = usize::try_from(self.size - self.offset).unwrap_or(BUFFER);
                self.buffer.reserve_exact(rest.min(BUFFER));
            }
            self.buffer.extend_from_slice(bytes);
        }
        self.offset = after;
        Ok(())
    }

    /// Throws away what is there and begins at offset 0 (the server has other content now, or no
    /// ranges).
    pub fn restart(&mut self) -> Result<()> {
        self.buffer.clear();
        self.hash = Sha256::new();
        self.offset = 0;
        self.failed = false;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|cause| self.write_error(cause))?;
        Ok(())
    }

    /// Makes the blob visible, in one step, if it is whole and right. When bytes are missing the
    /// partial stays; when its digest is wrong it is removed.
    pub fn commit(mut self) -> Result<()> {
        self.check_usable()?;
        self.flush()?;
        let (digest, size) = (self.digest, self.size);
        if self.offset != size {
            return Err(Error::SizeMismatch { digest, expected: size, actual: self.offset });
        }
        let actual = std::mem::take(&mut self.hash).finish();
        if actual != digest {
            // Under this writer's lock, so that nobody else's partial is taken away.
            std::fs::remove_file(&self.partial).map_err(|cause| self.write_error(cause))?;
            self.failed = true;
            return Err(Error::DigestMismatch { digest, actual });
        }
        std::fs::rename(&self.partial, self.store.blob_path(&digest))
            .map_err(|cause| self.write_error(cause))
    }

    /// Hashes what an earlier writer left.
    fn resume(&mut self) -> Result<()> {
        let failed = |cause| Error::Read { what: self.partial.display().to_string(), cause };
        let there = self.file.metadata().map_err(failed)?.len();
        if there > self.size {
            return self.restart();
        }
        let mut buffer = vec![0; READ_BUFFER.min(there as usize)];
        while self.offset < there {
            let read = match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(failed(cause)),
            };
            self.hash.update(&buffer[..read]);
            self.offset += read as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.write_through(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    fn write_through(&mut self, bytes: &[u8]) -> Result<()> {
        disk::write_all(&mut self.file, bytes).map_err(|cause| {
            self.failed = true;
            self.write_error(cause)
        })
    }

    fn check_usable(&self) -> Result<()> {
        if self.failed {
            return Err(self.write_error(io::Error::other("an earlier write failed")));
        }
        Ok(())
    }

    fn write_error(&self, cause: io::Error) -> Error {
        space::write_error(&self.partial, self.store.path(), self.size - self.offset, cause)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.failed && !self.buffer.is_empty() {
            // What cannot be written now is fetched again; a drop has nobody to tell.
            let _ = self.flush();
        }
    }
}

/// Whether the path still names the open file.
fn is_same_file(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let open = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok(open.dev() == named.dev() && open.ino() == named.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
