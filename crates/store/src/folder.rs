//! The store: a folder in OCI image layout that holds each blob once.
//!
//! Blobs are written by a [`crate::Writer`], names by [`Store::publish_roots`]. Both become visible by
//! a rename, so a reader sees a blob or an index either complete or not at all. The format is
//! described in `docs/formats/store.md`.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use types::{Descriptor, Digest, DigestAlgorithm};

use crate::confined::ConfinedFolder;
use crate::index_cache::IndexCache;
use crate::layout::{self, LayoutIndex};
use crate::lock::{ExclusiveLock, SessionUse, SharedSession, StoreSession};
use crate::pending::PendingRoots;
use crate::{Error, Result, Source as _, space};

/// An open store. Cheap to clone; all clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<StoreInner>,
}

#[derive(Debug)]
struct StoreInner {
    /// Others may write to the folder, so no link in it is followed.
    folder: ConfinedFolder,
    sessions: SharedSession,
    index: IndexCache,
    pending: PendingRoots,
    /// The folders that exist, since writing needed them: a fetch of ten thousand small files would
    /// otherwise ask the file system for them each time.
    folders: WritingFolders,
}

/// Which of the folders that writing needs are known to exist.
#[derive(Debug, Default)]
struct WritingFolders {
    partials: OnceLock<()>,
    sha256: OnceLock<()>,
    sha512: OnceLock<()>,
}

impl WritingFolders {
    fn of_algorithm(&self, algorithm: DigestAlgorithm) -> &OnceLock<()> {
        match algorithm {
            DigestAlgorithm::Sha256 => &self.sha256,
            DigestAlgorithm::Sha512 => &self.sha512,
        }
    }
}

/// The folder of Gantry's own files in the layout (locks, partial blobs); other tools ignore it.
const OWN: &str = "gantry";
/// The folder of partial blobs, below the store's.
pub(crate) const PARTIALS: &str = "gantry/partial";
/// The file that sessions and the garbage collection lock, below the store's folder.
pub(crate) const SESSION_LOCK: &str = "gantry/lock";
/// The file that a change of `index.json` locks, below the store's folder.
const INDEX_LOCK: &str = "gantry/index.lock";
/// The longest file `oci-layout` that is read; it has 30 bytes.
const MAX_MARKER: u64 = 64 << 10;
/// A blob that is found instead of written again gets a new time when its own is older than this.
/// Its age counts in days, so that a run need not change the times of thousands of files.
const FRESH: Duration = Duration::from_hours(24);

impl Store {
    /// Opens the store in the folder; where there is no folder or an empty one, a store is created.
    /// A folder with other content is refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let store = Self::from_folder(path.as_ref());
        if store.path().join(layout::MARKER).exists() {
            return store.check_layout();
        }
        store.refuse_foreign_folder()?;
        store.make_folders()?;
        let session = store.open_session()?;
        // Another process may be creating the same store: only one writes the empty index.
        let lock = store.lock_index()?;
        if !store.path().join(layout::INDEX).exists() {
            store.replace_file(layout::INDEX, &LayoutIndex::empty().to_bytes())?;
        }
        // The marker last: a folder that has it is a complete store.
        store.replace_file(layout::MARKER, layout::marker_bytes())?;
        drop((lock, session));
        store.check_layout()
    }

    /// Opens the store in the folder, or any OCI image layout; it must exist. Nothing is written.
    pub fn open_existing(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_folder(path.as_ref()).check_layout()
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        self.inner.folder.path()
    }

    /// Blocks garbage collection, by any process, for as long as the session lives. Whoever writes
    /// opens one before it looks what is there. Writing opens one as well, which lives as long as the
    /// store is open.
    pub fn open_session(&self) -> Result<StoreSession> {
        self.inner.sessions.open_session(&self.inner.folder, SESSION_LOCK, SessionUse::Write)
    }

    /// As [`Store::open_session`], for whoever only reads: in a layout that no Gantry has written to
    /// nothing is created.
    pub fn open_read_session(&self) -> Result<StoreSession> {
        self.inner.sessions.open_session(&self.inner.folder, SESSION_LOCK, SessionUse::Read)
    }

    /// As [`Store::open_read_session`]; the session lives as long as the store is open. For whoever reads
    /// for long through a [`crate::Source`].
    pub fn keep_read_session(&self) -> Result<()> {
        let (sessions, folder) = (&self.inner.sessions, &self.inner.folder);
        sessions.keep_session(folder, SESSION_LOCK, SessionUse::Read).map(drop)
    }

    /// Whether the store has the blob with the descriptor's length. Only reads the file's metadata: the
    /// content was verified when it was written.
    pub fn contains(&self, blob: &Descriptor) -> Result<bool> {
        self.holds_blob(&blob.digest, blob.size)
    }

    /// The path of the blob's file, whether it exists or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path().join(digest.layout_path())
    }

    /// How many bytes of a blob an earlier writer left in its partial file.
    pub fn partial_size(&self, digest: &Digest) -> Result<u64> {
        let partial = partial_file(digest);
        match self.folder().read_metadata(&partial) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(cause) => Err(self.read_error(&partial, cause)),
        }
    }

    /// Bytes that may still be written to the store's disk.
    pub fn free_space(&self) -> Result<u64> {
        space::free_space(self.path())
    }

    /// Fails with [`Error::NoSpace`] unless `bytes` more fit on the store's disk.
    pub fn ensure_free_space(&self, bytes: u64) -> Result<()> {
        space::ensure_free_space(self.path(), bytes)
    }
}

