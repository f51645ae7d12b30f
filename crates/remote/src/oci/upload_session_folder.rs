//! The folder in which uploads are noted that a registry holds in part, so that the next run goes on
//! with them: one small file for each blob of a repository, written whenever the registry has
//! confirmed a piece, removed when the blob is there.
//!
//! A file holds the address of the upload, which a registry may have signed: whoever has it may go
//! on with the upload. So the folder and its files are the user's alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use types::Digest;

/// The version of the format.
const VERSION: u32 = 1;
/// Registries remove uploads that nobody goes on with; distribution after a week (its configuration,
/// `storage.maintenance.uploadpurging.age`).
const ABANDONED: Duration = Duration::from_hours(7 * 24);
/// The longest file that is read; a signed address has a few kilobytes.
const MOST_BYTES: u64 = 64 << 10;

/// A folder with the uploads of earlier runs. Without one, nothing is kept.
#[derive(Debug, Clone)]
pub(super) struct UploadSessionFolder {
    path: PathBuf,
}

/// What is kept of one upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeptUpload {
    version: u32,
    registry: String,
    repository: String,
    digest: Digest,
    /// The address where the upload goes on.
    pub(super) location: String,
    /// How many bytes the registry had confirmed.
    pub(super) offset: u64,
    /// The shortest piece that the registry takes (`OCI-Chunk-Min-Length`).
    pub(super) least_piece: u64,
}

/// The file of one upload, locked for this process: two that send the same blob to the same
/// repository must not share a session.
#[derive(Debug)]
pub(super) struct KeptUploadFile {
    file: File,
    path: PathBuf,
    registry: String,
    repository: String,
    digest: Digest,
}

impl UploadSessionFolder {
    /// Uses a folder, which is created when it is needed; files of uploads that no registry has any
    /// more are removed.
    pub(super) fn new(path: PathBuf) -> Self {
        let folder = Self { path };
        folder.remove_abandoned();
        folder
    }

    /// Takes the file of a blob's upload to a repository, which may be new. `None` when another
    /// process has it, or when it cannot be written: then the upload is not kept, which is no
    /// reason to fail.
    pub(super) fn take_file(
        &self,
        registry: &str,
        repository: &str,
        digest: &Digest,
    ) -> Option<KeptUploadFile> {
        let name = store::hash::sha256(format!("{registry}/{repository}@{digest}").as_bytes());
        let path = self.path.join(format!("{}.json", name.hex()));
        let opened =
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path).and_then(|()| {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false).mode(0o600);
                options.open(&path)
            });
        let file = match opened {
            Ok(file) => file,
            Err(cause) => {
                tracing::warn!(target: "gantry", "uploads are not kept: {}: {cause}", path.display());
                return None;
            }
        };
        file.try_lock().ok()?;
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        Some(KeptUploadFile { file, path, registry, repository, digest: *digest })
    }

    fn remove_abandoned(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified());
            let age = age.ok().and_then(|then| SystemTime::now().duration_since(then).ok());
            if age.is_some_and(|age| age > ABANDONED) && is_free(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn is_free(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

impl KeptUploadFile {
    /// Reads what an earlier run kept; `None` where there is nothing that can be used.
    pub(super) fn read_upload(&self) -> Option<KeptUpload> {
        let mut text = Vec::new();
        (&self.file).take(MOST_BYTES).read_to_end(&mut text).ok()?;
        // A file that a killed process left half written does not parse.
        let kept: KeptUpload = serde_json::from_slice(&text).ok()?;
        let is_same = kept.version == VERSION
            && kept.registry == self.registry
            && kept.repository == self.repository
            && kept.digest == self.digest;
        (is_same && kept.offset > 0).then_some(kept)
    }

    /// Notes where the upload goes on.
    pub(super) fn write_upload(&self, location: &str, offset: u64, least_piece: u64) {
        let kept = KeptUpload {
            version: VERSION,
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            digest: self.digest,
            location: location.to_owned(),
            offset,
            least_piece,
        };
        let written = serde_json::to_vec(&kept).map_err(std::io::Error::other).and_then(|text| {
            // In place: the lock is on this very file.
            self.file.set_len(0)?;
            self.file.write_all_at(&text, 0)?;
            (&self.file).flush()
        });
        if let Err(cause) = written {
            tracing::warn!(target: "gantry", "an upload is not kept: {}: {cause}", self.path.display());
        }
    }

    /// Removes the file: the blob is there, or the registry has lost the upload.
    pub(super) fn clear_upload(&self) {
        let _ = self.file.set_len(0);
    }

    /// Removes the file, and ends.
    pub(super) fn remove_file(self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_upload_is_found_again_by_one_process_at_a_time_and_for_its_repository_alone() {
        let outer = tempfile::tempdir().unwrap();
        let folder = UploadSessionFolder::new(outer.path().join("uploads"));
        let digest = Digest::Sha256([7; 32]);
        let file = folder.take_file("site:5000", "ai/app", &digest).unwrap();
        assert_eq!(file.read_upload(), None);
        file.write_upload("http://site:5000/a/much/longer/address?state=1", 7, 0);
        file.write_upload("http://site:5000/u", 9, 5);
        assert!(folder.take_file("site:5000", "ai/app", &digest).is_none());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.path), mode(&file.path)), (0o700, 0o600));
        drop(file);

        let other = folder.take_file("site:5000", "ai/other", &digest).unwrap();
        assert_eq!(other.read_upload(), None);
        let again = folder.take_file("site:5000", "ai/app", &digest).unwrap();
        let kept = again.read_upload().unwrap();
        assert_eq!(
            (kept.location.as_str(), kept.offset, kept.least_piece),
            ("http://site:5000/u", 9, 5)
        );
        again.remove_file();
        other.remove_file();
        assert_eq!(fs::read_dir(&folder.path).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_was_cut_or_is_a_week_old_is_nothing() {
        let outer = tempfile::tempdir().unwrap();
        let folder = UploadSessionFolder::new(outer.path().to_path_buf());
        let digest = Digest::Sha256([7; 32]);
        let file = folder.take_file("site:5000", "ai/app", &digest).unwrap();
        file.write_upload("http://site:5000/u", 9, 5);
        file.file.set_len(20).unwrap();
        assert_eq!(file.read_upload(), None);

        file.file.set_modified(SystemTime::now() - ABANDONED - Duration::from_secs(1)).unwrap();
        UploadSessionFolder::new(outer.path().to_path_buf());
        assert!(file.path.exists(), "a process is at it");
        let path = file.path.clone();
        drop(file);
        UploadSessionFolder::new(outer.path().to_path_buf());
        assert!(!path.exists());
    }
}
