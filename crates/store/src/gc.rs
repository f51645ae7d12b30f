//! Garbage collection: removes blobs that no root needs, and stale partial downloads.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use types::Digest;

use crate::closure::survey_root;
use crate::folder::TEMPORARY;
use crate::lock::ExclusiveLock;
use crate::progress::Progress;
use crate::{Error, Result, Store};

/// A partial download that was not resumed for this long is stale. A week: a fetch that was stopped
/// on a Friday can still be resumed on the Friday after.
const PARTIAL_IS_STALE_AFTER: Duration = Duration::from_hours(7 * 24);

/// Whether garbage is removed or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GarbageMode {
    /// Only report what would be removed. Does not wait for other processes; content that one of them
    /// is just writing counts as garbage then.
    DryRun,
    /// Remove it.
    Remove,
}

/// What was removed, or would be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GarbageReport {
    /// Blobs that no root needs, with their lengths in bytes, sorted by digest.
    pub blobs: Vec<(Digest, u64)>,
    /// How many stale partial downloads were removed.
    pub partials: u64,
    /// How many bytes they had.
    pub partial_bytes: u64,
}

impl GarbageReport {
    /// How many bytes became free.
    pub fn freed_bytes(&self) -> u64 {
        self.blobs.iter().map(|(_, size)| size).sum::<u64>() + self.partial_bytes
    }
}

impl Store {
    /// Collects blobs that no root needs, and stale partials. Waits until no process has a
    /// [`crate::StoreSession`], and says so through `progress`; fails with [`Error::InUse`] when this
    /// very store has one. Fails as well when it cannot know what a root needs, because one of its
    /// manifests is missing or damaged.
    pub fn collect_garbage(
        &self,
        mode: GarbageMode,
        progress: &dyn Progress,
    ) -> Result<GarbageReport> {
        let _lock = match mode {
            GarbageMode::DryRun => None,
            // Waiting for a session of this process would be waiting for ourselves.
            GarbageMode::Remove if self.has_session() => {
                return Err(Error::InUse { path: self.path().to_owned() });
            }
            GarbageMode::Remove => {
                Some(ExclusiveLock::acquire_lock(&self.own_path("lock"), || {
                    progress.add_note("waiting for other gantry processes that use the store");
                })?)
            }
        };
        // Under the exclusive lock, so no root can be published between this list and the removals.
        let needed = self.find_needed_blobs()?;
        let mut collected = GarbageReport::default();
        for (digest, size) in self.list_blobs()? {
            if !needed.contains(&digest) {
                collect_file(&self.blob_path(&digest), mode)?;
                collected.blobs.push((digest, size));
            }
        }
        for entry in list_folder(&self.partials_path())? {
            if self.is_stale_partial(&entry) {
                collected.partials += 1;
                collected.partial_bytes += entry.metadata().map_or(0, |metadata| metadata.len());
                collect_file(&entry.path(), mode)?;
            }
        }
        Ok(collected)
    }

    /// All blobs with their lengths, sorted by digest. Files whose name is not a digest are ignored.
    pub fn list_blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let mut blobs = Vec::new();
        for entry in list_folder(&self.blobs_path())? {
            let name = entry.file_name();
            let Some(Ok(digest)) = name.to_str().map(Digest::from_hex) else { continue };
            // It may have been removed since the folder was listed.
            if let Ok(metadata) = entry.metadata() {
                blobs.push((digest, metadata.len()));
            }
        }
        blobs.sort_unstable();
        Ok(blobs)
    }

    /// Every digest that a root names, whether the store has it or not.
    fn find_needed_blobs(&self) -> Result<HashSet<Digest>> {
        let index = self.read_index()?;
        // Nothing is removed rather than something that another tool needs.
        if let Some(digest) = index.foreign_digests().next() {
            let (path, digest) = (self.path().to_owned(), digest.to_owned());
            return Err(Error::ForeignDigest { path, digest });
        }
        let mut needed = HashSet::new();
        for root in index.roots(&self.folder_name()) {
            let survey = survey_root(self, &root);
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

    /// Whether a file among the partials can be removed. Only called while no process writes.
    fn is_stale_partial(&self, entry: &fs::DirEntry) -> bool {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return false };
        // No digest to resume by, and no process that still writes it.
        if name.starts_with(TEMPORARY) {
            return true;
        }
        let Ok(digest) = Digest::from_hex(name) else { return false };
        // An unreadable or future time counts as fresh: keeping too much does no harm.
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        self.blob_path(&digest).exists() || age.is_some_and(|age| age > PARTIAL_IS_STALE_AFTER)
    }
}

fn collect_file(path: &Path, mode: GarbageMode) -> Result<()> {
    match mode {
        GarbageMode::DryRun => Ok(()),
        GarbageMode::Remove => remove_file(path),
    }
}

/// Removes a file; one that does not exist is not an error.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|cause| Error::Write { what: path.display().to_string(), cause }),
    }
}

/// The entries of a folder; empty where the folder does not exist.
fn list_folder(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let failed = |cause| Error::Read { what: folder.display().to_string(), cause };
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<_>>().map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(cause) => Err(failed(cause)),
    }
}
