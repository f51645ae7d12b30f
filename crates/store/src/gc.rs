//! Garbage collection: removes blobs that no root needs, and stale partial downloads.
//!
//! What nothing names may still be wanted: a fetch that was stopped has finished blobs and no roots yet.
//! So it has an age before it is collected, as in git (`gc.pruneExpire`). A blob's age begins when it
//! is written, or found by whoever would write it; a partial's when bytes are added to it.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::Duration;

use types::{Digest, DigestAlgorithm};

use crate::closure::survey_root;
use crate::folder::{PARTIALS, SESSION_LOCK, TEMPORARY, blob_file, file_age};
use crate::lock::ExclusiveLock;
use crate::progress::Progress;
use crate::{Error, Result, Store};

/// How old unreferenced content is before it is collected, unless the user says otherwise: 14 days, as
/// git's. Long enough for a transfer that is stopped on a Friday and resumed after a holiday.
pub const DEFAULT_GARBAGE_AGE: Duration = Duration::from_hours(14 * 24);

/// Whether garbage is removed or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GarbageMode {
    /// Only report what would be removed. Does not wait for other processes; without a least age,
    /// content that one of them is just writing counts as garbage then.
    DryRun,
    /// Remove it.
    Remove,
}

/// What was removed, or would be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GarbageReport {
    /// Blobs that no root needs, with their lengths in bytes, sorted by digest.
    pub blobs: Vec<(Digest, u64)>,
    /// How many stale partial downloads were removed, with files that a killed process was adding.
    pub partials: u64,
    /// How many bytes they had.
    pub partial_bytes: u64,
    /// How many blobs stay that no root needs, because they are not old enough.
    pub recent_blobs: u64,
    /// How many bytes they have.
    pub recent_blob_bytes: u64,
    /// How many partial downloads stay, because they are not old enough.
    pub recent_partials: u64,
    /// How many bytes they have.
    pub recent_partial_bytes: u64,
}

impl GarbageReport {
    /// How many bytes became free.
    pub fn freed_bytes(&self) -> u64 {
        self.blob_bytes() + self.partial_bytes
    }

    /// How many bytes the removed blobs had.
    pub fn blob_bytes(&self) -> u64 {
        self.blobs.iter().map(|(_, size)| size).sum()
    }

    /// How many bytes stay although no root needs them.
    pub fn recent_bytes(&self) -> u64 {
        self.recent_blob_bytes + self.recent_partial_bytes
    }
}

impl Store {
    /// Collects blobs that no root needs, and stale partials, both if they are at least `least_age`
    /// old. Waits until no process has a [`crate::StoreSession`], and says so through `progress`; fails
    /// with [`Error::InUse`] when this very store has one. Fails as well when it cannot know what a
    /// root needs, because one of its manifests is missing or damaged.
    pub fn collect_garbage(
        &self,
        mode: GarbageMode,
        least_age: Duration,
        progress: &dyn Progress,
    ) -> Result<GarbageReport> {
        let _lock = match mode {
            GarbageMode::DryRun => None,
            // Waiting for a session of this process would be waiting for ourselves.
            GarbageMode::Remove if self.has_session() => {
                return Err(Error::InUse { path: self.path().to_owned() });
            }
            GarbageMode::Remove => {
                Some(ExclusiveLock::acquire_lock(self.folder(), SESSION_LOCK, || {
                    progress.add_note("waiting for other gantry processes that use the store");
                })?)
            }
        };
        // Under the exclusive lock, so no root can be published between this list and the removals.
        let needed = self.find_needed_blobs()?;
        let mut collected = GarbageReport::default();
        for digest in self.list_digests()? {
            if needed.contains(&digest) {
                continue;
            }
            let file = blob_file(&digest);
            let Some(found) = self.find_file(&file, least_age) else { continue };
            if found.is_recent {
                collected.recent_blobs += 1;
                collected.recent_blob_bytes += found.size;
            } else {
                self.collect_file(&file, mode)?;
                collected.blobs.push((digest, found.size));
            }
        }
        collected.blobs.sort_unstable();
        for name in self.list_folder(PARTIALS)? {
            let file = Path::new(PARTIALS).join(&name);
            let Some(found) = self.find_file(&file, least_age) else { continue };
            match self.partial_use(&name) {
                PartialUse::Unknown => {}
                PartialUse::Resumable if found.is_recent => {
                    collected.recent_partials += 1;
                    collected.recent_partial_bytes += found.size;
                }
                PartialUse::Resumable | PartialUse::Useless => {
                    self.collect_file(&file, mode)?;
                    collected.partials += 1;
                    collected.partial_bytes += found.size;
                }
            }
        }
        if mode == GarbageMode::Remove {
            self.remove_old_lookups();
        }
        Ok(collected)
    }

