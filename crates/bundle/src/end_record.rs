//! The end record: one block at a fixed distance from the end of a bundle file, where reading
//! starts.

use crate::BundleFileFault;
use crate::bundle_id::BundleId;
use crate::format::FORMAT;
use crate::tar_layout::BLOCK;

/// The first bytes. As in PNG's signature, the line break and the control byte reveal a copy in
/// text mode, which would change them.
const MAGIC: &[u8; 16] = b"gantry-volume\r\n\x1a";

/// The bytes before this offset are covered by the record's own BLAKE3 hash, which follows them.
const CHECKED: usize = 128;

/// The bytes before this offset are what a future signature will sign.
const SIGNED: usize = 160;

/// The kind of signature that the format reserves a field for.
const MINISIGN: u16 = 1;

/// The critical feature of a file whose index has sha512 digests.
const SHA512: u32 = 1 << 2;

/// The critical features that this version can read. Bit 0 is `delta`, bit 1 is `dense`; neither is
/// implemented.
const KNOWN_FEATURES: u32 = SHA512;

/// The names of the critical features that the format defines, by bit.
const FEATURES: [&str; 3] = ["delta", "dense", "sha512"];

/// The end record of a bundle file (`docs/formats/bundle.md`, "The end record").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRecord {
    /// This file's number, from 1.
    pub number: u32,
    /// How many files the bundle has.
    pub count: u32,
    /// Where the index's data begins in the file.
    pub index_offset: u64,
    /// The index's length in bytes.
    pub index_length: u64,
    /// The BLAKE3 hash of the index.
    pub index_hash: blake3::Hash,
    /// The bundle that the file belongs to.
    pub bundle: BundleId,
    /// The whole file's length in bytes.
    pub length: u64,
    /// Whether the index has sha512 digests.
    pub has_long_digests: bool,
}

impl EndRecord {
    /// The record as one tar block.
    pub fn encode(&self) -> [u8; BLOCK as usize] {
        let mut block = [0; BLOCK as usize];
        block[..16].copy_from_slice(MAGIC);
        block[16..20].copy_from_slice(&FORMAT.to_le_bytes());
        let features = if self.has_long_digests { SHA512 } else { 0 };
        block[20..24].copy_from_slice(&features.to_le_bytes());
        // 24..28 other features: none yet.
        block[28..32].copy_from_slice(&self.number.to_le_bytes());
        block[32..36].copy_from_slice(&self.count.to_le_bytes());
        block[40..48].copy_from_slice(&self.index_offset.to_le_bytes());
        block[48..56].copy_from_slice(&self.index_length.to_le_bytes());
        block[56..88].copy_from_slice(self.index_hash.as_bytes());
        block[88..120].copy_from_slice(&self.bundle.0);
        block[120..128].copy_from_slice(&self.length.to_le_bytes());
        let hash = blake3::hash(&block[..CHECKED]);
        block[CHECKED..SIGNED].copy_from_slice(hash.as_bytes());
        block
    }

    /// Parses the block of a file of `length` bytes. All offsets and lengths in the result are
    /// within the file.
    pub fn parse(block: &[u8; BLOCK as usize], length: u64) -> Result<Self, BundleFileFault> {
        if &block[..16] != MAGIC {
            return Err(BundleFileFault::NoEnd);
        }
        if blake3::hash(&block[..CHECKED]).as_bytes() != &block[CHECKED..SIGNED] {
            return Err(BundleFileFault::EndDamaged);
        }
        // The hash is right, so from here on a surprising value is a newer format, not damage.
        let format = read_u32_at(block, 16);
        if format > FORMAT {
            return Err(BundleFileFault::Newer { what: format!("bundle format {format}") });
        }
        let features = read_u32_at(block, 20);
        let unknown = features & !KNOWN_FEATURES;
        if unknown != 0 {
            return Err(BundleFileFault::Newer { what: feature_names(unknown) });
        }
        check_signature(block)?;
        let end = Self {
            number: read_u32_at(block, 28),
            count: read_u32_at(block, 32),
            index_offset: read_u64_at(block, 40),
            index_length: read_u64_at(block, 48),
            index_hash: blake3::Hash::from_bytes(read_bytes_at(block, 56)),
            bundle: BundleId(read_bytes_at(block, 88)),
            length: read_u64_at(block, 120),
            has_long_digests: features & SHA512 != 0,
        };
        end.check_bounds(format, length)?;
        Ok(end)
    }

    fn check_bounds(&self, format: u32, length: u64) -> Result<(), BundleFileFault> {
        let index_end = self.index_offset.checked_add(self.index_length);
        // No format before 1 exists, and newer ones were refused above.
        let is_sound = format == FORMAT
            && self.length == length
            && self.number >= 1
            && self.number <= self.count
            && index_end.is_some_and(|end| end <= length);
        if is_sound { Ok(()) } else { Err(BundleFileFault::EndDamaged) }
    }
}

/// The signature field follows the signed bytes. This version writes no signature and checks none,
/// but can read a bundle file that has one.
fn check_signature(block: &[u8; BLOCK as usize]) -> Result<(), BundleFileFault> {
    let is_empty = block[SIGNED + 2..].iter().all(|byte| *byte == 0);
    match read_u16_at(block, SIGNED) {
        0 if is_empty => Ok(()),
        MINISIGN if !is_empty => Ok(()),
        kind if kind > MINISIGN && !is_empty => {
            Err(BundleFileFault::Newer { what: format!("bundle signature {kind}") })
        }
        _ => Err(BundleFileFault::EndDamaged),
    }
}

fn feature_names(bits: u32) -> String {
    let names: Vec<String> = (0..u32::BITS as usize)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| match FEATURES.get(bit) {
            Some(name) => (*name).to_owned(),
            None => format!("number {bit}"),
        })
        .collect();
    format!("bundle feature {}", names.join(", "))
}

/// Reads a field of a fixed block. Callers give offsets within the block; what is outside reads
/// as zero instead of panicking. Integers are little-endian.
pub(crate) fn read_bytes_at<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    if let Some(found) = block.get(at..at + N) {
        bytes.copy_from_slice(found);
    }
    bytes
}

pub(crate) fn read_u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(read_bytes_at(block, at))
}

pub(crate) fn read_u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(read_bytes_at(block, at))
}

pub(crate) fn read_u64_at(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(read_bytes_at(block, at))
}
