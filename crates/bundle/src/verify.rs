//! Verifies one bundle file on its own, without the other files: every byte of it.
//!
//! The data of entries is checked by its hashes; headers, padding and the trailer are computed
//! again from the index and compared. So no byte of a bundle file can change unnoticed.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use blake3::hazmat::ChainingValue;
use store::progress::Progress;
use types::Digest;

use crate::index::BundleEntry;
use crate::tar_layout::{self, BLOCK, END_FROM_END, END_NAME, INDEX_NAME, TRAILER, padded_length};
use crate::tree_hash::{self, SEGMENT};
use crate::{BundleFile, Result};

/// More threads than this gain nothing over a disk, and each holds a segment in memory.
const MAX_THREADS: usize = 8;

/// The result of verifying one bundle file.
#[derive(Debug, Clone)]
pub struct BundleFileVerification {
    /// The opened bundle file.
    pub file: BundleFile,
    /// The damaged ranges, in the order of the file; empty when the file is undamaged.
    pub damages: Vec<BundleFileDamage>,
}

impl BundleFileVerification {
    /// Whether every byte is as it was packed.
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }
}

/// One damaged range of a bundle file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFileDamage {
    /// The entry's name in the tar archive.
    pub entry: String,
    /// Which part of the entry is damaged.
    pub part: EntryPart,
    /// The range of bytes of the file that contains the damage.
    pub range: Range<u64>,
    /// The digest of the damaged blob, where the data of a blob is damaged.
    pub blob: Option<Digest>,
    /// The full name of the first root, by name, that needs the blob.
    pub root: Option<String>,
    /// The system's reason when the bytes cannot be read at all.
    pub unreadable: Option<String>,
}

/// A part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryPart {
    /// The tar header. The data can still be good: Gantry finds it by the index.
    Header,
    /// The data.
    Data,
    /// The zeros after the data.
    Padding,
}

impl std::fmt::Display for BundleFileDamage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = match self.part {
            EntryPart::Header => "the tar header of ",
            EntryPart::Data => "",
            EntryPart::Padding => "the padding after ",
        };
        let Range { start, end } = self.range;
        write!(f, "{part}{} (bytes {start} to {end})", self.entry)?;
        if let Some(root) = &self.root {
            write!(f, " of {root}")?;
        }
        match &self.unreadable {
            Some(reason) => write!(f, " cannot be read: {reason}"),
            None => f.write_str(" is damaged"),
        }
    }
}

/// Verifies the bundle file at `path`, on all processors.
///
/// # Errors
/// Fails when the end record or the index is absent or damaged, since there is nothing to check the
/// rest by then. Any other damage is in the result.
pub fn verify_file(path: &Path, progress: &dyn Progress) -> Result<BundleFileVerification> {
    verify_opened_file(BundleFile::open(path)?, progress)
}

/// Verifies an opened bundle file.
pub(crate) fn verify_opened_file(
    volume: BundleFile,
    progress: &dyn Progress,
) -> Result<BundleFileVerification> {
    progress.expect_bytes(volume.end_record().length);
    // Opening the file read and checked the index and the end record already.
    progress.advance_bytes(volume.end_record().index_length + BLOCK);
    let frames = list_expected_entries(&volume)?;
    let work = FileVerifier {
        file: &volume,
        frames,
        next: Mutex::new((0, 0)),
        trees: Mutex::default(),
        damages: Mutex::default(),
        progress,
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_THREADS);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work.check_segments());
        }
    });
    let mut damages = work.damages.into_inner().unwrap_or_else(PoisonError::into_inner);
    damages.sort_by_key(|damage| damage.range.start);
    Ok(BundleFileVerification { file: volume, damages })
}

/// A tar entry as the index describes it, with what its bytes must be.
struct ExpectedTarEntry<'a> {
    name: String,
    header: Vec<u8>,
    offset: u64,
    length: u64,
    /// Where the padding after the data ends.
    end: u64,
    /// `None` for the index and the end record, whose data was checked when the file was opened.
    entry: Option<&'a BundleEntry>,
}

/// All entries, then the index and the end record.
fn list_expected_entries(volume: &BundleFile) -> Result<Vec<ExpectedTarEntry<'_>>> {
    let frame = |name: String, offset, length, end, entry| -> Result<ExpectedTarEntry<'_>> {
        let header = tar_layout::build_tar_header(&name, length)?;
        Ok(ExpectedTarEntry { name, header, offset, length, end, entry })
    };
    let mut frames = Vec::with_capacity(volume.index().entries.len() + 2);
    for entry in &volume.index().entries {
        let end = entry.offset + padded_length(entry.length);
        frames.push(frame(
            crate::entry_name::entry_name(entry),
            entry.offset,
            entry.length,
            end,
            Some(entry),
        )?);
    }
    let end = volume.end_record();
    let index_end = end.index_offset + padded_length(end.index_length);
    frames.push(frame(INDEX_NAME.into(), end.index_offset, end.index_length, index_end, None)?);
    let end_offset = end.length - END_FROM_END;
    debug_assert_eq!(end_offset + BLOCK + TRAILER, end.length);
    frames.push(frame(END_NAME.into(), end_offset, BLOCK, end.length, None)?);
    Ok(frames)
}

