//! Detects how a layer or an archive is compressed, by its first bytes, and decompresses it.

use std::io::{self, BufRead, BufReader, Read};

use lzma_rust2::XzReader;

/// How content is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
}

/// Bytes of one read from a disk: large enough that the cost of a system call does not matter.
const BUFFER: usize = 128 << 10;

/// The most memory that unpacking xz may take, in KiB: `xz -9` needs 65 MiB. A header can ask for 4 GiB.
const XZ_MEMORY: u32 = 256 << 10;

impl Compression {
    /// Detects the format by its magic number (RFC 1952 for gzip, RFC 8878 for zstd, the .xz file format
    /// 1.2.1 for xz). Media types
    /// are not asked: archives have none, and in the wild some layers carry a wrong one.
    pub(crate) fn detect(first: &[u8]) -> Self {
        if first.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else if first.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Self::Xz
        } else {
            Self::None
        }
    }
}

/// Decompresses `reader`; returns the format that was detected, and a reader of the plain content.
pub(crate) fn decompress<'a>(
    reader: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let compression = Compression::detect(reader.fill_buf()?);
    let plain: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(reader),
        // Layers and archives may have several gzip members (pigz, bgzip).
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        // `xz -T` and pixz may write several streams.
        Compression::Xz => Box::new(XzReader::new_mem_limit(reader, true, XZ_MEMORY)),
    };
    Ok((compression, plain))
}
