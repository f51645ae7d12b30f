//! What goes over the streams between Gantry here and Gantry in a seeder pod.
//!
//! ```text
//!  here ── order (length, JSON) ─────────────────────────────▶ stdin of the pod
//!       ◀─ hello, then requests (id, digest, start, length) ── stdout
//!       ── answers (id, status, length, bytes) ──────────────▶ stdin
//!       ◀─ events, a line of JSON each (see `event`) ───────── stderr
//! ```
//!
//! Numbers are big-endian. The pod asks for pieces of at most [`PIECE`] bytes and keeps several on
//! the way, so that the way through the API server is always full; each request has one answer, in
//! the order of the requests. Neither side believes the other: lengths are bounded before anything
//! is allocated, only blobs of the order are given, and the pod hashes all that it writes.

use std::io::{self, Read, Write};

use types::Digest;

/// The first bytes from the pod: which protocol its Gantry speaks.
pub(super) const HELLO: &[u8; 8] = b"gantry-1";
/// Bytes in one answer.
pub(super) const PIECE: u32 = 1 << 20;
/// The longest order: the paths of a hundred thousand files.
pub(super) const LONGEST_ORDER: u32 = 64 << 20;
/// The longest text that tells what went wrong with a request.
pub(super) const LONGEST_WORDS: usize = 4096;

/// Bytes of a request.
pub(super) const REQUEST: usize = 4 + 32 + 8 + 4;
/// Bytes before those of an answer.
pub(super) const HEAD: usize = 4 + 1 + 4;

/// A piece of a blob that the pod asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) id: u32,
    pub(super) digest: Digest,
    pub(super) start: u64,
    pub(super) length: u32,
}

impl Request {
    pub(super) fn to_bytes(self) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        bytes[..4].copy_from_slice(&self.id.to_be_bytes());
        bytes[4..36].copy_from_slice(self.digest.as_bytes());
        bytes[36..44].copy_from_slice(&self.start.to_be_bytes());
        bytes[44..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; REQUEST]) -> Self {
        let (id, rest) = split::<4, _>(bytes);
        let (digest, rest) = split::<32, _>(rest);
        let (start, rest) = split::<8, _>(rest);
        let (length, _) = split::<4, _>(rest);
        Self {
            id: u32::from_be_bytes(id),
            digest: Digest::from_bytes(digest),
            start: u64::from_be_bytes(start),
            length: u32::from_be_bytes(length),
        }
    }
}

/// What stands before the bytes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u32,
    /// Whether the bytes are the piece; else they are words that say why not.
    pub(super) is_piece: bool,
    pub(super) length: u32,
}

impl Head {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&self.id.to_be_bytes());
        bytes[4] = u8::from(!self.is_piece);
        bytes[5..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; HEAD]) -> io::Result<Self> {
        let (id, rest) = split::<4, _>(bytes);
        let (status, rest) = split::<1, _>(rest);
        let (length, _) = split::<4, _>(rest);
        let length = u32::from_be_bytes(length);
        if length > PIECE || status[0] > 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer that is none"));
        }
        Ok(Self { id: u32::from_be_bytes(id), is_piece: status[0] == 0, length })
    }
}

/// Writes the order: its length, then its JSON.
pub(super) fn order_bytes(json: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= LONGEST_ORDER);
    let length = length
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "too many files for one push"))?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(json);
    Ok(bytes)
}

/// Reads the order's JSON.
pub(super) fn read_order(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST_ORDER {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an order that is too long"));
    }
    let mut json = vec![0; length as usize];
    reader.read_exact(&mut json)?;
    Ok(json)
}

/// Says hello.
pub(super) fn hello(writer: &mut impl Write) -> io::Result<()> {
    writer.write_all(HELLO)?;
    writer.flush()
}

fn split<const N: usize, T: AsRef<[u8]> + ?Sized>(bytes: &T) -> ([u8; N], &[u8]) {
    let bytes = bytes.as_ref();
    let mut first = [0; N];
    let at = N.min(bytes.len());
    first[..at].copy_from_slice(&bytes[..at]);
    (first, &bytes[at..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use store::hash::sha256;

    #[test]
    fn requests_and_answers_come_out_as_they_went_in() {
        let request = Request { id: 7, digest: sha256(b"x"), start: 1 << 40, length: PIECE };
        assert_eq!(Request::parse(&request.to_bytes()), request);
        let head = Head { id: 9, is_piece: false, length: 12 };
        assert_eq!(Head::parse(&head.to_bytes()).unwrap(), head);
        let long = Head { id: 9, is_piece: true, length: PIECE + 1 };
        assert!(Head::parse(&long.to_bytes()).is_err());
    }

    #[test]
    fn an_order_is_bounded_before_it_is_read() {
        let bytes = order_bytes(b"{}").unwrap();
        assert_eq!(read_order(&mut bytes.as_slice()).unwrap(), b"{}");
        let endless = u32::MAX.to_be_bytes();
        assert!(read_order(&mut endless.as_slice()).is_err());
    }
}
