//! How a bundle file is laid out as a tar archive: block sizes, headers, names, fixed lengths.
//!
//! Everything here is a pure function of the plan, so that the same lock and store give the same
//! bytes, and so that verification can compute every header byte from the index alone.

use types::DigestAlgorithm;

use crate::{Error, Result};

/// A tar block (POSIX.1-2017 pax, "ustar Interchange Format").
pub(crate) const BLOCK: u64 = 512;

/// Two zero blocks end a tar archive (same specification). No more are written, so that the end
/// record is at a fixed distance from the end of the file.
pub(crate) const TRAILER: u64 = 2 * BLOCK;

/// The length of the end: a header, the end record's block, and the trailer.
pub(crate) const END_LENGTH: u64 = 2 * BLOCK + TRAILER;

/// The end record's data begins this many bytes before the end of the file.
pub(crate) const END_FROM_END: u64 = BLOCK + TRAILER;

/// The longest name in a header, in bytes.
const MOST_NAME: usize = 100;

/// The name of an entry that holds the name of the entry after it (GNU tar manual, "Basic Tar Format").
const LONG_NAME: &str = "././@LongLink";

/// The bytes that such an entry takes: its header, and a block for a name of at most 511 bytes.
pub(crate) const LONG_NAME_LENGTH: u64 = 2 * BLOCK;

/// The time stamp of every entry: 1980-01-01. It is the first one that FAT can store, and late
/// enough that GNU tar does not warn about an implausibly old time.
const TIME: u64 = 315_532_800;

/// The name of the first entry of every bundle file.
pub(crate) const VOLUME_NAME: &str = "gantry/volume.json";

/// The name of the index.
pub(crate) const INDEX_NAME: &str = "gantry/index";

/// The name of the end record.
pub(crate) const END_NAME: &str = "gantry/end";

/// The content of `oci-layout` (OCI Image Spec 1.1, image-layout.md).
pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// `length` rounded up to whole blocks. Lengths near `u64::MAX` do not occur: callers have bounded
/// them by the length of the file before.
pub(crate) const fn padded_length(length: u64) -> u64 {
    length.next_multiple_of(BLOCK)
}

/// The bytes that an entry with a short name takes in the tar archive: header, data, padding.
pub(crate) const fn entry_length(length: u64) -> u64 {
    BLOCK + padded_length(length)
}

/// The header of an entry. Sizes of 8 GiB and more do not fit the octal field; they are written in base
/// 256, which GNU tar, bsdtar, busybox, Go and Python can read. They also read a name of more than 100
/// bytes from an entry of type `L` before the header (GNU tar manual, "Basic Tar Format"); busybox reads
/// no other form of long names.
pub(crate) fn build_tar_header(name: &str, length: u64) -> Result<Vec<u8>> {
    if name.len() <= MOST_NAME {
        return Ok(build_block(name, length, tar::EntryType::Regular)?.to_vec());
    }
    let mut bytes = Vec::with_capacity((LONG_NAME_LENGTH + BLOCK) as usize);
    // The name ends with a zero byte, which counts.
    let stored = name.len() as u64 + 1;
    bytes.extend_from_slice(&build_block(LONG_NAME, stored, tar::EntryType::GNULongName)?);
    bytes.extend_from_slice(name.as_bytes());
    bytes.resize((BLOCK + padded_length(stored)) as usize, 0);
    // What a program sees that does not know the type `L`. Names are ASCII.
    let first = name.get(..MOST_NAME).unwrap_or_default();
    bytes.extend_from_slice(&build_block(first, length, tar::EntryType::Regular)?);
    Ok(bytes)
}

/// One block of a header.
fn build_block(name: &str, length: u64, kind: tar::EntryType) -> Result<[u8; BLOCK as usize]> {
    let failed = |cause| Error::Write { what: format!("the header of {name}"), cause };
    let mut header = tar::Header::new_ustar();
    match header.as_ustar_mut() {
        // The library's `set_path` would split a name at a slash, and drop the dot of `././`.
        Some(fields) if name.len() <= fields.name.len() => {
            fields.name[..name.len()].copy_from_slice(name.as_bytes());
        }
        _ => return Err(failed(std::io::ErrorKind::InvalidFilename.into())),
    }
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    header.set_entry_type(kind);
    header.set_size(length);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Pads JSON with spaces to whole blocks. `reserve` is the length of the longest variant of the
/// document: so a document that contains the size of its own bundle file has a length that does not
/// depend on that size.
pub(crate) fn pad_document(mut json: Vec<u8>, reserve: u64) -> Vec<u8> {
    let length = padded_length(reserve.max(json.len() as u64 + 1)) as usize;
    json.resize(length - 1, b' ');
    json.push(b'\n');
    json
}

/// The bytes of an entry before its data, by the algorithm of its digest: the tar header, and before it
/// the name of a sha512, which is too long for the header (141 bytes or more). All other names fit, the
/// longest is a piece's of a sha256 with 98.
pub(crate) fn entry_header_length(algorithm: DigestAlgorithm) -> u64 {
    match algorithm {
        DigestAlgorithm::Sha256 => BLOCK,
        DigestAlgorithm::Sha512 => LONG_NAME_LENGTH + BLOCK,
    }
}
