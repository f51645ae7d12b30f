//! The plan of a bundle: every bundle file, and every entry with its offset, before the first byte
//! is written. It depends on nothing but the roots, the lock, the name, the version and the file
//! size, so the same lock and store give byte-identical files.

use std::collections::{HashMap, HashSet};

use store::{RootClosure, Source};
use types::{ByteSize, Descriptor, Digest, DigestAlgorithm, Index as Layout};

use crate::document::{BundleFileDocument, BundleManifest};
use crate::index::{BundleEntry, BundleEntryKind, BundleIndex, MAX_ENTRIES, MAX_LENGTH};
use crate::pack_plan::{BundleContents, BundleFileSize, BundleName, PackPlan, PlannedBundleFile};
use crate::tar_layout::{
    BLOCK, END_LENGTH, OCI_LAYOUT, entry_header_length, entry_length, padded_length,
};
use crate::{BundleId, Error, FORMAT, Result};

/// The most bundle files: four digits number them in file names.
pub(crate) const MAX_VOLUMES: u32 = 9999;

/// The smallest file size that may be asked for: tar headers and the index take about 7 KiB of it.
const MIN_VOLUME: u64 = 64 << 10;

/// A blob is not split to fill less free space than this; the next file begins instead. (Where
/// files are tiny, it is a quarter of the file.)
const MIN_PIECE: u64 = 1 << 20;

/// The longest root name that the index can hold; longer ones do not occur in practice and are left
/// out of it.
const MAX_ROOT_NAME: usize = 1024;

/// Plans a bundle. Reads the manifests of the source and looks up the sizes of blobs; reads no
/// other blob.
pub fn plan_files(
    source: &dyn Source,
    contents: BundleContents,
    naming: BundleName,
    size: BundleFileSize,
) -> Result<PackPlan> {
    let mut roots = contents.roots;
    roots.sort_by(|a, b| a.name.cmp(&b.name));
    roots.dedup_by(|a, b| a.name == b.name);
    let closures: Vec<RootClosure> =
        roots.iter().map(|root| store::find_closure(source, root)).collect::<Result<_, _>>()?;
    let blobs = order_blobs(&closures);
    let limit = file_size_limit(size)?;
    let layout = Layout {
        manifests: roots.iter().map(|root| root.descriptor.clone()).collect(),
        ..Layout::default()
    };
    let index_json = serde_json::to_vec(&layout)
        .map_err(|error| Error::Write { what: "index.json".into(), cause: error.into() })?;

    let id = compute_bundle_id(&naming, limit, &index_json, &contents.lock, &blobs);
    // The id is known before any file is laid out, since each file carries it.
    let plan = PackPlan { id, naming, files: vec![], roots: index_json, lock: contents.lock };
    let mut planner = PackPlanner::new(plan, limit)?;
    planner.add_documents()?;
    for blob in &blobs {
        planner.add_blob(blob, &roots[blob.root].name.to_string())?;
    }
    planner.finish()
}

/// A blob in the order of the bundle.
struct PlannedBlob {
    kind: BundleEntryKind,
    digest: Digest,
    size: u64,
    /// The first root, by name, that needs it.
    root: usize,
}

/// The blobs in the order of the bundle, each digest once. First the manifests of all roots, so
/// that a reader of the first file knows what every root needs; then the other blobs root by root,
/// so that one root is read in one sequential run.
fn order_blobs(closures: &[RootClosure]) -> Vec<PlannedBlob> {
    let mut seen = HashSet::new();
    let mut blobs = Vec::new();
    let mut add = |kind, root, descriptor: &Descriptor| {
        if seen.insert(descriptor.digest) {
            let Descriptor { digest, size, .. } = *descriptor;
            blobs.push(PlannedBlob { kind, digest, size, root });
        }
    };
    for (root, closure) in closures.iter().enumerate() {
        closure
            .manifests
            .iter()
            .for_each(|manifest| add(BundleEntryKind::Document, root, manifest));
    }
    for (root, closure) in closures.iter().enumerate() {
        closure.blobs.iter().for_each(|blob| add(BundleEntryKind::Blob, root, blob));
    }
    blobs
}

