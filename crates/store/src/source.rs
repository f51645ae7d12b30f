//! The trait [`Source`]: anything that blobs and roots can be read from.

use std::io::{self, Read};
use std::ops::Range;

use types::{Digest, Root};

use crate::{BlobFile, Error, Result};

/// Reads blobs by digest, and the named roots that they make up.
///
/// Every implementation guarantees, and the behaviour suite (`testkit::store_suite`) checks:
/// - [`Source::blob_size`] and [`Source::open_blob`] see the same blobs; for a missing blob they
///   return `None` and [`Error::BlobMissing`], never an empty blob.
/// - The reader returns exactly the bytes of the range, or an IO error; never fewer without an error.
/// - A range beyond the end is [`Error::Range`].
/// - The content was verified when it came in, and reading does not hash again. Whoever hands it on
///   without a receiver that hashes compares [`Source::find_blob_files`] with what it was when the
///   blob was last verified.
/// - All calls may block on a disk: call them from a thread that may block. They may be called
///   from many threads at once.
pub trait Source: Send + Sync + 'static {
    /// All roots, sorted by name.
    fn roots(&self) -> Result<Vec<Root>>;

    /// The length of a blob in bytes, or `None` when the source does not have it.
    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// A reader of the blob's bytes in the range; `0..size` for the whole blob.
    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> Result<SourceReader>;

    /// The files that hold the blob, as they are at this moment: while they stay the same, so do the
    /// blob's bytes. Empty for a source that has no files.
    ///
    /// # Errors
    /// A file that cannot be reached, or that lacks its end ([`Error::FileCut`]).
    fn find_blob_files(&self, _digest: &Digest) -> Result<Vec<BlobFile>> {
        Ok(Vec::new())
    }

    /// Checks that the media that hold the content are still there: that each file is found under its
    /// path, has its length, and can be read. Blobs are not read.
    ///
    /// # Errors
    /// The first file of which that is not so.
    fn check_media(&self) -> Result<()> {
        Ok(())
    }
}

/// The bytes of a range of a blob, read front to back.
pub struct SourceReader {
    inner: Box<dyn Read + Send>,
    remaining: u64,
}

impl SourceReader {
    /// A reader of exactly `length` bytes; when `inner` ends before, reading fails with
    /// [`io::ErrorKind::UnexpectedEof`].
    pub fn new(inner: impl Read + Send + 'static, length: u64) -> Self {
        Self { inner: Box::new(inner), remaining: length }
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.remaining == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the blob ends {} bytes early", self.remaining),
            ));
        }
        self.remaining -= read as u64;
        Ok(read)
    }
}

/// Reads a whole small blob (a manifest, a config) into memory; one of more than `most` bytes is
/// refused before a byte is read.
pub fn read_blob(source: &dyn Source, digest: &Digest, most: u64) -> Result<Vec<u8>> {
    let size = source.blob_size(digest)?.ok_or(Error::BlobMissing { digest: *digest })?;
    if size > most {
        return Err(Error::TooLarge { digest: *digest, size, most });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    source
        .open_blob(digest, 0..size)?
        .read_to_end(&mut bytes)
        .map_err(|cause| Error::Read { what: digest.to_string(), cause })?;
    Ok(bytes)
}
