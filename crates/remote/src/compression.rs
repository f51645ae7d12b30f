//! Telling how bytes are compressed, by their first ones, and undoing it.

use std::io::{self, BufRead, BufReader, Read};

/// How content is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Room for one read from a disk; large enough that the calls do not matter.
const BUFFER: usize = 128 << 10;

impl Compression {
    /// By the magic number: RFC 1952 for gzip, RFC 8878 for zstd.
    pub(crate) fn of(first: &[u8]) -> Self {
        if first.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

/// The content of `reader` without its compression, and what that was.
pub(crate) fn open<'a>(
    reader: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let compression = Compression::of(reader.fill_buf()?);
    let plain: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(reader),
        // Layers and archives may have several gzip members (pigz, bgzip).
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
    };
    Ok((compression, plain))
}
