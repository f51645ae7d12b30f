//! Writing a blob of a known digest: the bytes are hashed while they are written to a partial file,
//! which becomes the blob by a rename once it is complete and its digest is right.
//!
//! The partial is `gantry/partial/<hex>`. It outlives its writer, so the next run resumes where this
//! one was interrupted, by whatever means.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use types::Digest;

use crate::folder::{blob_file, partial_file};
use crate::hash::DigestHasher;
use crate::lock::StoreSession;
use crate::{Error, Result, Store, disk, space};

/// Small chunks are gathered up to this length before they are written: system calls cost little
/// at this size, and a killed process loses no more than this of each blob.
const BUFFER: usize = 256 << 10;
/// Chunks from this length on are written as they are: copying them into the buffer costs more than
/// the system call that it saves.
const DIRECT: usize = 32 << 10;
/// The buffer with which a partial is read again.
const READ_BUFFER: usize = 1 << 20;

/// The result of [`Store::open_writer`].
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for a blob, and taken apart at once")]
pub enum WriteStart {
    /// The store has the blob; nothing is to be written.
    Present,
    /// The bytes from [`Writer::offset`] on have to be written.
    Writer(Writer),
}

/// Writes the bytes of one blob. Dropping it before [`Writer::commit`] keeps what was written, for the
/// next writer to resume.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    digest: Digest,
    size: u64,
    /// The partial's path below the store's folder.
    partial: PathBuf,
    file: File,
    hash: DigestHasher,
    /// Bytes received, of which the last `buffer.len()` are not in the file yet.
    offset: u64,
    buffer: Vec<u8>,
    /// Set after a failed write: it is not known then what the file holds, so this writer refuses more
    /// and the next one reads the file again.
    failed: bool,
    _session: StoreSession,
}

/// Whether to wait for another writer of the same blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriterWait {
    Yes,
    No,
}

impl Store {
    /// Opens a writer for a blob of `size` bytes. While another thread or process writes the same blob,
    /// this waits, and mostly returns [`WriteStart::Present`] then. A thread that has a writer of the
    /// same blob itself would wait for ever.
    pub fn open_writer(&self, digest: &Digest, size: u64) -> Result<WriteStart> {
        loop {
            if let Some(begin) = self.start_writing(digest, size, WriterWait::Yes)? {
                return Ok(begin);
            }
        }
    }

    /// As [`Store::open_writer`], but returns `None` while another thread or process writes the same
    /// blob.
    pub fn try_open_writer(&self, digest: &Digest, size: u64) -> Result<Option<WriteStart>> {
        self.start_writing(digest, size, WriterWait::No)
    }

    fn start_writing(
        &self,
        digest: &Digest,
        size: u64,
        wait: WriterWait,
    ) -> Result<Option<WriteStart>> {
        // From here on, before anything is written: garbage collection must not see a partial as stale.
        let session = self.keep_session()?;
        if self.holds_fresh_blob(digest, size)? {
            return Ok(Some(WriteStart::Present));
        }
        self.make_folders()?;
        self.make_blob_folder(digest.algorithm())?;
        let partial = partial_file(digest);
        let failed =
            |cause| space::write_error(&self.path().join(&partial), self.path(), size, cause);
        let file = self.folder().open_writable_file(&partial).map_err(failed)?;
        match (file.try_lock(), wait) {
            (Ok(()), _) => {}
            (Err(TryLockError::WouldBlock), WriterWait::Yes) => file.lock().map_err(failed)?,
            (Err(TryLockError::WouldBlock), WriterWait::No) => return Ok(None),
            (Err(TryLockError::Error(cause)), _) => return Err(failed(cause)),
        }
        // Whoever had the lock may have renamed or removed the file in the meantime. Then the open file
        // is the blob itself, or has no name any more, and must not be written to.
        if !self.is_named(&file, &partial).map_err(failed)? {
            return Ok(if wait == WriterWait::Yes {
                None
            } else {
                self.start_writing(digest, size, wait)?
            });
        }
        // Again, now under the lock: the other writer may have committed just before.
        if self.holds_blob(digest, size)? {
            self.folder().remove_file(&partial).map_err(failed)?;
            return Ok(Some(WriteStart::Present));
        }
        let mut writer = Writer {
            store: self.clone(),
            digest: *digest,
            size,
            partial: partial.clone(),
            file,
            hash: DigestHasher::for_digest(digest),
            offset: 0,
            buffer: Vec::new(),
            failed: false,
            _session: session,
        };
        writer.resume_partial()?;
        // Fails before the download begins rather than after hours of it.
        space::ensure_free_space(self.path(), size - writer.offset)?;
        Ok(Some(WriteStart::Writer(writer)))
    }

