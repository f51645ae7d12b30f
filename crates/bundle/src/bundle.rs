//! A bundle as a [`Source`]: blobs are read straight from the bundle files by positional reads.
//! Opening reads the end record and the index of each file and the documents of the first one, but
//! no blob, so it takes the same time for any size.

use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use store::{BlobFile, Source, SourceReader};
use types::{Digest, Index as Layout, Root};

use crate::document::{self, MAX_DOCUMENT};
use crate::index::BundleEntryKind;
use crate::{BundleFileSet, BundleId, BundleManifest, Error, Result};

/// The longest `index.json` or lock that is read: enough for a hundred thousand roots, and a bound
/// on the memory that a hostile file can claim.
const MAX_ROOTS: u64 = 64 << 20;

/// An opened bundle. Cheap to clone.
#[derive(Clone)]
pub struct Bundle(Arc<OpenedBundle>);

struct OpenedBundle {
    set: BundleFileSet,
    roots: Vec<Root>,
    lock: Vec<u8>,
    /// Blobs of which all pieces are in the given files.
    blobs: HashMap<Digest, Vec<BlobPiece>>,
    /// Blobs of which only some pieces are in the given files.
    partial: HashMap<Digest, Vec<BlobPiece>>,
    has_all_documents: bool,
}

/// A piece of a blob (or all of it) in one bundle file.
#[derive(Debug, Clone, Copy)]
struct BlobPiece {
    /// The position of the bundle file in the set.
    file: usize,
    /// Where in the bundle file the piece begins.
    offset: u64,
    /// Where in the blob the piece begins.
    blob_offset: u64,
    length: u64,
    blob_size: u64,
}

/// Whether the given bundle files hold all content of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// All of its content is in the given files.
    Complete,
    /// Some of its content is in a file that was not given.
    Incomplete,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("set", &self.0.set).finish_non_exhaustive()
    }
}

