//! Making room: what no root needs any more goes.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use types::Digest;

use crate::closure::survey;
use crate::folder::TEMPORARY;
use crate::lock::Exclusive;
use crate::progress::Progress;
use crate::{Error, Result, Store};

/// A partial that nobody went on with for this long is stale. A week: a fetch that was stopped on
/// a Friday still goes on after the next one.
const PARTIAL_IS_STALE_AFTER: Duration = Duration::from_hours(7 * 24);

/// Whether garbage is removed or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcMode {
    /// Tell what would go. Waits for nobody; content that another process is just bringing in
    /// counts as garbage then.
    DryRun,
    /// Remove it.
    Remove,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs that no root needs, with their lengths in bytes, sorted by digest.
    pub blobs: Vec<(Digest, u64)>,
    /// Partial downloads that nobody will go on with.
    pub partials: u64,
    /// Their bytes.
    pub partial_bytes: u64,
}

impl Collected {
    /// Bytes that became free.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|(_, size)| size).sum::<u64>() + self.partial_bytes
    }
}

impl Store {
    /// Collects blobs that no root needs, and stale partials. Waits until no process has a
    /// [`crate::Session`], and says so through `progress`; fails with [`Error::InUse`] when this
    /// very store has one. Refuses when it cannot know what a root needs, because one of its
    /// manifests is missing or damaged.
    pub fn gc(&self, mode: GcMode, progress: &dyn Progress) -> Result<Collected> {
        let _lock = match mode {
            GcMode::DryRun => None,
            GcMode::Remove if self.has_session() => {
                return Err(Error::InUse { path: self.path().to_owned() });
            }
            GcMode::Remove => Some(Exclusive::lock(&self.own_path("lock"), || {
                progress.note("waiting until the other gantry processes are done with the store");
            })?),
        };
        let needed = self.needed()?;
        let mut collected = Collected::default();
        for (digest, size) in self.blobs()? {
            if !needed.contains(&digest) {
                collect(&self.blob_path(&digest), mode)?;
                collected.blobs.push((digest, size));
            }
        }
        for entry in entries(&self.partials_path())? {
            if self.is_stale(&entry) {
                collected.partials += 1;
                collected.partial_bytes += entry.metadata().map_or(0, |metadata| metadata.len());
                collect(&entry.path(), mode)?;
            }
        }
        Ok(collected)
    }

    /// All blobs with their lengths, sorted by digest. Files with other names are not looked at.
    pub fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let mut blobs = Vec::new();
        for entry in entries(&self.blobs_path())? {
            let name = entry.file_name();
            let Some(Ok(digest)) = name.to_str().map(Digest::from_hex) else { continue };
            // One that was removed since the folder was listed is not there.
            if let Ok(metadata) = entry.metadata() {
                blobs.push((digest, metadata.len()));
            }
        }
        blobs.sort_unstable();
        Ok(blobs)
    }

    /// Every digest that a root names, present or not.
    fn needed(&self) -> Result<HashSet<Digest>> {
        let index = self.index()?;
        if let Some(digest) = index.foreign().next() {
            let (path, digest) = (self.path().to_owned(), digest.to_owned());
            return Err(Error::ForeignDigest { path, digest });
        }
        let mut needed = HashSet::new();
        for root in index.roots(&self.folder_name()) {
            let survey = survey(self, &root);
            if let Some((_, cause)) =
                survey.problems.into_iter().find(|(descriptor, _)| descriptor.is_manifest())
            {
                let (name, cause) = (Box::new(root.name), Box::new(cause));
                return Err(Error::Broken { name, cause });
            }
            needed.extend(survey.named);
        }
        Ok(needed)
    }

    /// Only asked while nobody writes.
    fn is_stale(&self, entry: &fs::DirEntry) -> bool {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return false };
        if name.starts_with(TEMPORARY) {
            return true;
        }
        let Ok(digest) = Digest::from_hex(name) else { return false };
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        self.blob_path(&digest).exists() || age.is_some_and(|age| age > PARTIAL_IS_STALE_AFTER)
    }
}

fn collect(path: &Path, mode: GcMode) -> Result<()> {
    match mode {
        GcMode::DryRun => Ok(()),
        GcMode::Remove => remove(path),
    }
}

/// Removes a file; one that is gone already is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|cause| Error::Write { what: path.display().to_string(), cause }),
    }
}

/// The entries of a folder; none where there is no folder.
fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let failed = |cause| Error::Read { what: folder.display().to_string(), cause };
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<_>>().map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(cause) => Err(failed(cause)),
    }
}
