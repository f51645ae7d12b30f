//! A chart's archive: its `Chart.yaml` read out of the tgz, which a stranger made.

use std::io::{Cursor, Read};
use std::path::Path;

use types::Digest;

use super::Metadata;
use crate::tarball::{self, Kind, Next};
use crate::{Error, Result, compression};

/// Largest archive. Helm reads charts of up to 100 MiB unpacked (pkg/chart/loader/archive.go,
/// `MaxDecompressedChartSize`), which no archive of one exceeds.
pub const MAX_ARCHIVE: u64 = 100 << 20;
/// Largest unpacked archive that is looked through.
const MAX_UNPACKED: u64 = 100 << 20;
/// Largest file of a chart that helm reads (`MaxDecompressedFileSize`).
pub(super) const MAX_FILE: u64 = 5 << 20;

/// A chart's archive in memory, with what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The tgz, bit for bit.
    pub bytes: Vec<u8>,
    /// Its `Chart.yaml`.
    pub metadata: Metadata,
    /// The provenance file, where there is one.
    pub provenance: Option<Vec<u8>>,
}

impl Archive {
    /// An archive from its bytes. `what` is what errors call it.
    pub fn new(what: &str, bytes: Vec<u8>) -> Result<Self> {
        let metadata = metadata(what, &bytes)?;
        Ok(Self { bytes, metadata, provenance: None })
    }

    /// Reads a `.tgz` of this machine, and the `.prov` beside it.
    pub fn read(path: &Path) -> Result<Self> {
        let what = path.display().to_string();
        let mut archive = Self::new(&what, read(path, MAX_ARCHIVE)?)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".prov");
        if Path::new(&beside).is_file() {
            archive.provenance = Some(read(Path::new(&beside), MAX_FILE)?);
        }
        Ok(archive)
    }

    /// The archive's digest.
    pub fn digest(&self) -> Digest {
        store::hash::sha256(&self.bytes)
    }
}

fn metadata(what: &str, bytes: &[u8]) -> Result<Metadata> {
    let not_a_chart = |reason: &str| Error::Local { path: what.into(), reason: reason.to_owned() };
    let (compression, plain) = compression::open(Cursor::new(bytes))
        .map_err(|cause| Error::Read { what: what.to_owned(), cause })?;
    if compression != compression::Compression::Gzip {
        return Err(not_a_chart("it is no gzip archive; `helm package` makes one"));
    }
    let mut found = None;
    tarball::walk(what, plain.take(MAX_UNPACKED), |member, content| {
        let is_chart =
            member.path.ends_with("/Chart.yaml") && member.path.matches('/').count() == 1;
        if !is_chart || member.kind != Kind::File {
            return Ok(Next::Go);
        }
        if member.size > MAX_FILE {
            return Err(Error::TooLarge {
                what: format!("{} of {what}", member.path),
                size: member.size,
                most: MAX_FILE,
            });
        }
        let mut bytes = Vec::with_capacity(member.size as usize);
        content
            .read_to_end(&mut bytes)
            .map_err(|cause| Error::Read { what: what.to_owned(), cause })?;
        found = Some(bytes);
        Ok(Next::Stop)
    })?;
    let bytes = found.ok_or_else(|| not_a_chart("there is no Chart.yaml in it"))?;
    Metadata::parse(what, &bytes)
}

/// A whole file, if it is no longer than that.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let what = path.display().to_string();
    let unreadable = |cause| Error::Read { what: what.clone(), cause };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(Error::TooLarge { what, size: bytes.len() as u64, most });
    }
    Ok(bytes)
}
