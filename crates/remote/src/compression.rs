//! Detects how a layer or an archive is compressed, by its first bytes, and decompresses it.

use std::io::{self, BufRead, BufReader, Read};

/// How content is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Bytes of one read from a disk: large enough that the cost of a system call does not matter.
const BUFFER: usize = 128 << 10;

impl Compression {
    /// Detects the format by its magic number (RFC 1952 for gzip, RFC 8878 for zstd). Media types
    /// are not asked: archives have none, and in the wild some layers carry a wrong one.
    pub(crate) fn detect(first: &[u8]) -> Self {
        if first.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
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
    };
    Ok((compression, plain))
}
