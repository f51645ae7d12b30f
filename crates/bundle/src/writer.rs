//! Writes one bundle file from front to back: documents, blobs from the reading side
//! ([`crate::feed`]), index, end record.

use std::io::{BufWriter, Write};
use std::path::Path;

use store::disk;
use store::progress::Progress;

use crate::blob_reader::{ChunkReceiver, PackInterruption};
use crate::document::{BundleFileDocument, BundleManifest};
use crate::end_record::EndRecord;
use crate::index::BundleEntryKind;
use crate::tar_layout::{self, BLOCK, END_NAME, INDEX_NAME, OCI_LAYOUT, TRAILER, padded_length};
use crate::{Error, PackPlan, PlannedBundleFile, Result, disk_space};

/// Small writes (headers, padding) are collected up to this size; chunks are larger and pass
/// through.
const BUFFER: usize = 64 << 10;
const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Writes one bundle file from front to back.
pub(crate) struct BundleFileWriter<'a, W: Write> {
    out: BufWriter<W>,
    path: &'a Path,
    file: &'a PlannedBundleFile,
    written: u64,
    progress: &'a dyn Progress,
}

impl<'a, W: Write> BundleFileWriter<'a, W> {
    pub(crate) fn new(
        out: W,
        path: &'a Path,
        volume: &'a PlannedBundleFile,
        progress: &'a dyn Progress,
    ) -> Self {
        let out = BufWriter::with_capacity(BUFFER, out);
        Self { out, path, file: volume, written: 0, progress }
    }

    /// Writes the bundle file and returns the hash of its index. `hashes` are the index hashes of
    /// the files before it.
    pub(crate) fn write(
        mut self,
        plan: &PackPlan,
        hashes: &[blake3::Hash],
        feed: &ChunkReceiver,
    ) -> Result<blake3::Hash, PackInterruption> {
        let mut index = self.file.index.clone();
        for entry in &mut index.entries {
            self.write_bytes(&tar_layout::build_tar_header(
                &crate::entry_name::entry_name(entry),
                entry.length,
            )?)?;
            entry.hash = if entry.kind.is_blob() {
                self.copy_blob(entry.length, feed)?
            } else {
                let bytes = self.encode_document(entry.kind, plan, hashes)?;
                self.write_bytes(&bytes)?;
                blake3::hash(&bytes)
            };
            self.write_padding(entry.length)?;
        }
        let (index_offset, index_length) = self.file.index_location();
        let bytes = index.encode();
        let end = EndRecord {
            number: self.file.number,
            count: plan.files.len() as u32,
            index_offset,
            index_length,
            index_hash: blake3::hash(&bytes),
            bundle: plan.id,
            length: self.file.size,
            has_long_digests: index.count_long_digests() > 0,
        };
        self.write_bytes(&tar_layout::build_tar_header(INDEX_NAME, index_length)?)?;
        self.write_bytes(&bytes)?;
        self.write_padding(index_length)?;
        self.write_bytes(&tar_layout::build_tar_header(END_NAME, BLOCK)?)?;
        self.write_bytes(&end.encode())?;
        self.write_bytes(&[0; TRAILER as usize])?;
        self.out.flush().map_err(|cause| self.write_error(cause))?;
        Ok(end.index_hash)
    }

    /// Copies the data of one entry from the reading side and hashes it.
    fn copy_blob(
        &mut self,
        length: u64,
        feed: &ChunkReceiver,
    ) -> Result<blake3::Hash, PackInterruption> {
        let mut hash = blake3::Hasher::new();
        let mut rest = length;
        loop {
            let chunk = feed.receive_chunk()?;
            hash.update(&chunk);
            self.write_bytes(&chunk)?;
            rest -= chunk.len() as u64;
            feed.return_buffer(chunk);
            if rest == 0 {
                return Ok(hash.finalize());
            }
        }
    }

    fn encode_document(
        &self,
        kind: BundleEntryKind,
        plan: &PackPlan,
        hashes: &[blake3::Hash],
    ) -> Result<Vec<u8>> {
        Ok(match kind {
            BundleEntryKind::Volume => {
                BundleFileDocument::from_plan(plan, self.file.number, self.file.size).encode()?
            }
            BundleEntryKind::OciLayout => OCI_LAYOUT.to_vec(),
            BundleEntryKind::Roots => plan.roots.clone(),
            BundleEntryKind::Lock => plan.lock.clone(),
            BundleEntryKind::Bundle => BundleManifest::from_plan(plan, hashes).encode_padded()?,
            // Blobs come from the reading side, and no plan has a base yet.
            BundleEntryKind::Base | BundleEntryKind::Document | BundleEntryKind::Blob => Vec::new(),
        })
    }

    fn write_padding(&mut self, length: u64) -> Result<()> {
        let padding = (padded_length(length) - length) as usize;
        self.write_bytes(&ZEROS[..padding])
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        disk::write_in_pieces(&mut self.out, bytes).map_err(|cause| self.write_error(cause))?;
        self.written += bytes.len() as u64;
        self.progress.advance_bytes(bytes.len() as u64);
        Ok(())
    }

    fn write_error(&self, cause: std::io::Error) -> Error {
        disk_space::write_error(self.path, self.file.size - self.written, cause)
    }
}
