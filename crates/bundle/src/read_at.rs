//! Reading at an offset, by many threads at once, without a shared cursor.

use std::fs::File;
use std::io;

use store::FileStamp;

/// Bytes that can be read at any offset: a file, or a buffer in tests and fuzzing.
pub trait ReadAt: Send + Sync {
    /// The number of bytes.
    fn length(&self) -> io::Result<u64>;

    /// Fills the whole `buffer` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the data ends before the buffer is full.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// The state of the file at this moment; `None` for data that are not in a file.
    fn read_stamp(&self) -> io::Result<Option<FileStamp>> {
        Ok(None)
    }

    /// Checks that the medium still answers.
    fn probe_medium(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_stamp(&self) -> io::Result<Option<FileStamp>> {
        Ok(Some(FileStamp::from_metadata(&self.metadata()?)))
    }

    fn probe_medium(&self) -> io::Result<()> {
        store::disk::probe_file(self)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

#[cfg(windows)]
impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_stamp(&self) -> io::Result<Option<FileStamp>> {
        Ok(Some(FileStamp::from_metadata(&self.metadata()?)))
    }

    fn probe_medium(&self) -> io::Result<()> {
        store::disk::probe_file(self)
    }

    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            // `seek_read` takes the offset with the call. It also moves the file's cursor, which
            // nothing else uses.
            let read = std::os::windows::fs::FileExt::seek_read(self, buffer, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut buffer[read..];
            offset += read as u64;
        }
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}
