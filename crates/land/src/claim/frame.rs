//! The binary format of the streams between Gantry here and Gantry in a seeder pod.
//!
//! ```text
//!  here ── order (length, JSON) ─────────────────────────────▶ stdin of the pod
//!       ◀─ hello, then requests (id, digest, start, length) ── stdout
//!       ── replies (id, status, length, bytes) ──────────────▶ stdin
//!       ◀─ events, a line of JSON each (`SeederEvent`) ─────── stderr
//! ```
//!
//! Numbers are big-endian. A digest is the number of its algorithm (0 sha256, 1 sha512) and 64 bytes,
//! the last 32 of them zero for sha256. The pod asks for pieces of at most [`PIECE`] bytes, several ahead, so that
//! the connection through the API server is always busy; each request has one reply, in the order of
//! the requests. Neither side trusts the other: lengths are checked before anything is allocated,
//! only blobs of the order are sent, and the pod hashes all that it writes.

use std::io::{self, Read, Write};

use types::Digest;

/// The first bytes from the pod: the version of the protocol that its Gantry speaks. Whatever else
/// comes first (a shell's message, an older Gantry) is recognised by not being this.
pub(super) const HELLO: &[u8; 8] = b"gantry-2";
/// The most bytes in one reply: large enough that its 9 bytes of header do not matter, small enough
/// that a window of them is little memory.
pub(super) const PIECE: u32 = 1 << 20;
/// The longest order: enough for the paths of a hundred thousand files.
pub(super) const LONGEST_ORDER: u32 = 64 << 20;
/// The longest error message in a reply.
pub(super) const LONGEST_WORDS: usize = 4096;

/// Bytes of a request: id, digest (its algorithm and 64 bytes), start, length.
pub(super) const REQUEST: usize = 4 + 1 + 64 + 8 + 4;
/// Bytes of a reply's header: id, status, length.
pub(super) const HEAD: usize = 4 + 1 + 4;

/// A request: `length` bytes of a blob from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PieceRequest {
    pub(super) id: u32,
    pub(super) digest: Digest,
    pub(super) start: u64,
    pub(super) length: u32,
}

impl PieceRequest {
    pub(super) fn to_bytes(self) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        bytes[..4].copy_from_slice(&self.id.to_be_bytes());
        bytes[4] = match self.digest {
            Digest::Sha256(_) => 0,
            Digest::Sha512(_) => 1,
        };
        let hash = self.digest.as_bytes();
        bytes[5..5 + hash.len()].copy_from_slice(hash);
        bytes[69..77].copy_from_slice(&self.start.to_be_bytes());
        bytes[77..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; REQUEST]) -> io::Result<Self> {
        let (id, rest) = split_array::<4, _>(bytes);
        let (algorithm, rest) = split_array::<1, _>(rest);
        let (hash, rest) = split_array::<64, _>(rest);
        let (start, rest) = split_array::<8, _>(rest);
        let (length, _) = split_array::<4, _>(rest);
        let (short, tail) = split_array::<32, _>(&hash);
        let digest = match algorithm[0] {
            0 if tail.iter().all(|byte| *byte == 0) => Digest::Sha256(short),
            1 => Digest::Sha512(hash),
            other => {
                let reason =
                    format!("the request has a digest that is not valid (algorithm {other})");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        };
        Ok(Self {
            id: u32::from_be_bytes(id),
            digest,
            start: u64::from_be_bytes(start),
            length: u32::from_be_bytes(length),
        })
    }
}

/// The header of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PieceHeader {
    pub(super) id: u32,
    /// Whether the bytes that follow are the piece (status 0); else they are an error message (1).
    pub(super) is_piece: bool,
    pub(super) length: u32,
}

impl PieceHeader {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&self.id.to_be_bytes());
        bytes[4] = u8::from(!self.is_piece);
        bytes[5..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; HEAD]) -> io::Result<Self> {
        let (id, rest) = split_array::<4, _>(bytes);
        let (status, rest) = split_array::<1, _>(rest);
        let (length, _) = split_array::<4, _>(rest);
        let length = u32::from_be_bytes(length);
        // Before the caller allocates `length` bytes.
        if length > PIECE || status[0] > 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the reply has a header that is not valid: a length or status that cannot be",
            ));
        }
        Ok(Self { id: u32::from_be_bytes(id), is_piece: status[0] == 0, length })
    }
}

