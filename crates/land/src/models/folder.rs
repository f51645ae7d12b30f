//! A folder of models as a [`ModelStorage`], and what is in it: which files are right, and which are
//! not Gantry's.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use store::confined::ConfinedFolder;
use store::hash::DigestHasher;
use types::{Digest, DigestAlgorithm};

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
/// of seconds. A symbolic link is never right: it is replaced, and what it leads to stays.
pub(super) fn file_state(
    root: &Path,
    path: &Path,
    content: FileContent,
    records: &[ModelRecord],
) -> Result<FileState> {
    let stat = match root.file_stat(path) {
        Ok(Some(stat)) if stat.size == content.size && !is_folder(root, path)? => stat,
        Ok(Some(_)) => return Ok(FileState::Wrong),
        Ok(None) => return Ok(FileState::Missing),
        Err(error) if error.is_refused_link() => return Ok(FileState::Wrong),
        Err(error) => return Err(error),
    };
    let mut known = records.iter().filter_map(|record| record.files.get(path));
    if known.any(|known| known.digest == content.digest && known.modified == stat.modified) {
        return Ok(FileState::Right);
    }
    let is_right =
        root.digest_file(path, content.digest.algorithm(), &mut |_| {})? == content.digest;
    Ok(if is_right { FileState::Right } else { FileState::Wrong })
}

/// Whether there is a folder of that path. A link where one should be is an error.
pub(super) fn is_folder(root: &Path, path: &Path) -> Result<bool> {
    let metadata = ConfinedFolder::new(root).read_metadata(path);
    Ok(none_if_missing(metadata, &root.join(path))?.is_some_and(|metadata| metadata.is_dir()))
}

/// The files below a folder that are not part of the model.
pub(super) fn find_foreign_files(root: &Path, folder: &ModelFolder) -> Result<BTreeSet<PathBuf>> {
    let confined = ConfinedFolder::new(root);
    let mut strangers = BTreeSet::new();
    let mut open = vec![folder.path.clone()];
    while let Some(next) = open.pop() {
        let names = confined.list_names(&next).map_err(disk_error(&root.join(&next)))?;
        for path in names.into_iter().map(|name| next.join(name)) {
            // A link is not followed, and so is no folder.
            if confined.read_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                open.push(path);
                continue;
            }
            let is_known = path.strip_prefix(&folder.path).is_ok_and(|relative| {
                folder.files.contains_key(relative) || folder.links.contains_key(relative)
            });
            if !is_known {
                strangers.insert(root.join(path));
            }
        }
    }
    Ok(strangers)
}

/// A folder of models. Others may write in it, so no link in it is followed. Errors have the path of the
/// file.
impl ModelStorage for Path {
    fn display_path(&self, path: &Path) -> PathBuf {
        self.join(path)
    }

    fn file_stat(&self, path: &Path) -> Result<Option<FileStat>> {
        let whole = self.join(path);
        let metadata = ConfinedFolder::new(self).read_metadata(path);
        let Some(metadata) = none_if_missing(metadata, &whole)? else { return Ok(None) };
        let time = metadata.modified().map_err(disk_error(&whole))?;
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Ok(Some(FileStat { size: metadata.len(), modified }))
    }

    fn digest_file(
        &self,
        path: &Path,
        algorithm: DigestAlgorithm,
        advance: &mut dyn FnMut(u64),
    ) -> Result<Digest> {
        let whole = self.join(path);
        let file = ConfinedFolder::new(self).open_file(path).map_err(disk_error(&whole))?;
        hash_file(file, &whole, algorithm, advance)
    }

    fn link_target(&self, path: &Path) -> Result<Option<PathBuf>> {
        // A plain file where a link should be is an error of the system's (EINVAL): here it is no link.
        Ok(ConfinedFolder::new(self).read_link(path).ok())
    }

    fn read_file(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let whole = self.join(path);
        let opened = ConfinedFolder::new(self).open_file(path);
        let Some(file) = none_if_missing(opened, &whole)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).map_err(disk_error(&whole))?;
        Ok(Some(bytes))
    }

    fn list_files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let names = ConfinedFolder::new(self).list_names(folder);
        let names = none_if_missing(names, &self.join(folder))?.unwrap_or_default();
        Ok(names.into_iter().map(|name| folder.join(name)).collect())
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        super::small_file::put_small_file(&ConfinedFolder::new(self), path, bytes)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        ConfinedFolder::new(self).remove_file(path).map_err(disk_error(&self.join(path)))
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

fn hash_file(
    mut file: File,
    path: &Path,
    algorithm: DigestAlgorithm,
    advance: &mut dyn FnMut(u64),
) -> Result<Digest> {
    let mut hash = DigestHasher::new(algorithm);
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
    use std::fs;

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
        // A link with the right content behind it is still not the file.
        std::os::unix::fs::symlink("x", root.path().join("link")).unwrap();
        assert_eq!(state("link", make_content(b"good")), FileState::Wrong);
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
        fs::create_dir_all(root.path().join("o/n/a/b")).unwrap();
        for path in ["known", "a/known", "a/b/strange"] {
            fs::write(root.path().join("o/n").join(path), "").unwrap();
        }
        std::os::unix::fs::symlink("known", root.path().join("o/n/link")).unwrap();
        let content = make_content(b"");
        let mut folder = ModelFolder {
            path: PathBuf::from("o/n"),
            files: [("known".into(), content), ("a/known".into(), content)].into(),
            links: [("link".into(), "known".into())].into(),
            identity: FolderIdentity::Model,
        };
        let strange = root.path().join("o/n/a/b/strange");
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
