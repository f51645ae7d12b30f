//! Adding content in one call: documents, files, streams. What has no digest yet is hashed while it is
//! written to a temporary file, which then gets its sha256 as name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use types::Digest;

use crate::folder::{PARTIALS, blob_file};
use crate::hash::{self, DigestHasher};
use crate::{Error, Result, Store, WriteStart, disk, reflink, space};

/// The length of one read and write. Large enough that system calls cost nothing beside the hash, small
/// enough that the bytes are still in the processor's cache when they are written.
const BUFFER: usize = 256 << 10;

impl Store {
    /// Adds a small document that is in memory and has no name yet: its sha256 is its digest.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = hash::sha256(bytes);
        self.put_document(&digest, bytes)?;
        Ok(digest)
    }

    /// Adds a small document that is in memory under the digest that others name it by.
    /// [`Error::DigestMismatch`] when it has another one.
    pub fn put_document(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if let WriteStart::Writer(mut writer) = self.open_writer(digest, bytes.len() as u64)? {
            // All bytes are at hand, so whatever an earlier run left is written again.
            writer.restart()?;
            writer.write(bytes)?;
            writer.commit()?;
        }
        Ok(())
    }

    /// Adds a file and returns its digest and length. On file systems with reflinks (btrfs, xfs) the
    /// file's blocks are shared, not copied.
    pub fn add_file(&self, path: impl AsRef<Path>) -> Result<(Digest, u64)> {
        let path = path.as_ref();
        let failed = |cause| Error::Read { what: path.display().to_string(), cause };
        let mut source = File::open(path).map_err(failed)?;
        let _session = self.keep_session()?;
        let mut target = self.create_blob_file()?;
        if reflink::clone_file(&source, target.as_file()).is_ok() {
            // What is hashed is the clone: the source may still change.
            let (digest, size) = copy_and_hash(target.as_file_mut(), |_| Ok(()), failed)?;
            self.keep_as_blob(target, &digest, size)?;
            return Ok((digest, size));
        }
        self.ensure_free_space(source.metadata().map_err(failed)?.len())?;
        self.add_stream(target, &mut source, failed)
    }

    /// Adds everything that the reader returns until its end; the digest and length of it.
    pub fn add_reader(&self, mut reader: impl Read) -> Result<(Digest, u64)> {
        let _session = self.keep_session()?;
        let target = self.create_blob_file()?;
        self.add_stream(target, &mut reader, |cause| Error::Read {
            what: "the input".into(),
            cause,
        })
    }

    fn add_stream(
        &self,
        mut target: tempfile::NamedTempFile,
        source: &mut dyn Read,
        failed: impl Fn(std::io::Error) -> Error,
    ) -> Result<(Digest, u64)> {
        let name = target.path().to_owned();
        let write = |bytes: &[u8]| {
            let length = bytes.len() as u64;
            disk::write_in_pieces(&mut target, bytes)
                .map_err(|cause| space::write_error(&name, self.path(), length, cause))
        };
        let (digest, size) = copy_and_hash(source, write, failed)?;
        self.keep_as_blob(target, &digest, size)?;
        Ok((digest, size))
    }

    /// A file whose digest is not known yet; removed when dropped, unless it is kept.
    fn create_blob_file(&self) -> Result<tempfile::NamedTempFile> {
        self.make_folders()?;
        self.create_temporary_file()
            .map_err(|cause| space::write_error(&self.path().join(PARTIALS), self.path(), 0, cause))
    }

    fn keep_as_blob(
        &self,
        file: tempfile::NamedTempFile,
        digest: &Digest,
        size: u64,
    ) -> Result<()> {
        // The same content again: the temporary file is removed.
        if self.holds_fresh_blob(digest, size)? {
            return Ok(());
        }
        self.make_blob_folder(digest.algorithm())?;
        self.rename_temporary_file(file, blob_file(digest))
            .map_err(|cause| space::write_error(&self.blob_path(digest), self.path(), 0, cause))
    }
}

/// Reads to the end, hashes, and calls `write` with each piece; the digest and length of everything.
fn copy_and_hash(
    source: &mut (impl Read + ?Sized),
    mut write: impl FnMut(&[u8]) -> Result<()>,
    failed: impl Fn(std::io::Error) -> Error,
) -> Result<(Digest, u64)> {
    let mut hash = DigestHasher::new_sha256();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => return Ok((hash.finish(), size)),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(failed(cause)),
        };
        hash.update(&buffer[..read]);
        write(&buffer[..read])?;
        size += read as u64;
    }
}
