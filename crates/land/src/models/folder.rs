//! A folder of models as a [`ModelStorage`], and what is in it: which files are right, and which are
//! not Gantry's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use store::hash::Sha256Hasher;
use types::Digest;

use super::error::{Result, disk_error};
use super::plan::{FileContent, ModelFolder};
use super::record::ModelRecord;
use super::storage::{FileStat, LONGEST, ModelStorage};

/// Bytes that are read and hashed at a time.
const PIECE: usize = 1 << 20;

/// Whether a file has the content that it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileState {
    Right,
    Wrong,
    Missing,
}

/// Compares a file with the content that it should have. A file that a record has with this digest, and
/// that still has the record's time, is not hashed again: that makes a second load of 100 GB a matter
/// of seconds.
pub(super) fn file_state(
    root: &Path,
    path: &Path,
    content: FileContent,
    records: &[ModelRecord],
) -> Result<FileState> {
    let stat = match root.file_stat(path)? {
        Some(stat) if stat.size == content.size && root.join(path).is_file() => stat,
        Some(_) => return Ok(FileState::Wrong),
        None => return Ok(FileState::Missing),
    };
    let mut known = records.iter().filter_map(|record| record.files.get(path));
    if known.any(|known| known.digest == content.digest && known.modified == stat.modified) {
        return Ok(FileState::Right);
    }
    let is_right = root.digest_file(path, &mut |_| {})? == content.digest;
    Ok(if is_right { FileState::Right } else { FileState::Wrong })
}

/// The files below a folder that are not part of the model.
pub(super) fn find_foreign_files(path: &Path, folder: &ModelFolder) -> Result<BTreeSet<PathBuf>> {
    let mut strangers = BTreeSet::new();
    let mut open = vec![path.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).map_err(disk_error(&next))? {
            let entry = entry.map_err(disk_error(&next))?;
            let own = entry.path();
            if entry.file_type().map_err(disk_error(&own))?.is_dir() {
                open.push(own);
                continue;
            }
            let is_known = own.strip_prefix(path).is_ok_and(|relative| {
                folder.files.contains_key(relative) || folder.links.contains_key(relative)
            });
            if !is_known {
                strangers.insert(own);
            }
        }
    }
    Ok(strangers)
}

/// A folder of models. Errors have the path of the file.
impl ModelStorage for Path {
    fn display_path(&self, path: &Path) -> PathBuf {
        self.join(path)
    }

    fn file_stat(&self, path: &Path) -> Result<Option<FileStat>> {
        let whole = self.join(path);
        let Some(metadata) = none_if_missing(fs::metadata(&whole), &whole)? else {
            return Ok(None);
        };
        let time = metadata.modified().map_err(disk_error(&whole))?;
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Ok(Some(FileStat { size: metadata.len(), modified }))
    }

    fn digest_file(&self, path: &Path, advance: &mut dyn FnMut(u64)) -> Result<Digest> {
        hash_file(&self.join(path), advance)
    }

    fn link_target(&self, path: &Path) -> Result<Option<PathBuf>> {
        // A plain file where a link should be is an error of the system's (EINVAL): here it is no link.
        Ok(fs::read_link(self.join(path)).ok())
    }

    fn read_file(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let whole = self.join(path);
        let Some(file) = none_if_missing(File::open(&whole), &whole)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).map_err(disk_error(&whole))?;
        Ok(Some(bytes))
    }

    fn list_files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let whole = self.join(folder);
        let Some(entries) = none_if_missing(fs::read_dir(&whole), &whole)? else {
            return Ok(vec![]);
        };
        let name = |entry: std::io::Result<fs::DirEntry>| {
            Ok(folder.join(entry.map_err(disk_error(&whole))?.file_name()))
        };
        entries.map(name).collect()
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        super::small_file::put_small_file(self, &self.join(path), bytes)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let whole = self.join(path);
        fs::remove_file(&whole).map_err(disk_error(&whole))
    }
}

/// `None` for a file that does not exist; other errors stay errors.
fn none_if_missing<T>(found: std::io::Result<T>, path: &Path) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(disk_error(path)(cause)),
    }
}

