//! Writes one bundle file from front to back: documents, blobs from the reading side
//! ([`crate::feed`]), index, end record.

use std::io::{BufWriter, Write};
use std::path::Path;

use store::disk;
use store::progress::Progress;

use crate::document::{Manifest, VolumeDocument};
use crate::end::End;
use crate::feed::{Chunks, Stop};
use crate::index::EntryKind;
use crate::layout::{self, BLOCK, END_NAME, INDEX_NAME, OCI_LAYOUT, TRAILER, padded};
use crate::{Error, Plan, PlannedVolume, Result, space};

/// Small writes (headers, padding) are collected up to this size; chunks are larger and pass
/// through.
const BUFFER: usize = 64 << 10;
const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Writes one bundle file from front to back.
pub(crate) struct VolumeWriter<'a, W: Write> {
    out: BufWriter<W>,
    path: &'a Path,
    volume: &'a PlannedVolume,
    written: u64,
    progress: &'a dyn Progress,
}

impl<'a, W: Write> VolumeWriter<'a, W> {
    pub(crate) fn new(
        out: W,
        path: &'a Path,
        volume: &'a PlannedVolume,
        progress: &'a dyn Progress,
    ) -> Self {
        let out = BufWriter::with_capacity(BUFFER, out);
        Self { out, path, volume, written: 0, progress }
    }

    /// Writes the bundle file and returns the hash of its index. `hashes` are the index hashes of
    /// the files before it.
    pub(crate) fn write(
        mut self,
        plan: &Plan,
        hashes: &[blake3::Hash],
        feed: &Chunks,
    ) -> Result<blake3::Hash, Stop> {
        let mut index = self.volume.index.clone();
        for entry in &mut index.entries {
            self.put(&layout::header(&layout::name(entry), entry.length)?)?;
            entry.hash = if entry.kind.is_blob() {
                self.blob(entry.length, feed)?
            } else {
                let bytes = self.document(entry.kind, plan, hashes)?;
                self.put(&bytes)?;
                blake3::hash(&bytes)
            };
            self.pad(entry.length)?;
        }
        let (index_offset, index_length) = self.volume.index_place();
        let bytes = index.encode();
        let end = End {
            number: self.volume.number,
            count: plan.volumes.len() as u32,
            index_offset,
            index_length,
            index_hash: blake3::hash(&bytes),
            bundle: plan.id,
            length: self.volume.size,
        };
        self.put(&layout::header(INDEX_NAME, index_length)?)?;
        self.put(&bytes)?;
        self.pad(index_length)?;
        self.put(&layout::header(END_NAME, BLOCK)?)?;
        self.put(&end.encode())?;
        self.put(&[0; TRAILER as usize])?;
        self.out.flush().map_err(|cause| self.error(cause))?;
        Ok(end.index_hash)
    }

    /// Copies the data of one entry from the reading side and hashes it.
    fn blob(&mut self, length: u64, feed: &Chunks) -> Result<blake3::Hash, Stop> {
        let mut hash = blake3::Hasher::new();
        let mut rest = length;
        loop {
            let chunk = feed.chunk()?;
            hash.update(&chunk);
            self.put(&chunk)?;
            rest -= chunk.len() as u64;
            feed.give_back(chunk);
            if rest == 0 {
                return Ok(hash.finalize());
            }
        }
    }

    fn document(&self, kind: EntryKind, plan: &Plan, hashes: &[blake3::Hash]) -> Result<Vec<u8>> {
        Ok(match kind {
            EntryKind::Volume => {
                VolumeDocument::of(plan, self.volume.number, self.volume.size).encode()?
            }
            EntryKind::OciLayout => OCI_LAYOUT.to_vec(),
            EntryKind::Roots => plan.roots.clone(),
            EntryKind::Lock => plan.lock.clone(),
            EntryKind::Bundle => Manifest::of(plan, hashes).encode_padded()?,
            // Blobs come from the reading side, and no plan has a base yet.
            EntryKind::Base | EntryKind::Document | EntryKind::Blob => Vec::new(),
        })
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        let padding = (padded(length) - length) as usize;
        self.put(&ZEROS[..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        disk::write_all(&mut self.out, bytes).map_err(|cause| self.error(cause))?;
        self.written += bytes.len() as u64;
        self.progress.advance(bytes.len() as u64);
        Ok(())
    }

    fn error(&self, cause: std::io::Error) -> Error {
        space::write_error(self.path, self.volume.size - self.written, cause)
    }
}
