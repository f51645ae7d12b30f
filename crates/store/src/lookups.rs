//! What was found out about content that is asked for by another name than its digest: a file of the
//! Hub by its git id, a file at a URL by what its server said of it. A `gantry lock` that fails half
//! way has looked up much already; the next one finds it here instead of downloading it again.
//!
//! A record is a file `gantry/lookups/<sha256 of the key>` with a digest and a length. The key names the
//! content together with what would change if the content did, so a record never becomes wrong; it is
//! of use as long as the store has the blob, and is removed when it is old.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use types::Digest;

use crate::folder::file_age;
use crate::gc::DEFAULT_GARBAGE_AGE;
use crate::{Store, hash};

/// The folder of the records, below the store's.
const LOOKUPS: &str = "gantry/lookups";
/// How long a record counts: as long as the blob is kept that it leads to.
const LIFE: Duration = DEFAULT_GARBAGE_AGE;
/// The longest record: a digest and a number.
const MAX_RECORD: u64 = 512;

impl Store {
    /// The digest and length of the content that `key` stands for, if an earlier lookup recorded it no
    /// longer than 14 days ago and the store still has the blob.
    pub fn find_lookup(&self, key: &str) -> Option<(Digest, u64)> {
        let mut file = self.folder().open_file(record_file(key)).ok()?;
        let metadata = file.metadata().ok()?;
        // In a shared store another user could make this one's locks name other content.
        let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
        if !is_own || file_age(&metadata).is_none_or(|age| age > LIFE) {
            return None;
        }
        let mut text = String::new();
        (&mut file).take(MAX_RECORD).read_to_string(&mut text).ok()?;
        let (digest, size) = text.trim_end().split_once(' ')?;
        let (digest, size) = (digest.parse().ok()?, size.parse().ok()?);
        self.holds_fresh_blob(&digest, size).ok()?.then_some((digest, size))
    }

    /// Records the digest and length of the content that `key` stands for. The key must name what would
    /// change with the content, such as an `ETag`. That nothing can be recorded is no failure: then it
    /// is looked up again.
    pub fn remember_lookup(&self, key: &str, digest: &Digest, size: u64) {
        let write = || -> std::io::Result<()> {
            use std::io::Write as _;
            self.folder().create_folders(LOOKUPS)?;
            let mut file = self.create_temporary_file()?;
            writeln!(file, "{digest} {size}")?;
            self.rename_temporary_file(file, record_file(key))
        };
        if let Err(error) = write() {
            tracing::debug!("a lookup is not recorded in {}: {error}", self.path().display());
        }
    }

    /// Removes the records that do not count any more.
    pub(crate) fn remove_old_lookups(&self) {
        for name in self.folder().list_names(LOOKUPS).unwrap_or_default() {
            let file = Path::new(LOOKUPS).join(name);
            let metadata = self.folder().read_metadata(&file).ok();
            if metadata.and_then(|metadata| file_age(&metadata)).is_some_and(|age| age > LIFE) {
                // Whatever keeps it from being removed, it takes a few bytes.
                let _ = self.folder().remove_file(&file);
            }
        }
    }
}

fn record_file(key: &str) -> PathBuf {
    Path::new(LOOKUPS).join(hash::sha256(key.as_bytes()).hex())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{self, File, FileTimes};
    use std::time::SystemTime;

    use super::*;
    use crate::GarbageMode;
    use crate::progress::SilentProgress;

    #[test]
    fn a_lookup_counts_while_its_blob_is_here_and_it_is_not_old() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = store.put_bytes(b"{}").unwrap();
        store.remember_lookup("git abc", &digest, 2);
        store.remember_lookup("lost", &hash::sha256(b"not here"), 8);
        store.remember_lookup("other length", &digest, 3);

        assert_eq!(store.find_lookup("git abc"), Some((digest, 2)));
        for key in ["git abd", "lost", "other length"] {
            assert_eq!(store.find_lookup(key), None, "{key}");
        }
        let path = folder.path().join(record_file("git abc"));
        fs::write(&path, "sha256:zz 2\n").unwrap();
        assert_eq!(store.find_lookup("git abc"), None);
        store.remember_lookup("git abc", &digest, 2);
        let old = SystemTime::now() - LIFE - Duration::from_secs(60);
        let times = FileTimes::new().set_modified(old);
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        assert_eq!(store.find_lookup("git abc"), None);

        store.collect_garbage(GarbageMode::Remove, LIFE, &SilentProgress).unwrap();

        assert!(!path.exists() && folder.path().join(record_file("lost")).exists());
    }
}