fn hash_file(path: &Path, advance: &mut dyn FnMut(u64)) -> Result<Digest> {
    let mut file = File::open(path).map_err(disk_error(path))?;
    let mut hash = Sha256Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(disk_error(path))?;
        if read == 0 {
            return Ok(hash.finish());
        }
        hash.update(&piece[..read]);
        advance(read as u64);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use store::hash::sha256;
    use types::site::ModelLayout;

    use super::super::plan::FolderIdentity;
    use super::super::record::RecordedFile;
    use super::*;

    fn make_content(bytes: &[u8]) -> FileContent {
        FileContent { digest: sha256(bytes), size: bytes.len() as u64 }
    }

    fn make_record(path: &str, content: FileContent, modified: u64) -> ModelRecord {
        let file = RecordedFile { digest: content.digest, size: content.size, modified };
        ModelRecord {
            version: 1,
            name: "o/n@1".into(),
            layout: ModelLayout::Flat,
            folder: None,
            files: [(PathBuf::from(path), file)].into(),
            links: BTreeMap::new(),
        }
    }

    #[test]
    fn a_file_is_right_by_its_content_and_wrong_by_its_length_or_kind() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("x"), "good").unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        let folder = fs::metadata(root.path().join("folder")).unwrap().len();
        let state =
            |path: &str, content| file_state(root.path(), Path::new(path), content, &[]).unwrap();
        assert_eq!(state("x", make_content(b"good")), FileState::Right);
        assert_eq!(state("x", make_content(b"evil")), FileState::Wrong);
        assert_eq!(state("x", make_content(b"longer")), FileState::Wrong);
        assert_eq!(state("y", make_content(b"good")), FileState::Missing);
        let of_its_length = FileContent { size: folder, ..make_content(b"good") };
        assert_eq!(state("folder", of_its_length), FileState::Wrong);
    }

    #[test]
    fn a_recorded_file_is_hashed_again_only_when_its_time_or_digest_differs() {
        let root = tempfile::tempdir().unwrap();
        // Not what the record says: only hashing it would show that.
        fs::write(root.path().join("x"), "evil").unwrap();
        let modified = root.path().file_stat(Path::new("x")).unwrap().unwrap().modified;
        let good = make_content(b"good");
        let state = |record| file_state(root.path(), Path::new("x"), good, &[record]).unwrap();
        assert_eq!(state(make_record("x", good, modified)), FileState::Right);
        assert_eq!(state(make_record("x", good, modified - 1)), FileState::Wrong);
        assert_eq!(state(make_record("y", good, modified)), FileState::Wrong);
        assert_eq!(state(make_record("x", make_content(b"evil"), modified)), FileState::Wrong);
    }

    #[test]
    fn files_that_are_no_part_of_the_model_are_found_at_any_depth() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        for path in ["known", "a/known", "a/b/strange"] {
            fs::write(root.path().join(path), "").unwrap();
        }
        std::os::unix::fs::symlink("known", root.path().join("link")).unwrap();
        let content = make_content(b"");
        let mut folder = ModelFolder {
            path: PathBuf::new(),
            files: [("known".into(), content), ("a/known".into(), content)].into(),
            links: [("link".into(), "known".into())].into(),
            identity: FolderIdentity::Model,
        };
        let strange = root.path().join("a/b/strange");
        assert_eq!(find_foreign_files(root.path(), &folder).unwrap(), [strange].into());
        folder.links.clear();
        assert_eq!(find_foreign_files(root.path(), &folder).unwrap().len(), 2);
    }

    #[test]
    fn a_plain_file_and_a_missing_one_are_no_links() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("x"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("link")).unwrap();
        let target = |path: &str| root.path().link_target(Path::new(path)).unwrap();
        assert_eq!((target("x"), target("y")), (None, None));
        assert_eq!(target("link"), Some(PathBuf::from("nowhere")));
        assert_eq!(root.path().read_file(Path::new("y")).unwrap(), None);
        assert_eq!(root.path().list_files(Path::new("y")).unwrap(), [""; 0].map(PathBuf::from));
    }
}