// === inside the crate ===

impl Store {
    fn from_folder(path: &Path) -> Self {
        Self {
            inner: Arc::new(StoreInner {
                folder: ConfinedFolder::new(path),
                sessions: SharedSession::default(),
                index: IndexCache::default(),
                pending: PendingRoots::default(),
                folders: WritingFolders::default(),
            }),
        }
    }

    /// Whether this process has a session that it opened itself. The one that writing keeps ends here:
    /// whoever asks has written what it wanted to write.
    pub(crate) fn has_session(&self) -> bool {
        self.inner.sessions.release_kept();
        self.inner.sessions.is_held()
    }

    /// Opens the session of a write, which then lives as long as the store is open.
    pub(crate) fn keep_session(&self) -> Result<StoreSession> {
        self.inner.sessions.keep_session(&self.inner.folder, SESSION_LOCK, SessionUse::Write)
    }

    pub(crate) fn folder(&self) -> &ConfinedFolder {
        &self.inner.folder
    }

    pub(crate) fn index_cache(&self) -> &IndexCache {
        &self.inner.index
    }

    pub(crate) fn pending_roots(&self) -> &PendingRoots {
        &self.inner.pending
    }

    pub(crate) fn read_error(&self, file: impl AsRef<Path>, cause: io::Error) -> Error {
        Error::Read { what: self.path().join(file).display().to_string(), cause }
    }

    /// The metadata of a blob's file; `None` where there is none.
    pub(crate) fn blob_metadata(&self, digest: &Digest) -> Result<Option<Metadata>> {
        let file = blob_file(digest);
        match self.folder().read_metadata(&file) {
            // A folder or socket under a digest's name is not a blob.
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(self.read_error(&file, cause)),
        }
    }

    /// The name of the store's folder, from which entries without a full name get theirs.
    pub(crate) fn folder_name(&self) -> String {
        let path = fs::canonicalize(self.path()).unwrap_or_else(|_| self.path().to_owned());
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub(crate) fn holds_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        Ok(self.blob_size(digest)? == Some(size))
    }