/// The most bytes that a bundle file may have: whole tar blocks, fewer than the requested size.
fn file_size_limit(size: BundleFileSize) -> Result<u64> {
    match size {
        BundleFileSize::Unlimited => Ok(MAX_LENGTH / BLOCK * BLOCK),
        BundleFileSize::Below(ByteSize(size)) if size < MIN_VOLUME => {
            Err(Error::FileTooSmall { size, what: "a bundle", needed: MIN_VOLUME })
        }
        BundleFileSize::Below(ByteSize(size)) => Ok((size - 1).min(MAX_LENGTH) / BLOCK * BLOCK),
    }
}

/// The BLAKE3 hash over everything that determines the plan. Each part is preceded by its length,
/// so that different parts never give the same bytes.
fn compute_bundle_id(
    naming: &BundleName,
    limit: u64,
    index_json: &[u8],
    lock: &[u8],
    blobs: &[PlannedBlob],
) -> BundleId {
    let mut hasher = blake3::Hasher::new_derive_key("gantry bundle plan");
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(&FORMAT.to_le_bytes());
    part(naming.name.as_bytes());
    part(naming.version.as_bytes());
    part(&limit.to_le_bytes());
    part(index_json);
    part(lock);
    for blob in blobs {
        part(blob.digest.as_bytes());
        part(&blob.size.to_le_bytes());
    }
    BundleId(*hasher.finalize().as_bytes())
}

/// Distributes entries over bundle files, one after the other.
struct PackPlanner {
    plan: PackPlan,
    limit: u64,
    min_piece: u64,
    /// The length of `volume.json`, which is the same in all files.
    document_length: u64,
    /// Where the header of the next entry begins.
    position: u64,
    /// The root names in the index of the current file, with their positions.
    slots: HashMap<String, u32>,
    /// How many entries of the current file have a sha512.
    long_digests: usize,
}

impl PackPlanner {
    fn new(plan: PackPlan, limit: u64) -> Result<Self> {
        let document_length = BundleFileDocument::from_plan(&plan, 1, 0).encode()?.len() as u64;
        let min_piece = MIN_PIECE.min(padded_length(limit / 4));
        let slots = HashMap::new();
        let mut planner =
            Self { plan, limit, min_piece, document_length, position: 0, slots, long_digests: 0 };
        planner.begin_file()?;
        Ok(planner)
    }

    fn begin_file(&mut self) -> Result<()> {
        self.end_file();
        if self.plan.files.len() as u32 >= MAX_VOLUMES {
            return Err(Error::TooManyFiles { size: self.limit, most: MAX_VOLUMES });
        }
        let number = self.plan.files.len() as u32 + 1;
        self.plan.files.push(PlannedBundleFile { number, size: 0, index: BundleIndex::default() });
        self.position = 0;
        self.slots.clear();
        self.long_digests = 0;
        self.push_document(BundleEntryKind::Volume, self.document_length);
        Ok(())
    }

    fn end_file(&mut self) {
        let size = self.position + self.tail_length(0, 0, 0);
        if let Some(volume) = self.plan.files.last_mut() {
            volume.size = size;
        }
    }

    /// The bytes that index and end take after the entries, if so many more entries, of which `long` have
    /// a sha512, and bytes of names were added.
    fn tail_length(&self, entries: usize, long: usize, names: u64) -> u64 {
        let Some(volume) = self.plan.files.last() else { return 0 };
        let count = volume.index.entries.len() + entries;
        let long = self.long_digests + long;
        let length = BundleIndex::encoded_length(count, long, &volume.index.roots) + names;
        entry_length(length) + END_LENGTH
    }

    /// How many bytes of data one more entry of this root can have in the current file, with a digest of
    /// this algorithm; `None` when not even its header fits.
    fn available_length(&self, root: &str, algorithm: DigestAlgorithm) -> Option<u64> {
        let entries = self.plan.files.last()?.index.entries.len();
        let name = if self.slots.contains_key(root) { 0 } else { root.len() as u64 + 2 };
        let long = usize::from(algorithm == DigestAlgorithm::Sha512);
        // The entry's own header, and the index with its record and, where it is new, its root's
        // name.
        let header = entry_header_length(algorithm);
        let used = self.position + header + self.tail_length(1, long, name);
        if entries >= MAX_ENTRIES { None } else { self.limit.checked_sub(used) }
    }

