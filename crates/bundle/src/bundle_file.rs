//! One bundle file, opened by its end record, its index and `volume.json` alone: nothing else of it
//! is read, whatever its length.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::FileStamp;

use crate::document::{BundleFileDocument, MAX_DOCUMENT};
use crate::end_record::EndRecord;
use crate::index::{BundleEntry, BundleEntryKind, BundleIndex, MAX_INDEX};
use crate::read_at::ReadAt;
use crate::tar_layout::{BLOCK, END_FROM_END, END_LENGTH, VOLUME_NAME, padded_length};
use crate::{BundleFileFault, Error, Result};

/// The shortest possible bundle file: `volume.json` and an index (header and one block each), and
/// the end.
const MIN_LENGTH: u64 = 4 * BLOCK + END_LENGTH;

/// An opened bundle file. Its end record and index are checked, the data of its entries is not.
#[derive(Clone)]
pub struct BundleFile {
    path: PathBuf,
    data: Arc<dyn ReadAt>,
    end: EndRecord,
    index: Arc<BundleIndex>,
    document: Option<BundleFileDocument>,
}

impl std::fmt::Debug for BundleFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BundleFile")
            .field("path", &self.path)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl BundleFile {
    /// Opens the bundle file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let read = |cause| Error::Read { what: path.display().to_string(), cause };
        let file = File::open(path).map_err(read)?;
        if !file.metadata().map_err(read)?.is_file() {
            return Err(BundleFileFault::NotABundleFile.into_error(path));
        }
        let data: Arc<dyn ReadAt> = Arc::new(file);
        Self::from_data(path, &data)
    }

    /// Opens a bundle file from anything that can be read at an offset; `path` is its name in
    /// errors.
    pub fn from_data(path: &Path, data: &Arc<dyn ReadAt>) -> Result<Self> {
        let open = || {
            let length = data.length().map_err(unreadable_fault)?;
            let document = read_document(&**data, length)?;
            let (end, index) = read_end_record_and_index(&**data, length)
                .map_err(|fault| explain_fault(fault, length, document.as_ref()))?;
            let index = Arc::new(index);
            Ok(Self { path: path.to_owned(), data: Arc::clone(data), end, index, document })
        };
        open().map_err(|fault: BundleFileFault| fault.into_error(path))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The end record.
    pub fn end_record(&self) -> &EndRecord {
        &self.end
    }

    /// The index.
    pub fn index(&self) -> &BundleIndex {
        &self.index
    }

    /// The index, which outlives the opened file.
    pub(crate) fn shared_index(&self) -> Arc<BundleIndex> {
        Arc::clone(&self.index)
    }

    /// `volume.json`, or `None` where it is damaged.
    pub fn document(&self) -> Option<&BundleFileDocument> {
        self.document.as_ref()
    }

    /// `NAME-VERSION` of the bundle, for messages.
    pub fn bundle_name(&self) -> String {
        match &self.document {
            Some(document) => format!("{}-{}", document.name, document.version),
            None => format!("bundle {}", self.end.bundle),
        }
    }

    /// The state of the file at this moment; `None` for data that are not in a file.
    ///
    /// # Errors
    /// [`store::Error::FileCut`] when the file does not reach to the offset `end` any more.
    pub(crate) fn read_stamp(&self, end: u64) -> store::Result<Option<FileStamp>> {
        let gone = |cause| store::Error::MediumGone { path: self.path.clone(), cause };
        let stamp = self.data.read_stamp().map_err(gone)?;
        if let Some(actual) = stamp.as_ref().map(FileStamp::size).filter(|size| *size < end) {
            let (path, expected) = (self.path.clone(), self.end.length);
            return Err(store::Error::FileCut { path, actual, expected });
        }
        Ok(stamp)
    }

    /// Checks that the file is still found under its path, whole, and on a medium that answers.
    pub(crate) fn check_medium(&self) -> store::Result<()> {
        let gone = |cause| store::Error::MediumGone { path: self.path.clone(), cause };
        let Some(opened) = self.read_stamp(self.end.length)? else { return Ok(()) };
        let named = std::fs::metadata(&self.path).map_err(gone)?;
        if !opened.is_same_file(&FileStamp::from_metadata(&named)) {
            return Err(store::Error::FileReplaced { path: self.path.clone() });
        }
        self.data.probe_medium().map_err(gone)
    }

    /// The bytes of the file.
    pub(crate) fn data(&self) -> &Arc<dyn ReadAt> {
        &self.data
    }

    /// The checked data of the entry of this kind; `None` when the file has none. An entry of more
    /// than `most` bytes is refused, so that a hostile file cannot claim memory.
    pub(crate) fn read_small_entry(
        &self,
        kind: BundleEntryKind,
        most: u64,
    ) -> Result<Option<Vec<u8>>> {
        let Some(entry) = self.index.entries.iter().find(|entry| entry.kind == kind) else {
            return Ok(None);
        };
        if entry.length > most {
            let reason = format!("has {} bytes, which is too long for it", entry.length);
            return Err(crate::document::invalid_document(
                &self.path,
                &crate::entry_name::entry_name(entry),
                reason,
            ));
        }
        self.read_entry(entry).map(Some)
    }

    fn read_entry(&self, entry: &BundleEntry) -> Result<Vec<u8>> {
        // The index was checked when the file was opened: the entry is within the file.
        let mut bytes = vec![0; entry.length as usize];
        self.data
            .read_exact_at(&mut bytes, entry.offset)
            .map_err(|cause| Error::Read { what: self.path.display().to_string(), cause })?;
        if blake3::hash(&bytes) != entry.hash {
            let entry = crate::entry_name::entry_name(entry);
            return Err(Error::Damaged { path: self.path.clone(), entry });
        }
        Ok(bytes)
    }
}