impl Bundle {
    /// Opens all files of a bundle, given in any order.
    ///
    /// # Errors
    /// [`Error::Missing`] names the files that were not given.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let bundle = Self::open_partial(paths)?;
        bundle.0.set.check_complete()?;
        Ok(bundle)
    }

    /// Opens some files of a bundle. The first file must be among them, since it names the roots.
    /// A blob that is not completely in the given files counts as absent.
    pub fn open_partial(paths: &[PathBuf]) -> Result<Self> {
        let volumes =
            paths.iter().map(|path| crate::BundleFile::open(path)).collect::<Result<_>>()?;
        Self::from_file_set(BundleFileSet::from_files(volumes)?)
    }

    /// Makes a bundle of files that are opened already, like [`Self::open_partial`].
    pub fn from_file_set(set: BundleFileSet) -> Result<Self> {
        set.check_consistent()?;
        // Only the first file has the roots and the lock.
        let Some(first) = set.files().first().filter(|volume| volume.end_record().number == 1)
        else {
            set.check_complete()?;
            return Err(Error::NoFiles);
        };
        let required = |kind, name: &str| {
            first
                .read_small_entry(kind, MAX_ROOTS)?
                .ok_or_else(|| document::invalid_document(first.path(), name, "is missing"))
        };
        let roots = parse_roots(first, &required(BundleEntryKind::Roots, "index.json")?)?;
        let lock = required(BundleEntryKind::Lock, "gantry/lock.yaml")?;
        let (blobs, partial) = locate_pieces(&set);
        let has_all_documents = has_all_documents(&set);
        Ok(Self(Arc::new(OpenedBundle { set, roots, lock, blobs, partial, has_all_documents })))
    }

    /// The bundle's id.
    pub fn id(&self) -> BundleId {
        // A set always has a first file: it is never made of an empty list.
        self.0.set.files().first().map_or(BundleId([0; 32]), |volume| volume.end_record().bundle)
    }

    /// The bytes of `gantry.lock`.
    pub fn lock(&self) -> &[u8] {
        &self.0.lock
    }

    /// The bundle files, and the numbers of those that are missing.
    pub fn file_set(&self) -> &BundleFileSet {
        &self.0.set
    }

    /// The bundle's own manifest, or `None` when the last file, which carries it, was not given.
    pub fn read_manifest(&self) -> Result<Option<BundleManifest>> {
        let Some(last) = self.0.set.files().last() else { return Ok(None) };
        let bytes = last.read_small_entry(BundleEntryKind::Bundle, MAX_DOCUMENT)?;
        bytes
            .map(|bytes| document::parse_document(last.path(), "gantry/bundle.json", &bytes))
            .transpose()
    }

    /// Every root, and whether its content is complete in the given files.
    pub fn check_completeness(&self) -> Result<Vec<(Root, Completeness)>> {
        let look = |root: &Root| -> Result<Completeness> {
            match store::find_closure(self, root) {
                Err(store::Error::BlobMissing { .. }) => Ok(Completeness::Incomplete),
                Err(error) => Err(error.into()),
                // In a sparse index the manifests of platforms that were not chosen are absent.
                // While a bundle file with manifests is missing, an absent manifest may just be in
                // that file.
                Ok(closure) if !closure.sparse.is_empty() && !self.0.has_all_documents => {
                    Ok(Completeness::Incomplete)
                }
                Ok(_) => Ok(Completeness::Complete),
            }
        };
        self.0.roots.iter().map(|root| Ok((root.clone(), look(root)?))).collect()
    }

    /// The numbers of the missing bundle files that may hold the rest of a blob of which some piece
    /// is in the given files. `None` when no piece of the blob is.
    pub fn missing_files_for_blob(&self, digest: &Digest) -> Option<Vec<u32>> {
        let pieces = self.0.partial.get(digest)?;
        let volumes = self.0.set.files();
        let numbers = pieces.iter().filter_map(|piece| volumes.get(piece.file));
        let numbers: Vec<u32> = numbers.map(|volume| volume.end_record().number).collect();
        let (least, most) = (numbers.iter().min()?, numbers.iter().max()?);
        let starts_here = pieces.first().is_some_and(|piece| piece.blob_offset == 0);
        let ends_here =
            pieces.last().is_some_and(|piece| piece.blob_offset + piece.length == piece.blob_size);
        // The pieces of a blob are in consecutive files, in order. With the first piece in file 3
        // and another, not the last, in file 5, the rest can be in file 4 or in any file after 5.
        let missing = self.0.set.missing_numbers().iter().copied();
        let between = missing
            .filter(|number| (number > least || !starts_here) && (number < most || !ends_here));
        Some(between.collect())
    }
}

impl Source for Bundle {
    fn roots(&self) -> store::Result<Vec<Root>> {
        Ok(self.0.roots.clone())
    }

    fn blob_size(&self, digest: &Digest) -> store::Result<Option<u64>> {
        let pieces = self.0.blobs.get(digest);
        Ok(pieces.and_then(|pieces| pieces.first()).map(|piece| piece.blob_size))
    }

    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> store::Result<SourceReader> {
        let pieces = self.0.blobs.get(digest).filter(|pieces| !pieces.is_empty());
        let pieces = pieces.ok_or(store::Error::BlobMissing { digest: *digest })?;
        let size = pieces[0].blob_size;
        let Range { start, end } = range;
        if start > end || end > size {
            return Err(store::Error::Range { digest: *digest, start, end, size });
        }
        // Pieces are sorted by their offset in the blob: find the last one that begins at or before
        // the start.
        let first = pieces.partition_point(|piece| piece.blob_offset <= start).saturating_sub(1);
        let segments = pieces[first..]
            .iter()
            .take_while(|piece| piece.blob_offset < end)
            .filter_map(|piece| Some((self.0.set.files().get(piece.file)?.clone(), *piece)))
            .collect();
        Ok(SourceReader::new(PieceReader { segments, at: 0, position: start }, end - start))
    }