    /// Whether the path below the store's folder still names the open file, by device and inode.
    fn is_named(&self, file: &File, path: &Path) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt as _;
        let open = file.metadata()?;
        match self.folder().read_metadata(path) {
            Ok(named) => Ok(open.dev() == named.dev() && open.ino() == named.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
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

    /// How many bytes were received; the next one has this offset.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes the next bytes. Bytes beyond the blob's length are refused, and none of the call's bytes
    /// is written then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let after = self.offset.saturating_add(bytes.len() as u64);
        if after > self.size {
            let (digest, expected) = (self.digest, self.size);
            return Err(Error::SizeMismatch { digest, expected, actual: after });
        }
        self.check_usable()?;
        self.hash.update(bytes);
        // Buffered bytes go first, so that the file has all bytes in order.
        if bytes.len() >= DIRECT || self.buffer.len() + bytes.len() > BUFFER {
            self.flush_buffer()?;
        }
        if bytes.len() >= DIRECT {
            self.write_through(bytes)?;
        } else {
            if self.buffer.capacity() == 0 {
                // The buffer of a small blob has the blob's length: thousands of them are written at once.
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
        self.hash = DigestHasher::for_digest(&self.digest);
        self.offset = 0;
        self.failed = false;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|cause| self.write_error(cause))?;
        Ok(())
    }

    /// Makes the blob visible in one step, if it is complete and its digest is right. When bytes are
    /// missing, the partial stays; when the digest is wrong, it is removed.
    pub fn commit(mut self) -> Result<()> {
        self.check_usable()?;
        self.flush_buffer()?;
        let (digest, size) = (self.digest, self.size);
        if self.offset != size {
            return Err(Error::SizeMismatch { digest, expected: size, actual: self.offset });
        }
        let hash = std::mem::replace(&mut self.hash, DigestHasher::for_digest(&digest));
        let actual = hash.finish();
        if actual != digest {
            // While this writer still has the lock, so that it is not the partial of another writer.
            self.store
                .folder()
                .remove_file(&self.partial)
                .map_err(|cause| self.write_error(cause))?;
            self.failed = true;
            return Err(Error::DigestMismatch { digest, actual });
        }
        // Without fsync: after a power cut a blob may be short, which the size check of the next fetch
        // finds. Syncing each blob costs a third of a fetch.
        self.store
            .folder()
            .rename(&self.partial, blob_file(&digest))
            .map_err(|cause| self.write_error(cause))
    }

    /// Reads and hashes what an earlier writer left, so that the digest covers all bytes.
    fn resume_partial(&mut self) -> Result<()> {
        let failed = |cause| self.store.read_error(&self.partial, cause);
        let there = self.file.metadata().map_err(failed)?.len();
        // More than the blob has: written for other content, or by another program.
        if there > self.size {
            return self.restart();
        }
        // Reading leaves the file's position at the end of the partial, where writing continues.
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

    fn flush_buffer(&mut self) -> Result<()> {
        // Taken out and put back, to keep its memory; empty also after a failure, whose bytes are lost.
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.write_through(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    fn write_through(&mut self, bytes: &[u8]) -> Result<()> {
        disk::write_in_pieces(&mut self.file, bytes).map_err(|cause| {
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
        let partial = self.store.path().join(&self.partial);
        space::write_error(&partial, self.store.path(), self.size - self.offset, cause)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.failed && !self.buffer.is_empty() {
            // What cannot be written now is fetched again; a drop cannot return an error.
            let _ = self.flush_buffer();
        }
    }
}