/// Reads `volume.json` at the beginning of the file, which says what the file is even when its end
/// was cut off. `None` when its content is damaged; [`BundleFileFault::NotABundleFile`] when the file does not begin
/// with it.
fn read_document(
    data: &dyn ReadAt,
    length: u64,
) -> Result<Option<BundleFileDocument>, BundleFileFault> {
    let mut block = [0; BLOCK as usize];
    if length < BLOCK {
        return Err(BundleFileFault::NotABundleFile);
    }
    data.read_exact_at(&mut block, 0).map_err(unreadable_fault)?;
    let header = tar::Header::from_byte_slice(&block);
    if &*header.path_bytes() != VOLUME_NAME.as_bytes() || header.as_ustar().is_none() {
        // A damaged first block must not make it some other kind of file: the end record identifies
        // it as well.
        return if has_end_record(data, length) {
            Ok(None)
        } else {
            Err(BundleFileFault::NotABundleFile)
        };
    }
    let size = header.entry_size().unwrap_or(0).min(length - BLOCK);
    if size > MAX_DOCUMENT {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize];
    data.read_exact_at(&mut bytes, BLOCK).map_err(unreadable_fault)?;
    Ok(serde_json::from_slice(&bytes).ok())
}

fn has_end_record(data: &dyn ReadAt, length: u64) -> bool {
    !matches!(
        read_end_record(data, length),
        Err(BundleFileFault::NoEnd | BundleFileFault::Unreadable { .. })
    )
}

fn read_end_record(data: &dyn ReadAt, length: u64) -> Result<EndRecord, BundleFileFault> {
    if length < MIN_LENGTH || !length.is_multiple_of(BLOCK) {
        return Err(BundleFileFault::NoEnd);
    }
    let mut block = [0; BLOCK as usize];
    data.read_exact_at(&mut block, length - END_FROM_END).map_err(unreadable_fault)?;
    EndRecord::parse(&block, length)
}

/// Reads and checks the end record and the index.
fn read_end_record_and_index(
    data: &dyn ReadAt,
    length: u64,
) -> Result<(EndRecord, BundleIndex), BundleFileFault> {
    let end = read_end_record(data, length)?;
    let wrong = |reason: &str| BundleFileFault::IndexWrong { reason: reason.into() };
    if end.index_length > MAX_INDEX {
        return Err(wrong("it is longer than an index may be"));
    }
    if end.index_offset + padded_length(end.index_length) + END_LENGTH != length {
        return Err(wrong("it is not directly before the end record"));
    }
    let header = end.index_offset.checked_sub(BLOCK).ok_or_else(|| wrong("it has no header"))?;
    // The length is bounded twice: by `MAX_INDEX`, and by the file itself.
    let mut bytes = vec![0; end.index_length as usize];
    data.read_exact_at(&mut bytes, end.index_offset).map_err(unreadable_fault)?;
    if blake3::hash(&bytes) != end.index_hash {
        return Err(BundleFileFault::IndexDamaged);
    }
    let index = BundleIndex::parse(&bytes, header)?;
    if end.has_long_digests != (index.count_long_digests() > 0) {
        return Err(wrong("its end record and it differ in whether there are sha512 digests"));
    }
    Ok((end, index))
}

/// Makes a fault more precise where `volume.json` has the facts: a missing end record means a file
/// that was cut off, and a newer format has the version that reads it.
fn explain_fault(
    fault: BundleFileFault,
    actual: u64,
    document: Option<&BundleFileDocument>,
) -> BundleFileFault {
    let Some(document) = document else { return fault };
    match fault {
        BundleFileFault::NoEnd | BundleFileFault::EndDamaged if actual < document.size => {
            BundleFileFault::Cut { actual, expected: document.size }
        }
        BundleFileFault::NoEnd | BundleFileFault::EndDamaged if actual > document.size => {
            BundleFileFault::Longer { actual, expected: document.size }
        }
        BundleFileFault::Newer { what } => {
            // The file may be hostile: repeat only what can be part of a version.
            let needs: String =
                document.needs.chars().take(32).filter(char::is_ascii_graphic).collect();
            BundleFileFault::Newer { what: format!("{what} (gantry {needs} or later)") }
        }
        other => other,
    }
}

fn unreadable_fault(cause: std::io::Error) -> BundleFileFault {
    BundleFileFault::Unreadable { reason: cause.into() }
}
