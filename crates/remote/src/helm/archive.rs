//! A chart archive (`.tgz`) in memory, and its `Chart.yaml`. The archive is untrusted: lengths are
//! bounded before anything is read.

use std::io::{Cursor, Read};
use std::path::Path;

use types::Digest;

use super::ChartMetadata;
use crate::linked_folder::LinkedFolder;
use crate::tarball::{self, TarMemberKind, WalkControl};
use crate::{Error, Result, compression};

/// Limit for an archive. Helm reads charts of up to 100 MiB unpacked (pkg/chart/loader/archive.go,
/// `MaxDecompressedChartSize`), and a valid archive is never longer than its content.
pub const MAX_ARCHIVE: u64 = 100 << 20;
/// Limit for the uncompressed bytes that are searched for `Chart.yaml`.
const MAX_UNPACKED: u64 = 100 << 20;
/// Limit for one file of a chart: helm's own (`MaxDecompressedFileSize`).
pub(super) const MAX_FILE: u64 = 5 << 20;

/// A chart archive in memory, with its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartArchive {
    /// The bytes of the tgz, unchanged.
    pub bytes: Vec<u8>,
    /// Its `Chart.yaml`.
    pub metadata: ChartMetadata,
    /// The provenance file (a signed checksum, `.prov`), if there is one.
    pub provenance: Option<Vec<u8>>,
}

impl ChartArchive {
    /// Parses an archive. `what` is its name in errors.
    pub fn new(what: &str, bytes: Vec<u8>) -> Result<Self> {
        let metadata = read_metadata(what, &bytes)?;
        Ok(Self { bytes, metadata, provenance: None })
    }

    /// Reads a local `.tgz`, and the `.prov` next to it. The archive may be a link: whoever names it means
    /// what it leads to. Nobody names the other file, so as a link it must not lead out of the folder.
    pub fn read(path: &Path) -> Result<Self> {
        let what = path.display().to_string();
        let mut archive = Self::new(&what, read_file(path, MAX_ARCHIVE)?)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = LinkedFolder::open(folder.unwrap_or(Path::new(".")).to_owned())?;
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            archive.provenance = folder.read_document(&format!("{name}.prov"), MAX_FILE)?;
        }
        Ok(archive)
    }

    /// The archive's sha256.
    pub fn digest(&self) -> Digest {
        store::hash::sha256(&self.bytes)
    }
}

/// Finds `Chart.yaml` in an archive and parses it.
fn read_metadata(what: &str, bytes: &[u8]) -> Result<ChartMetadata> {
    let not_a_chart = |reason: &str| Error::Local { path: what.into(), reason: reason.into() };
    let (compression, plain) = compression::decompress(Cursor::new(bytes))
        .map_err(|cause| Error::Read { what: what.to_owned(), cause })?;
    if compression != compression::Compression::Gzip {
        return Err(not_a_chart("it is not a gzip archive; create one with `helm package`"));
    }
    let mut found = None;
    tarball::walk_tar(what, plain.take(MAX_UNPACKED), |member, content| {
        // Directly in the first folder: deeper ones belong to dependencies.
        let is_chart =
            member.path.ends_with("/Chart.yaml") && member.path.matches('/').count() == 1;
        if !is_chart || member.kind != TarMemberKind::File {
            return Ok(WalkControl::Continue);
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
        Ok(WalkControl::Stop)
    })?;
    let bytes =
        found.ok_or_else(|| not_a_chart("it has no Chart.yaml, so it is not a Helm chart"))?;
    ChartMetadata::parse(what, &bytes)
}

/// Reads a file of at most `most` bytes.
pub(super) fn read_file(path: &Path, most: u64) -> Result<Vec<u8>> {
    let what = path.display().to_string();
    let unreadable = |cause| Error::Read { what: what.clone(), cause };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // One byte more than allowed: a file that grows meanwhile is noticed, too.
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(Error::TooLarge { what, size: bytes.len() as u64, most });
    }
    Ok(bytes)
}
