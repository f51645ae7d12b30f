//! The index of a bundle file: the kind, offset, length and hash of every entry, as fixed records.
//!
//! The bytes may be hostile. A parsed [`BundleIndex`] covers its file without gaps or overlaps, and no
//! count or length is used before it was bounded by the bytes that are there.

use types::{Digest, DigestAlgorithm};

use crate::BundleFileFault;
use crate::end_record::{read_bytes_at, read_u16_at, read_u32_at, read_u64_at};
use crate::tar_layout::{entry_header_length, padded_length};

const MAGIC: &[u8; 8] = b"gntryidx";
const HEAD: usize = 32;
const RECORD: usize = 128;
/// A record has this many bytes of its digest; those of a longer one go on behind the names.
const RECORD_DIGEST: usize = 32;
/// The rest of a sha512.
const DIGEST_REST: usize = 64 - RECORD_DIGEST;
/// The numbers of the algorithms in a record.
const SHA256: u16 = 0;
const SHA512: u16 = 1;
/// The most entries in one bundle file: an index of 12.8 MB. With more entries the next file
/// begins, so that opening a file never needs more memory than this.
pub(crate) const MAX_ENTRIES: usize = 100_000;
/// The longest root name in an index, in bytes. (There are never more names than entries.)
const MAX_NAME: usize = 1024;
/// The longest index that is read.
pub(crate) const MAX_INDEX: u64 = 64 << 20;
/// No file is longer than this: a file offset (POSIX `off_t`) is a signed 64-bit number.
pub(crate) const MAX_LENGTH: u64 = i64::MAX.cast_unsigned();
/// The root number of an entry that belongs to no root.
const NO_ROOT: u32 = u32::MAX;

/// The kind of an entry. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum BundleEntryKind {
    /// `gantry/volume.json`: which file of which bundle this is.
    Volume = 1,
    /// `oci-layout`.
    OciLayout = 2,
    /// `index.json`: the roots.
    Roots = 3,
    /// `gantry/lock.yaml`.
    Lock = 4,
    /// `gantry/base.json`: the receipt that a delta is based on. Reserved, not written yet.
    Base = 5,
    /// A blob that is a manifest or an image index, or a piece of one. All of them come before all
    /// other blobs.
    Document = 6,
    /// Any other blob, or a piece of one.
    Blob = 7,
    /// `gantry/bundle.json`: the bundle's manifest, in the last file.
    Bundle = 8,
}

impl BundleEntryKind {
    fn parse(number: u16) -> Result<Self, BundleFileFault> {
        Ok(match number {
            1 => Self::Volume,
            2 => Self::OciLayout,
            3 => Self::Roots,
            4 => Self::Lock,
            5 => Self::Base,
            6 => Self::Document,
            7 => Self::Blob,
            8 => Self::Bundle,
            _ => {
                return Err(BundleFileFault::Newer { what: format!("bundle entry kind {number}") });
            }
        })
    }

    /// Whether the entry is a blob or a piece of one.
    pub fn is_blob(self) -> bool {
        matches!(self, Self::Document | Self::Blob)
    }
}

/// One entry of a bundle file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleEntry {
    /// The kind of the entry.
    pub kind: BundleEntryKind,
    /// Where its data begins in the file.
    pub offset: u64,
    /// The length of its data in bytes.
    pub length: u64,
    /// The BLAKE3 hash of its data.
    pub hash: blake3::Hash,
    /// The digest of the blob that the data is, or is a piece of; all zero for other kinds.
    pub blob: Digest,
    /// Where in the blob the data begins.
    pub blob_offset: u64,
    /// The length of the whole blob in bytes.
    pub blob_size: u64,
    /// The first root, by name, that needs the blob: a position in [`BundleIndex::roots`].
    pub root: Option<u32>,
}

/// All entries of a bundle file in their order in the file, except the index itself and the end
/// record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleIndex {
    /// The entries.
    pub entries: Vec<BundleEntry>,
    /// The full names of the roots that blobs of this file belong to, so that a report of damage
    /// can name the root with nothing but this file.
    pub roots: Vec<String>,
}