    /// As [`Self::holds_blob`], for whoever would write the blob otherwise: its age begins again, so
    /// that content which is brought again today is not collected tomorrow because it was written a
    /// month ago.
    pub(crate) fn holds_fresh_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        let Some(metadata) = self.blob_metadata(digest)?.filter(|found| found.len() == size) else {
            return Ok(false);
        };
        if file_age(&metadata).is_some_and(|age| age > FRESH) {
            // Fails on read-only media, where nothing is collected either.
            let _ = self.folder().touch_file(blob_file(digest));
        }
        Ok(true)
    }

    /// Creates the folders that writing needs; a layout of another tool does not have all of them.
    pub(crate) fn make_folders(&self) -> Result<()> {
        self.make_folder(PARTIALS, &self.inner.folders.partials)?;
        self.make_blob_folder(DigestAlgorithm::Sha256)
    }

    /// Creates the folder of the blobs of an algorithm. That of sha512 is only there when it is needed.
    pub(crate) fn make_blob_folder(&self, algorithm: DigestAlgorithm) -> Result<()> {
        self.make_folder(algorithm.layout_folder(), self.inner.folders.of_algorithm(algorithm))
    }

    fn make_folder(&self, folder: &str, made: &OnceLock<()>) -> Result<()> {
        if made.get().is_some() {
            return Ok(());
        }
        self.folder().create_folders(folder).map_err(|cause| {
            space::write_error(&self.path().join(folder), self.path(), 0, cause)
        })?;
        made.get_or_init(|| ());
        Ok(())
    }

    pub(crate) fn lock_index(&self) -> Result<ExclusiveLock> {
        ExclusiveLock::acquire_lock(self.folder(), INDEX_LOCK, || {})
    }

    /// A file whose final name is not known yet; removed when dropped, unless
    /// [`Self::rename_temporary_file`] gives it one.
    pub(crate) fn create_temporary_file(&self) -> io::Result<tempfile::NamedTempFile> {
        // The library makes up the name; the file is created beneath the folder, with the permissions of
        // other files: tempfile's own would hide blobs from other users of a shared store.
        tempfile::Builder::new().prefix(TEMPORARY).make_in(self.path().join(PARTIALS), |path| {
            self.folder()
                .create_new_file(Path::new(PARTIALS).join(path.file_name().unwrap_or_default()))
        })
    }

    pub(crate) fn rename_temporary_file(
        &self,
        file: tempfile::NamedTempFile,
        target: impl AsRef<Path>,
    ) -> io::Result<()> {
        let name = file.path().file_name().unwrap_or_default();
        self.folder().rename(Path::new(PARTIALS).join(name), target)?;
        // Its name is gone, so there is nothing to remove any more.
        let _ = file.into_temp_path().keep();
        Ok(())
    }

    /// Replaces a file of the layout's top folder in one step. Written through to the disk: these
    /// files are few, and a power cut must not take all names away.
    pub(crate) fn replace_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let target = self.path().join(name);
        let failed = |cause| space::write_error(&target, self.path(), bytes.len() as u64, cause);
        let mut file = self.create_temporary_file().map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        self.rename_temporary_file(file, name).map_err(failed)
    }

    /// Reads a document of the layout's top folder; `None` where there is none. One that is longer than
    /// `most` is not a layout's.
    pub(crate) fn read_document(&self, name: &str, most: u64) -> Result<Option<(File, Vec<u8>)>> {
        let mut file = match self.folder().open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(self.read_error(name, cause)),
        };
        let mut bytes = Vec::new();
        // One byte more than allowed, to see that there is more. The length in the metadata would not
        // do: a file that grows has another.
        (&mut file)
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|cause| self.read_error(name, cause))?;
        if bytes.len() as u64 > most {
            let most = types::ByteSize(most);
            return Err(self.not_a_store_error(format!("its {name} is larger than {most}")));
        }
        Ok(Some((file, bytes)))
    }

    fn check_layout(self) -> Result<Self> {
        let Some((_, text)) = self.read_document(layout::MARKER, MAX_MARKER)? else {
            return Err(self.not_a_store_error(format!("it has no file {}", layout::MARKER)));
        };
        // Only the version is read, so that additions of later versions do no harm.
        let version = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| value["imageLayoutVersion"].as_str().map(str::to_owned));
        match version.as_deref() {
            // image-layout.md has had 1.0.0 only; a later 1.x may add to it but not change it.
            Some(version) if version.starts_with("1.") => Ok(self),
            Some(version) => {
                Err(self.not_a_store_error(format!("its layout version is {version}, not 1.0.0")))
            }
            None => {
                Err(self.not_a_store_error(format!("its file {} has no version", layout::MARKER)))
            }
        }
    }

    /// Refuses a folder with content that is not Gantry's. What a process leaves behind that was killed
    /// while it created a store is accepted.
    fn refuse_foreign_folder(&self) -> Result<()> {
        let entries = match fs::read_dir(self.path()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => {
                return Err(Error::Read { what: self.path().display().to_string(), cause });
            }
        };
        // `gantry/` is created first, the marker last: with the one and without the other, a creation was
        // interrupted.
        let is_ours = self.path().join(OWN).is_dir();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let ours = is_ours && [OWN, "blobs", layout::INDEX].iter().any(|own| name == **own);
            if !ours {
                return Err(self.not_a_store_error(format!(
                    "it has {} but no file {}; give an empty folder or one that does not exist",
                    name.display(),
                    layout::MARKER
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn not_a_store_error(&self, reason: String) -> Error {
        Error::NotAStore { path: self.path().to_owned(), reason }
    }
}

/// The start of the names of files whose digest is not known yet. The next garbage collection removes
/// those that a killed process left.
pub(crate) const TEMPORARY: &str = "tmp-";

/// The path of a blob's file below the store's folder.
pub(crate) fn blob_file(digest: &Digest) -> PathBuf {
    PathBuf::from(digest.layout_path())
}

/// The path of a blob's partial file below the store's folder.
pub(crate) fn partial_file(digest: &Digest) -> PathBuf {
    Path::new(PARTIALS).join(digest.hex())
}

/// How long ago a file was changed; `None` where its time is unreadable or in the future.
pub(crate) fn file_age(metadata: &Metadata) -> Option<Duration> {
    SystemTime::now().duration_since(metadata.modified().ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::{WriteStart, find_closure, hash::sha256};
    use types::{Root, RootKind, media_type};

    fn add_image(store: &Store, name: &str, layer: &[u8]) -> Root {
        let layer_digest = store.put_bytes(layer).unwrap();
        let config = store.put_bytes(b"{}").unwrap();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::new(media_type::OCI_CONFIG, config, 2),
            "layers": [Descriptor::new(media_type::OCI_LAYER_TAR, layer_digest, layer.len() as u64)],
        })
        .to_string();
        let digest = store.put_bytes(manifest.as_bytes()).unwrap();
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
        Root::new(name.parse().unwrap(), RootKind::Image, descriptor)
    }

    #[test]
    fn what_is_written_and_published_is_found_when_the_store_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let root = add_image(&store, "ghcr.io/a/b:1", b"layer");

        store.publish_roots(std::slice::from_ref(&root)).unwrap();

        let again = Store::open_existing(folder.path()).unwrap();
        assert_eq!(again.roots().unwrap(), std::slice::from_ref(&root));
        assert!(again.contains(&root.descriptor).unwrap());
        assert_eq!(find_closure(&again, &root).unwrap().blobs.len(), 2);
    }

    #[test]
    fn a_writer_goes_on_where_the_last_one_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = sha256(b"hello world");
        let WriteStart::Writer(mut first) = store.open_writer(&digest, 11).unwrap() else {
            panic!()
        };
        first.write(b"hello ").unwrap();
        drop(first);

        let WriteStart::Writer(mut second) = store.open_writer(&digest, 11).unwrap() else {
            panic!()
        };
        assert_eq!(second.offset(), 6);
        second.write(b"world").unwrap();
        second.commit().unwrap();

        assert!(matches!(store.open_writer(&digest, 11).unwrap(), WriteStart::Present));
        assert_eq!(crate::read_blob(&store, &digest, 100).unwrap(), b"hello world");
    }

    #[test]
    fn wrong_bytes_never_become_a_blob() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = sha256(b"right");
        let WriteStart::Writer(mut writer) = store.open_writer(&digest, 5).unwrap() else {
            panic!()
        };
        writer.write(b"wrong").unwrap();

        assert!(matches!(writer.commit(), Err(Error::DigestMismatch { .. })));

        assert_eq!(store.blob_size(&digest).unwrap(), None);
        let WriteStart::Writer(writer) = store.open_writer(&digest, 5).unwrap() else { panic!() };
        assert_eq!(writer.offset(), 0);
    }

    #[test]
    fn a_root_without_its_content_is_not_published() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let root = add_image(&store, "ghcr.io/a/b:1", b"layer");
        fs::remove_file(store.blob_path(&sha256(b"layer"))).unwrap();

        assert!(matches!(store.publish_roots(&[root]), Err(Error::BlobMissing { .. })));

        assert!(store.roots().unwrap().is_empty());
    }

    #[test]
    fn a_folder_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();

        let error = Store::open(folder.path()).unwrap_err().to_string();

        assert!(error.contains("thesis.tex"), "{error}");
    }
}