    /// All blobs with their lengths, sorted by digest. Files whose name is not a digest are ignored.
    pub fn list_blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let mut blobs = Vec::new();
        for digest in self.list_digests()? {
            // It may have been removed since the folder was listed; a link is told by whoever opens it.
            if let Ok(metadata) = self.folder().read_metadata(blob_file(&digest)) {
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

    /// What a file among the partials is good for. Only called while no process writes.
    fn partial_use(&self, name: &OsStr) -> PartialUse {
        let Some(name) = name.to_str() else { return PartialUse::Unknown };
        // No digest to resume by, and no process that still writes it.
        if name.starts_with(TEMPORARY) {
            return PartialUse::Useless;
        }
        // The number of digits tells the algorithm.
        let parsed = DigestAlgorithm::ALL.into_iter().find_map(|it| it.parse_hex(name).ok());
        match parsed {
            Some(digest) if self.blob_metadata(&digest).is_ok_and(|blob| blob.is_some()) => {
                PartialUse::Useless
            }
            Some(_) => PartialUse::Resumable,
            None => PartialUse::Unknown,
        }
    }

    /// A file's length, and whether it is younger than `least_age`; `None` where it is gone or is no
    /// file.
    fn find_file(&self, file: &Path, least_age: Duration) -> Option<FoundFile> {
        let metadata = self.folder().read_metadata(file).ok()?;
        // An unreadable or future time counts as recent: keeping too much does no harm. Without a least
        // age nothing is recent, whatever its time is.
        let is_recent =
            !least_age.is_zero() && file_age(&metadata).is_none_or(|age| age < least_age);
        metadata.is_file().then_some(FoundFile { size: metadata.len(), is_recent })
    }

    fn collect_file(&self, file: &Path, mode: GarbageMode) -> Result<()> {
        match mode {
            GarbageMode::DryRun => Ok(()),
            GarbageMode::Remove => self.remove_file(file),
        }
    }

    /// Removes a file below the store's folder; one that does not exist is not an error.
    pub(crate) fn remove_file(&self, file: &Path) -> Result<()> {
        match self.folder().remove_file(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|cause| Error::Write {
                what: self.path().join(file).display().to_string(),
                cause,
            }),
        }
    }

    /// The digests that files among the blobs are named by.
    fn list_digests(&self) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for algorithm in DigestAlgorithm::ALL {
            let names = self.list_folder(algorithm.layout_folder())?;
            let parse = |name: &OsString| algorithm.parse_hex(name.to_str()?).ok();
            digests.extend(names.iter().filter_map(parse));
        }
        Ok(digests)
    }

    /// The names in a folder of the store; empty where the folder does not exist.
    fn list_folder(&self, folder: &str) -> Result<Vec<OsString>> {
        match self.folder().list_names(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            result => result.map_err(|cause| self.read_error(folder, cause)),
        }
    }
}

/// What a file among the partials is good for.
enum PartialUse {
    /// The next writer of the blob resumes with it.
    Resumable,
    /// Nobody needs it any more.
    Useless,
    /// Gantry did not write it.
    Unknown,
}

struct FoundFile {
    size: u64,
    is_recent: bool,
}