impl BundleIndex {
    /// The length of an index with so many entries, of which `long` have a sha512, and these names. The
    /// plan needs it before hashes are known.
    pub(crate) fn encoded_length(entries: usize, long: usize, roots: &[String]) -> u64 {
        let names: usize = roots.iter().map(|name| 2 + name.len()).sum();
        (HEAD + entries * RECORD + names + long * DIGEST_REST) as u64
    }

    /// How many entries have a sha512.
    pub(crate) fn count_long_digests(&self) -> usize {
        self.entries.iter().filter(|entry| entry.has_long_digest()).count()
    }

    /// The bytes of the index.
    pub fn encode(&self) -> Vec<u8> {
        let long = self.count_long_digests();
        let length = Self::encoded_length(self.entries.len(), long, &self.roots);
        let mut bytes = Vec::with_capacity(length as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.roots.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(long as u32).to_le_bytes());
        bytes.resize(HEAD, 0);
        for entry in &self.entries {
            entry.encode(&mut bytes);
        }
        for name in &self.roots {
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
        for entry in self.entries.iter().filter(|entry| entry.has_long_digest()) {
            bytes.extend_from_slice(&entry.blob.as_bytes()[RECORD_DIGEST..]);
        }
        bytes
    }

    /// Parses the index whose own tar header is at `header_offset` in the bundle file. The entries
    /// must cover everything before that offset.
    pub fn parse(bytes: &[u8], header_offset: u64) -> Result<Self, BundleFileFault> {
        let wrong = |reason: &str| BundleFileFault::IndexWrong { reason: reason.into() };
        if bytes.get(..8) != Some(MAGIC) {
            return Err(wrong("it does not begin with the bytes of an index"));
        }
        // Below this bound, sums of offsets and lengths cannot overflow a u64.
        if header_offset > MAX_LENGTH {
            return Err(wrong("it is further into the file than any file is long"));
        }
        if bytes.len() < HEAD || bytes[20..HEAD].iter().any(|byte| *byte != 0) {
            return Err(wrong("its head is not valid"));
        }
        let count = read_u32_at(bytes, 8) as usize;
        let names = read_u32_at(bytes, 12) as usize;
        let long = read_u32_at(bytes, 16) as usize;
        // Each name belongs to at least one entry, so there are never more names than entries.
        if count > MAX_ENTRIES || names > count || long > count {
            return Err(wrong("it lists more entries than a bundle file can have"));
        }
        let table = HEAD + count * RECORD;
        let Some(records) = bytes.get(HEAD..table) else {
            return Err(wrong("it is shorter than its number of entries needs"));
        };
        let rests = bytes.len().checked_sub(long * DIGEST_REST).filter(|start| *start >= table);
        let Some(rests) = rests else {
            return Err(wrong("it is shorter than its number of sha512 digests needs"));
        };
        let roots = parse_root_names(&bytes[table..rests], names)?;
        let mut rests = bytes[rests..].chunks_exact(DIGEST_REST);
        let mut entries = Vec::with_capacity(count);
        let mut next = 0;
        for record in records.chunks_exact(RECORD) {
            let entry = BundleEntry::parse(record, roots.len(), &mut rests)?;
            let header = entry_header_length(entry.blob.algorithm());
            // The length is compared on its own before it is used in a sum.
            if entry.offset != next + header || entry.length > header_offset {
                return Err(wrong("its entries have gaps or overlaps"));
            }
            next = entry.offset + padded_length(entry.length);
            if next > header_offset {
                return Err(wrong("an entry reaches into the index"));
            }
            entries.push(entry);
        }
        if rests.next().is_some() {
            return Err(wrong("it has the digest of an entry that it does not list"));
        }
        if next != header_offset {
            return Err(wrong("its entries end before the index begins"));
        }
        if entries.first().is_none_or(|entry| entry.kind != BundleEntryKind::Volume) {
            return Err(wrong("its first entry is not volume.json"));
        }
        Ok(Self { entries, roots })
    }

    /// The name of the root that the entry belongs to.
    pub fn root_name(&self, entry: &BundleEntry) -> Option<&str> {
        self.roots.get(entry.root? as usize).map(String::as_str)
    }
}

fn parse_root_names(mut rest: &[u8], count: usize) -> Result<Vec<String>, BundleFileFault> {
    let wrong = || BundleFileFault::IndexWrong { reason: "its root names are not valid".into() };
    let mut names = Vec::new();
    for _ in 0..count {
        let length = usize::from(read_u16_at(rest, 0));
        if length == 0 || length > MAX_NAME {
            return Err(wrong());
        }
        let name = rest.get(2..2 + length).ok_or_else(wrong)?;
        names.push(std::str::from_utf8(name).map_err(|_| wrong())?.to_owned());
        rest = &rest[2 + length..];
    }
    if rest.is_empty() { Ok(names) } else { Err(wrong()) }
}

impl BundleEntry {
    fn encode(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.extend_from_slice(&(self.kind as u16).to_le_bytes());
        let algorithm = if self.has_long_digest() { SHA512 } else { SHA256 };
        bytes.extend_from_slice(&algorithm.to_le_bytes());
        bytes.extend_from_slice(&self.root.unwrap_or(NO_ROOT).to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(self.hash.as_bytes());
        bytes.extend_from_slice(&self.blob.as_bytes()[..RECORD_DIGEST]);
        bytes.extend_from_slice(&self.blob_offset.to_le_bytes());
        bytes.extend_from_slice(&self.blob_size.to_le_bytes());
        bytes.resize(start + RECORD, 0);
    }

    /// Whether the digest goes on behind the names.
    fn has_long_digest(&self) -> bool {
        self.blob.algorithm() == DigestAlgorithm::Sha512
    }

    /// Parses a record; `rests` are what follows of the long digests, in the order of the records.
    fn parse<'a>(
        record: &[u8],
        roots: usize,
        rests: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, BundleFileFault> {
        let wrong = |reason: &str| BundleFileFault::IndexWrong { reason: reason.into() };
        let blob = match read_u16_at(record, 2) {
            SHA256 => Digest::Sha256(read_bytes_at(record, 56)),
            SHA512 => {
                let rest = rests.next();
                let rest = rest.ok_or_else(|| wrong("it lists more sha512 digests than it has"))?;
                let mut hash = [0; RECORD_DIGEST + DIGEST_REST];
                hash[..RECORD_DIGEST].copy_from_slice(&record[56..56 + RECORD_DIGEST]);
                hash[RECORD_DIGEST..].copy_from_slice(rest);
                Digest::Sha512(hash)
            }
            other => {
                return Err(BundleFileFault::Newer { what: format!("digest algorithm {other}") });
            }
        };
        let root = read_u32_at(record, 4);
        let entry = Self {
            kind: BundleEntryKind::parse(read_u16_at(record, 0))?,
            offset: read_u64_at(record, 8),
            length: read_u64_at(record, 16),
            hash: blake3::Hash::from_bytes(read_bytes_at(record, 24)),
            blob,
            blob_offset: read_u64_at(record, 88),
            blob_size: read_u64_at(record, 96),
            root: (root != NO_ROOT).then_some(root),
        };
        // The rest of a record is reserved and zero; a later format may use it.
        if record[104..].iter().any(|byte| *byte != 0) {
            return Err(BundleFileFault::Newer { what: "a later index format".into() });
        }
        if entry.root.is_some_and(|root| root as usize >= roots) {
            return Err(wrong("an entry belongs to a root that has no name"));
        }
        let is_within = entry
            .blob_offset
            .checked_add(entry.length)
            .is_some_and(|end| if entry.kind.is_blob() { end <= entry.blob_size } else { true });
        let is_plain = entry.blob_offset == 0
            && entry.blob_size == 0
            && !entry.has_long_digest()
            && entry.blob.as_bytes().iter().all(|byte| *byte == 0);
        if !is_within || (!entry.kind.is_blob() && !is_plain) {
            return Err(wrong("an entry is not within its blob"));
        }
        // An empty blob is one entry of length 0; an empty piece of a longer blob would let one
        // file have any number of entries for it.
        if entry.kind.is_blob() && entry.length == 0 && entry.blob_size != 0 {
            return Err(wrong("an entry is an empty piece of a blob"));
        }
        Ok(entry)
    }
}