    /// Adds the documents of the first file, which must fit into it.
    fn add_documents(&mut self) -> Result<()> {
        let documents = [
            (BundleEntryKind::OciLayout, OCI_LAYOUT.len() as u64),
            (BundleEntryKind::Roots, self.plan.roots.len() as u64),
            (BundleEntryKind::Lock, self.plan.lock.len() as u64),
        ];
        for (kind, length) in documents {
            self.add_document(kind, length, "index.json and gantry.lock")?;
        }
        Ok(())
    }

    fn add_document(
        &mut self,
        kind: BundleEntryKind,
        length: u64,
        what: &'static str,
    ) -> Result<()> {
        if self.document_room().is_none_or(|room| padded_length(length) > room) {
            let needed = self.position + entry_length(length) + self.tail_length(1, 0, 0);
            return Err(Error::FileTooSmall { size: self.limit, what, needed: needed + BLOCK });
        }
        self.push_document(kind, length);
        Ok(())
    }

    /// How many bytes of data one more document can have in the current file.
    fn document_room(&self) -> Option<u64> {
        self.available_length("", DigestAlgorithm::Sha256)
    }

    /// Adds a blob, split over as many files as it needs.
    ///
    /// For example, 10 MiB with 3 MiB of space left and files of 6 MiB become pieces of 3, 6 and 1
    /// MiB (less what headers and indexes take). With less than `min_piece` left, the blob begins
    /// in the next file.
    fn add_blob(&mut self, blob: &PlannedBlob, root: &str) -> Result<()> {
        let root = if root.len() > MAX_ROOT_NAME { "" } else { root };
        let mut place = 0;
        loop {
            let rest = blob.size - place;
            match self.available_length(root, blob.digest.algorithm()) {
                Some(free) if padded_length(rest) <= free => {
                    self.push_blob(blob, place, rest, root);
                    return Ok(());
                }
                // Pieces are whole tar blocks, so that only the last one needs padding.
                Some(free) if free >= self.min_piece => {
                    let piece = free / BLOCK * BLOCK;
                    self.push_blob(blob, place, piece, root);
                    place += piece;
                }
                _ => {}
            }
            self.begin_file()?;
        }
    }

    fn push_blob(&mut self, blob: &PlannedBlob, place: u64, length: u64, root: &str) {
        let slot = self.root_number(root);
        self.push_entry(BundleEntry {
            kind: blob.kind,
            offset: 0,
            length,
            hash: blake3::Hash::from_bytes([0; 32]),
            blob: blob.digest,
            blob_offset: place,
            blob_size: blob.size,
            root: slot,
        });
    }

    fn push_document(&mut self, kind: BundleEntryKind, length: u64) {
        self.push_entry(BundleEntry {
            kind,
            offset: 0,
            length,
            hash: blake3::Hash::from_bytes([0; 32]),
            blob: Digest::Sha256([0; 32]),
            blob_offset: 0,
            blob_size: 0,
            root: None,
        });
    }

    fn push_entry(&mut self, mut entry: BundleEntry) {
        let algorithm = entry.blob.algorithm();
        entry.offset = self.position + entry_header_length(algorithm);
        self.position = entry.offset + padded_length(entry.length);
        self.long_digests += usize::from(algorithm == DigestAlgorithm::Sha512);
        if let Some(volume) = self.plan.files.last_mut() {
            volume.index.entries.push(entry);
        }
    }

    /// The position of the root's name in the index of the current file; adds it where it is new.
    fn root_number(&mut self, root: &str) -> Option<u32> {
        let names = &mut self.plan.files.last_mut()?.index.roots;
        if root.is_empty() {
            return None;
        }
        if let Some(slot) = self.slots.get(root) {
            return Some(*slot);
        }
        let slot = names.len() as u32;
        names.push(root.to_owned());
        self.slots.insert(root.to_owned(), slot);
        Some(slot)
    }

    /// Adds the bundle's manifest to the last file, or to one more file where it does not fit.
    fn finish(mut self) -> Result<PackPlan> {
        let length = BundleManifest::from_plan(&self.plan, &[]).padded_length()?;
        if self.document_room().is_some_and(|room| length <= room) {
            self.push_document(BundleEntryKind::Bundle, length);
        } else {
            self.begin_file()?;
            // One more file is one more line of the manifest: its length must be computed again.
            let length = BundleManifest::from_plan(&self.plan, &[]).padded_length()?;
            self.add_document(BundleEntryKind::Bundle, length, "the list of so many files")?;
        }
        self.end_file();
        Ok(self.plan)
    }
}