    fn find_blob_files(&self, digest: &Digest) -> store::Result<Vec<BlobFile>> {
        let pieces = self.0.blobs.get(digest);
        let pieces = pieces.ok_or(store::Error::BlobMissing { digest: *digest })?;
        let mut found = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let Some(file) = self.0.set.files().get(piece.file) else { continue };
            if let Some(stamp) = file.read_stamp(piece.offset + piece.length)? {
                found.push(BlobFile { path: file.path().to_owned(), stamp });
            }
        }
        Ok(found)
    }

    fn check_media(&self) -> store::Result<()> {
        self.0.set.files().iter().try_for_each(crate::BundleFile::check_medium)
    }
}

/// Reads one piece after the other. [`Reader`] stops at the end of the range.
struct PieceReader {
    segments: Vec<(crate::BundleFile, BlobPiece)>,
    at: usize,
    /// Where in the blob the next byte is.
    position: u64,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((file, piece)) = self.segments.get(self.at) {
            // Never negative: pieces are sorted and without gaps, and the first one was chosen to
            // begin at or before the position.
            let within = self.position - piece.blob_offset;
            if within >= piece.length {
                self.at += 1;
                continue;
            }
            let length = (piece.length - within).min(buffer.len() as u64) as usize;
            file.data().read_exact_at(&mut buffer[..length], piece.offset + within).map_err(
                |cause| {
                    // A file that was cut off says what it lacks, not only that it ended.
                    match file.read_stamp(piece.offset + piece.length) {
                        Err(cut) => io::Error::new(cause.kind(), cut),
                        Ok(_) => io::Error::new(
                            cause.kind(),
                            format!("{}: {cause}", file.path().display()),
                        ),
                    }
                },
            )?;
            self.position += length as u64;
            return Ok(length);
        }
        Ok(0)
    }
}

/// The pieces of each blob, sorted by their offset in the blob.
type PiecesByBlob = HashMap<Digest, Vec<BlobPiece>>;

/// The blobs of which all pieces are in the set, and those of which only some are.
fn locate_pieces(set: &BundleFileSet) -> (PiecesByBlob, PiecesByBlob) {
    let mut blobs: PiecesByBlob = HashMap::new();
    for (volume, opened) in set.files().iter().enumerate() {
        for entry in opened.index().entries.iter().filter(|entry| entry.kind.is_blob()) {
            blobs.entry(entry.blob).or_default().push(BlobPiece {
                file: volume,
                offset: entry.offset,
                blob_offset: entry.blob_offset,
                length: entry.length,
                blob_size: entry.blob_size,
            });
        }
    }
    for pieces in blobs.values_mut() {
        pieces.sort_by_key(|piece| piece.blob_offset);
    }
    blobs.into_iter().partition(|(_, pieces)| is_complete_blob(pieces))
}

/// Whether the pieces make up the blob, one behind the other, and agree on its length.
fn is_complete_blob(pieces: &[BlobPiece]) -> bool {
    let size = pieces.first().map_or(0, |piece| piece.blob_size);
    let mut next = 0;
    for piece in pieces {
        if piece.blob_offset != next || piece.blob_size != size {
            return false;
        }
        next += piece.length;
    }
    next == size
}

/// Whether all manifests are in the set. Manifests come before all other blobs, so they are
/// complete when no file is missing up to the first one that holds any other blob.
fn has_all_documents(set: &BundleFileSet) -> bool {
    for (number, volume) in (1..).zip(set.files()) {
        if volume.end_record().number != number {
            return false;
        }
        if volume.index().entries.iter().any(|entry| entry.kind == BundleEntryKind::Blob) {
            return true;
        }
    }
    set.missing_numbers().is_empty()
}

fn parse_roots(first: &crate::BundleFile, bytes: &[u8]) -> Result<Vec<Root>> {
    let layout: Layout = document::parse_document(first.path(), "index.json", bytes)?;
    let root = |descriptor| {
        Root::from_descriptor(descriptor).ok_or_else(|| {
            document::invalid_document(first.path(), "index.json", "has an entry without a name")
        })
    };
    let mut roots: Vec<Root> = layout.manifests.iter().map(root).collect::<Result<_>>()?;
    roots.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(roots)
}
