//! A tar archive whose files are blobs of a source. It is kept as a list of pieces, headers as bytes
//! and files by their digest, and is put together while it is read: nothing of it is in memory or on the
//! disk. Times, owners and modes are fixed, so the same content gives the same bytes.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use store::Source;
use types::lock::Blob;

/// Tar's block: headers, and the padding of contents.
const BLOCK: u64 = 512;

/// The pieces of a tar archive, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobTar {
    pieces: Vec<BlobTarPiece>,
    size: u64,
}

/// A part of an archive: bytes in memory, or a blob of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlobTarPiece {
    Bytes(Arc<[u8]>),
    Blob(Blob),
}

impl BlobTarPiece {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(blob) => blob.size,
        }
    }
}

impl BlobTar {
    /// Its length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Its parts, front to back.
    pub(crate) fn pieces(&self) -> &[BlobTarPiece] {
        &self.pieces
    }

    /// A reader of a range of it. Each piece is cut to the part of it that is in the range. Blobs are not
    /// hashed.
    pub(crate) fn open_range(&self, source: &Arc<dyn Source>, range: Range<u64>) -> BlobTarReader {
        let mut at = 0;
        let mut pieces = Vec::new();
        for piece in &self.pieces {
            let size = piece.size();
            let start = range.start.saturating_sub(at).min(size);
            let end = range.end.saturating_sub(at).min(size);
            if start < end {
                pieces.push((piece.clone(), start..end));
            }
            at += size;
        }
        pieces.reverse();
        BlobTarReader { source: Arc::clone(source), pieces, current: None }
    }
}

/// An archive that is being built.
#[derive(Default)]
pub(crate) struct BlobTarBuilder {
    pieces: Vec<BlobTarPiece>,
}

impl BlobTarBuilder {
    pub(crate) fn add_folder(&mut self, path: &Path) -> io::Result<()> {
        self.add_header(path, tar::EntryType::Directory, 0o755, 0, None)
    }

    pub(crate) fn add_link(&mut self, path: &Path, to: &Path) -> io::Result<()> {
        self.add_header(path, tar::EntryType::Symlink, 0o777, 0, Some(to))
    }

    pub(crate) fn add_file(&mut self, path: &Path, blob: Blob) -> io::Result<()> {
        self.add_header(path, tar::EntryType::Regular, 0o644, blob.size, None)?;
        self.pieces.push(BlobTarPiece::Blob(blob));
        self.add_padding(blob.size);
        Ok(())
    }

    pub(crate) fn add_bytes(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.add_header(path, tar::EntryType::Regular, 0o644, bytes.len() as u64, None)?;
        self.pieces.push(BlobTarPiece::Bytes(bytes.into()));
        self.add_padding(bytes.len() as u64);
        Ok(())
    }

    /// Adds the header of an entry. The tar crate writes it with an empty content, so that long names
    /// become GNU extension entries as in any archive; the content follows as a piece of its own.
    fn add_header(
        &mut self,
        path: &Path,
        kind: tar::EntryType,
        mode: u32,
        size: u64,
        to: Option<&Path>,
    ) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let mut builder = tar::Builder::new(Vec::new());
        match to {
            Some(to) => builder.append_link(&mut header, path, to)?,
            None => builder.append_data(&mut header, path, io::empty())?,
        }
        let bytes = std::mem::take(builder.get_mut());
        self.pieces.push(BlobTarPiece::Bytes(bytes.into()));
        Ok(())
    }

    /// Adds the zeros that fill a content's last block.
    fn add_padding(&mut self, size: u64) {
        let rest = size.next_multiple_of(BLOCK) - size;
        if rest > 0 {
            self.pieces.push(BlobTarPiece::Bytes(vec![0; rest as usize].into()));
        }
    }

    /// Ends the tar with its two empty blocks.
    pub(crate) fn finish(mut self) -> BlobTar {
        self.pieces.push(BlobTarPiece::Bytes(vec![0; 2 * BLOCK as usize].into()));
        let size = self.pieces.iter().map(BlobTarPiece::size).sum();
        BlobTar { pieces: self.pieces, size }
    }
}

/// Reads pieces one after the other. They are in reverse order, so that `pop` gives the next.
pub(crate) struct BlobTarReader {
    source: Arc<dyn Source>,
    pieces: Vec<(BlobTarPiece, Range<u64>)>,
    current: Option<Box<dyn Read + Send>>,
}

impl Read for BlobTarReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(current) = &mut self.current {
                let read = current.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
            }
            let Some((piece, range)) = self.pieces.pop() else { return Ok(0) };
            self.current = Some(match piece {
                BlobTarPiece::Bytes(bytes) => {
                    let bytes = bytes[range.start as usize..range.end as usize].to_vec();
                    Box::new(io::Cursor::new(bytes))
                }
                BlobTarPiece::Blob(blob) => {
                    let reader = self.source.open_blob(&blob.digest, range);
                    Box::new(reader.map_err(io::Error::other)?)
                }
            });
        }
    }
}