/// The bytes of an order: its length, then its JSON.
pub(super) fn encode_order(json: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= LONGEST_ORDER);
    let length = length.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "these models have too many files for one push")
    })?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(json);
    Ok(bytes)
}

/// Reads an order and gives its JSON. The length is checked before memory is allocated for it.
pub(super) fn read_order(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST_ORDER {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the order is longer than 64 MiB"));
    }
    let mut json = vec![0; length as usize];
    reader.read_exact(&mut json)?;
    Ok(json)
}

/// Sends the protocol's version, before anything else.
pub(super) fn send_hello(writer: &mut impl Write) -> io::Result<()> {
    writer.write_all(HELLO)?;
    writer.flush()
}

/// The first `N` bytes as an array, and the rest. A short input is padded with zeros; all callers pass
/// arrays that are long enough.
fn split_array<const N: usize, T: AsRef<[u8]> + ?Sized>(bytes: &T) -> ([u8; N], &[u8]) {
    let bytes = bytes.as_ref();
    let mut first = [0; N];
    let at = N.min(bytes.len());
    first[..at].copy_from_slice(&bytes[..at]);
    (first, &bytes[at..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use store::hash::sha256;

    use super::*;

    #[test]
    fn requests_and_answers_come_out_as_they_went_in() {
        let request = PieceRequest { id: 7, digest: sha256(b"x"), start: 1 << 40, length: PIECE };
        assert_eq!(PieceRequest::parse(&request.to_bytes()).unwrap(), request);
        let mut unknown = request.to_bytes();
        unknown[4] = 2;
        assert!(PieceRequest::parse(&unknown).is_err());
        let head = PieceHeader { id: 9, is_piece: false, length: 12 };
        assert_eq!(PieceHeader::parse(&head.to_bytes()).unwrap(), head);
        let long = PieceHeader { id: 9, is_piece: true, length: PIECE + 1 };
        assert!(PieceHeader::parse(&long.to_bytes()).is_err());
    }

    #[test]
    fn an_order_is_bounded_before_it_is_read() {
        let bytes = encode_order(b"{}").unwrap();
        assert_eq!(read_order(&mut bytes.as_slice()).unwrap(), b"{}");
        let endless = u32::MAX.to_be_bytes();
        assert!(read_order(&mut endless.as_slice()).is_err());
    }

    #[test]
    fn an_order_that_is_cut_off_is_an_error_and_what_follows_it_is_left() {
        let mut bytes = encode_order(b"{}").unwrap();
        for end in 0..bytes.len() {
            assert!(read_order(&mut &bytes[..end]).is_err(), "{end}");
        }
        bytes.extend_from_slice(b"next");
        let mut reader = bytes.as_slice();
        assert_eq!(read_order(&mut reader).unwrap(), b"{}");
        assert_eq!(reader, b"next");
    }

    proptest! {
        #[test]
        fn every_request_reads_back(
            id: u32, short: [u8; 32], long in proptest::collection::vec(any::<u8>(), 64),
            start: u64, length: u32,
        ) {
            for digest in [Digest::Sha256(short), Digest::Sha512(long.try_into().unwrap())] {
                let request = PieceRequest { id, digest, start, length };
                prop_assert_eq!(PieceRequest::parse(&request.to_bytes()).unwrap(), request);
            }
        }

        #[test]
        fn a_header_reads_back_or_is_refused_whatever_the_bytes_are(bytes: [u8; HEAD]) {
            match PieceHeader::parse(&bytes) {
                Ok(header) => {
                    prop_assert!(header.length <= PIECE);
                    prop_assert_eq!(header.to_bytes(), bytes);
                }
                Err(error) => prop_assert_eq!(error.kind(), io::ErrorKind::InvalidData),
            }
        }

        #[test]
        fn an_order_reads_back(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = encode_order(&json).unwrap();
            prop_assert_eq!(read_order(&mut bytes.as_slice()).unwrap(), json);
        }
    }
}
