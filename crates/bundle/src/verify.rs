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

use crate::index::Entry;
use crate::layout::{self, BLOCK, END_FROM_END, END_NAME, INDEX_NAME, TRAILER, padded};
use crate::tree::{self, SEGMENT};
use crate::{Result, Volume};

/// More threads than this gain nothing over a disk, and each holds a segment in memory.
const MAX_THREADS: usize = 8;

/// The result of verifying one bundle file.
#[derive(Debug, Clone)]
pub struct Verification {
    /// The opened bundle file.
    pub volume: Volume,
    /// The damaged ranges, in the order of the file; empty when the file is undamaged.
    pub damages: Vec<Damage>,
}

impl Verification {
    /// Whether every byte is as it was packed.
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }
}

/// One damaged range of a bundle file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The entry's name in the tar archive.
    pub entry: String,
    /// Which part of the entry is damaged.
    pub part: Part,
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
pub enum Part {
    /// The tar header. The data can still be good: Gantry finds it by the index.
    Header,
    /// The data.
    Data,
    /// The zeros after the data.
    Padding,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = match self.part {
            Part::Header => "the tar header of ",
            Part::Data => "",
            Part::Padding => "the padding after ",
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
pub fn verify(path: &Path, progress: &dyn Progress) -> Result<Verification> {
    check(Volume::open(path)?, progress)
}

/// Verifies an opened bundle file.
pub(crate) fn check(volume: Volume, progress: &dyn Progress) -> Result<Verification> {
    progress.expect(volume.end().length);
    // Opening the file read and checked the index and the end record already.
    progress.skip(volume.end().index_length + BLOCK);
    let frames = frames(&volume)?;
    let work = Work {
        volume: &volume,
        frames,
        next: Mutex::new((0, 0)),
        trees: Mutex::default(),
        damages: Mutex::default(),
        progress,
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_THREADS);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work.run());
        }
    });
    let mut damages = work.damages.into_inner().unwrap_or_else(PoisonError::into_inner);
    damages.sort_by_key(|damage| damage.range.start);
    Ok(Verification { volume, damages })
}

/// A tar entry as the index describes it, with what its bytes must be.
struct Frame<'a> {
    name: String,
    header: [u8; BLOCK as usize],
    offset: u64,
    length: u64,
    /// Where the padding after the data ends.
    end: u64,
    /// `None` for the index and the end record, whose data was checked when the file was opened.
    entry: Option<&'a Entry>,
}

/// All entries, then the index and the end record.
fn frames(volume: &Volume) -> Result<Vec<Frame<'_>>> {
    let frame = |name: String, offset, length, end, entry| -> Result<Frame<'_>> {
        let header = layout::header(&name, length)?;
        Ok(Frame { name, header, offset, length, end, entry })
    };
    let mut frames = Vec::with_capacity(volume.index().entries.len() + 2);
    for entry in &volume.index().entries {
        let end = entry.offset + padded(entry.length);
        frames.push(frame(layout::name(entry), entry.offset, entry.length, end, Some(entry))?);
    }
    let end = volume.end();
    let index_end = end.index_offset + padded(end.index_length);
    frames.push(frame(INDEX_NAME.into(), end.index_offset, end.index_length, index_end, None)?);
    let end_offset = end.length - END_FROM_END;
    debug_assert_eq!(end_offset + BLOCK + TRAILER, end.length);
    frames.push(frame(END_NAME.into(), end_offset, BLOCK, end.length, None)?);
    Ok(frames)
}

/// What the threads share: a queue of segments, and what was found.
struct Work<'a> {
    volume: &'a Volume,
    frames: Vec<Frame<'a>>,
    /// The next entry to check, and the next segment of it.
    next: Mutex<(usize, u64)>,
    trees: Mutex<HashMap<usize, Tree>>,
    damages: Mutex<Vec<Damage>>,
    progress: &'a dyn Progress,
}

/// The segments of an entry that were hashed so far.
struct Tree {
    values: Vec<Option<ChainingValue>>,
    left: usize,
}

impl Work<'_> {
    fn run(&self) {
        let mut buffer = vec![0; SEGMENT as usize];
        while let Some((at, segment)) = self.take() {
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
    fn take(&self) -> Option<(usize, u64)> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, segment) = *next;
        let frame = self.frames.get(at)?;
        let is_last = frame.entry.is_none() || (segment + 1) * SEGMENT >= frame.length;
        *next = if is_last { (at + 1, 0) } else { (at, segment + 1) };
        Some((at, segment))
    }

    fn check_header(&self, frame: &Frame<'_>, buffer: &mut [u8]) {
        let range = frame.offset - BLOCK..frame.offset;
        self.compare(frame, Part::Header, range, &frame.header, buffer);
    }

    fn check_padding(&self, frame: &Frame<'_>, buffer: &mut [u8]) {
        const ZEROS: [u8; (BLOCK + TRAILER) as usize] = [0; (BLOCK + TRAILER) as usize];
        let range = frame.offset + frame.length..frame.end;
        let zeros = &ZEROS[..(range.end - range.start) as usize];
        self.compare(frame, Part::Padding, range, zeros, buffer);
    }

    fn compare(
        &self,
        frame: &Frame<'_>,
        part: Part,
        range: Range<u64>,
        expected: &[u8],
        buffer: &mut [u8],
    ) {
        let bytes = &mut buffer[..expected.len()];
        match self.read(bytes, range.start) {
            Ok(()) if bytes == expected => {}
            Ok(()) => self.report(frame, part, range, None),
            Err(cause) => self.report(frame, part, range, Some(&cause)),
        }
    }

    fn check_segment(&self, at: usize, entry: &Entry, segment: u64, buffer: &mut [u8]) {
        let frame = &self.frames[at];
        let start = segment * SEGMENT;
        let length = (entry.length - start).min(SEGMENT);
        let bytes = &mut buffer[..length as usize];
        let read = self.read(bytes, entry.offset + start);
        if let Err(cause) = &read {
            let range = entry.offset + start..entry.offset + start + length;
            self.report(frame, Part::Data, range, Some(cause));
        }
        let whole = entry.offset..entry.offset + entry.length;
        if entry.length <= SEGMENT {
            if read.is_ok() && blake3::hash(bytes) != entry.hash {
                self.report(frame, Part::Data, whole, None);
            }
            return;
        }
        // Hash before the lock is taken: this is where the time goes.
        let value = read.is_ok().then(|| tree::segment(bytes, start));
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = entry.length.div_ceil(SEGMENT) as usize;
        let tree = trees
            .entry(at)
            .or_insert_with(|| Tree { values: vec![None; segments], left: segments });
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
        if values.is_some_and(|values| tree::join(&values, entry.length) != entry.hash) {
            self.report(frame, Part::Data, whole, None);
        }
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.progress.advance(bytes.len() as u64);
        self.volume.data().read_exact_at(bytes, offset)
    }

    fn report(&self, frame: &Frame<'_>, part: Part, range: Range<u64>, cause: Option<&io::Error>) {
        let blob = frame.entry.filter(|entry| entry.kind.is_blob() && part == Part::Data);
        let damage = Damage {
            entry: frame.name.clone(),
            part,
            range,
            blob: blob.map(|entry| entry.blob),
            root: blob.and_then(|entry| self.volume.index().root_of(entry)).map(str::to_owned),
            unreadable: cause.map(ToString::to_string),
        };
        self.damages.lock().unwrap_or_else(PoisonError::into_inner).push(damage);
    }
}