/// What the threads share: a queue of segments, and what was found.
struct FileVerifier<'a> {
    file: &'a BundleFile,
    frames: Vec<ExpectedTarEntry<'a>>,
    /// The next entry to check, and the next segment of it.
    next: Mutex<(usize, u64)>,
    trees: Mutex<HashMap<usize, SegmentHashes>>,
    damages: Mutex<Vec<BundleFileDamage>>,
    progress: &'a dyn Progress,
}

/// The segments of an entry that were hashed so far.
struct SegmentHashes {
    values: Vec<Option<ChainingValue>>,
    left: usize,
}

impl FileVerifier<'_> {
    fn check_segments(&self) {
        let mut buffer = vec![0; SEGMENT as usize];
        while let Some((at, segment)) = self.take_segment() {
            let frame = &self.frames[at];
            // Whoever takes the first segment of an entry also checks what surrounds its data.
            if segment == 0 {
                self.check_header(frame, &mut buffer);
                self.check_padding(frame, &mut buffer);
            }
            if let Some(entry) = frame.entry {
                self.check_segment(at, entry, segment, &mut buffer);
            }
        }
    }

    /// The next segment to check, in the order of the file, so that a disk reads sequentially.
    fn take_segment(&self) -> Option<(usize, u64)> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, segment) = *next;
        let frame = self.frames.get(at)?;
        let is_last = frame.entry.is_none() || (segment + 1) * SEGMENT >= frame.length;
        *next = if is_last { (at + 1, 0) } else { (at, segment + 1) };
        Some((at, segment))
    }

    fn check_header(&self, frame: &ExpectedTarEntry<'_>, buffer: &mut [u8]) {
        let range = frame.offset - frame.header.len() as u64..frame.offset;
        self.compare_bytes(frame, EntryPart::Header, range, &frame.header, buffer);
    }

    fn check_padding(&self, frame: &ExpectedTarEntry<'_>, buffer: &mut [u8]) {
        const ZEROS: [u8; (BLOCK + TRAILER) as usize] = [0; (BLOCK + TRAILER) as usize];
        let range = frame.offset + frame.length..frame.end;
        let zeros = &ZEROS[..(range.end - range.start) as usize];
        self.compare_bytes(frame, EntryPart::Padding, range, zeros, buffer);
    }

    fn compare_bytes(
        &self,
        frame: &ExpectedTarEntry<'_>,
        part: EntryPart,
        range: Range<u64>,
        expected: &[u8],
        buffer: &mut [u8],
    ) {
        let bytes = &mut buffer[..expected.len()];
        match self.read_bytes(bytes, range.start) {
            Ok(()) if bytes == expected => {}
            Ok(()) => self.report_damage(frame, part, range, None),
            Err(cause) => self.report_damage(frame, part, range, Some(&cause)),
        }
    }

    fn check_segment(&self, at: usize, entry: &BundleEntry, segment: u64, buffer: &mut [u8]) {
        let frame = &self.frames[at];
        let start = segment * SEGMENT;
        let length = (entry.length - start).min(SEGMENT);
        let bytes = &mut buffer[..length as usize];
        let read = self.read_bytes(bytes, entry.offset + start);
        if let Err(cause) = &read {
            let range = entry.offset + start..entry.offset + start + length;
            self.report_damage(frame, EntryPart::Data, range, Some(cause));
        }
        let whole = entry.offset..entry.offset + entry.length;
        if entry.length <= SEGMENT {
            if read.is_ok() && blake3::hash(bytes) != entry.hash {
                self.report_damage(frame, EntryPart::Data, whole, None);
            }
            return;
        }
        // Hash before the lock is taken: this is where the time goes.
        let value = read.is_ok().then(|| tree_hash::hash_segment(bytes, start));
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = entry.length.div_ceil(SEGMENT) as usize;
        let tree = trees
            .entry(at)
            .or_insert_with(|| SegmentHashes { values: vec![None; segments], left: segments });
        tree.values[segment as usize] = value;
        tree.left -= 1;
        if tree.left > 0 {
            return;
        }
        // A missing value is a segment that could not be read. That was reported already, and more
        // precisely than the whole entry.
        let values: Option<Vec<ChainingValue>> =
            trees.remove(&at).and_then(|tree| tree.values.into_iter().collect());
        // Others can go on while this thread joins the segments.
        drop(trees);
        if values
            .is_some_and(|values| tree_hash::join_segments(&values, entry.length) != entry.hash)
        {
            self.report_damage(frame, EntryPart::Data, whole, None);
        }
    }

    fn read_bytes(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.progress.advance_bytes(bytes.len() as u64);
        self.file.data().read_exact_at(bytes, offset)
    }

    fn report_damage(
        &self,
        frame: &ExpectedTarEntry<'_>,
        part: EntryPart,
        range: Range<u64>,
        cause: Option<&io::Error>,
    ) {
        let blob = frame.entry.filter(|entry| entry.kind.is_blob() && part == EntryPart::Data);
        let damage = BundleFileDamage {
            entry: frame.name.clone(),
            part,
            range,
            blob: blob.map(|entry| entry.blob),
            root: blob.and_then(|entry| self.file.index().root_name(entry)).map(str::to_owned),
            unreadable: cause.map(ToString::to_string),
        };
        self.damages.lock().unwrap_or_else(PoisonError::into_inner).push(damage);
    }
}
