//! A tree of files from which models are imported: a folder on this machine, or a folder in an
//! image's file system. Both implement one trait, so that caches and plain folders are read by the
//! same code.

use std::io::{self, Read};
use std::path::PathBuf;

use store::Store;
use store::hash::GitBlobHasher;
use store::progress::Progress;
use types::lock::LockedModelFile;
use types::{Digest, GitId};

use super::imported_image::put_blob;
use crate::linked_folder::LinkedFolder;
pub(super) use crate::linked_folder::join_paths;
use crate::{Error, Result};

/// Limit for the depth of folders; a deeper tree is taken for a loop of links.
const MAX_DEPTH: usize = 64;
/// Limit for the files of a folder. Filters are applied afterwards, so it is higher than what fits
/// into a manifest (see [`crate::look_up_model`]).
const MAX_FILES: usize = 100_000;

/// A tree of files. Paths are relative to its root, with `/` between segments; links inside of it are
/// followed.
pub(super) trait FileTree {
    /// A path's name in errors.
    fn describe_path(&self, path: &str) -> String;
    /// Lists a folder's entries, sorted by name; `None` when it is not a folder.
    fn list_folder(&self, folder: &str) -> Result<Option<Vec<FolderEntry>>>;
    /// Reads a document of at most `most` bytes; `None` when there is no such file.
    fn read_document(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>>;
    /// The path that a file has once all links are followed.
    fn real_path(&self, path: &str) -> Result<String>;
    /// Copies files to the store, in whatever order is fastest. The results are in the order of
    /// `files`.
    fn import_files(
        &self,
        files: &[FileImport],
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Vec<ImportedFile>>;
}

/// An entry of a folder; links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FolderEntry {
    pub(super) name: String,
    pub(super) kind: FolderEntryKind,
}

/// The type of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FolderEntryKind {
    Folder,
    File {
        size: u64,
    },
    /// A link whose target does not exist.
    Broken,
}

/// A file that is to be copied to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileImport {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) hash: RequiredHash,
}

/// Which hashes of a file are known, and which ones must be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequiredHash {
    /// The sha256 is known; the content must have it.
    Known(Digest),
    /// Only the sha256 must be computed (the git id of an LFS file is that of its pointer).
    Sha256,
    /// The sha256 and git's blob id must be computed.
    Git,
}

/// A file that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImportedFile {
    pub(super) digest: Digest,
    pub(super) git: Option<GitId>,
}

/// A file of a tree, listed by [`list_files`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TreeFile {
    /// Its path, relative to the listed folder.
    pub(super) path: String,
    pub(super) size: u64,
}

/// Lists all files below a folder, sorted by path. `enter` decides which folders are searched.
pub(super) fn list_files(
    tree: &dyn FileTree,
    folder: &str,
    enter: impl Fn(&str) -> bool,
) -> Result<Vec<TreeFile>> {
    let mut found = Vec::new();
    // A stack instead of recursion: the depth comes from the input.
    let mut open = vec![(String::new(), 0)];
    while let Some((below, depth)) = open.pop() {
        let path = join_paths(folder, &below);
        let damaged = |reason: String| Error::Damaged {
            what: tree.describe_path(&path),
            reason: reason.into(),
        };
        if depth > MAX_DEPTH {
            return Err(damaged(format!(
                "folders are nested more than {MAX_DEPTH} deep; check for a loop of symbolic links"
            )));
        }
        for entry in tree.list_folder(&path)?.unwrap_or_default() {
            let relative = join_paths(&below, &entry.name);
            match entry.kind {
                FolderEntryKind::Folder if enter(&relative) => open.push((relative, depth + 1)),
                FolderEntryKind::Folder => {}
                FolderEntryKind::File { size } => found.push(TreeFile { path: relative, size }),
                FolderEntryKind::Broken => {
                    return Err(damaged(format!(
                        "{relative} is a link to a file that does not exist: the download was interrupted, \
                         or the folder was copied without its blobs; download it again"
                    )));
                }
            }
            if found.len() > MAX_FILES {
                return Err(damaged(format!("it has more than {MAX_FILES} files")));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Copies one file to the store, checking or computing its hashes. `what` is its name in errors.
pub(super) fn import_file(
    what: &str,
    wanted: &FileImport,
    content: impl Read,
    store: &Store,
    progress: &dyn Progress,
) -> Result<ImportedFile> {
    if let RequiredHash::Known(digest) = wanted.hash {
        put_blob(store, &digest, wanted.size, content, what, progress)?;
        return Ok(ImportedFile { digest, git: None });
    }
    progress.expect_bytes(wanted.size);
    let git = (wanted.hash == RequiredHash::Git).then(|| GitBlobHasher::new(wanted.size));
    let mut watched = ModelFileReader { inner: content, git, read: 0, progress };
    let (digest, size) = store.add_reader(&mut watched)?;
    if size != wanted.size {
        return Err(Error::Damaged {
            what: what.to_owned(),
            reason: format!(
                "it had {} bytes and now has {size}: it was changed while it was read",
                wanted.size
            )
            .into(),
        });
    }
    let git = watched.git.map(GitBlobHasher::finish).transpose()?;
    Ok(ImportedFile { digest, git })
}

/// An imported file as a lock describes it. A file without a git id of its own is an LFS file.
pub(super) fn to_model_file(
    path: String,
    size: u64,
    taken: ImportedFile,
) -> Result<LockedModelFile> {
    let lfs = taken.git.is_none();
    let git = match taken.git {
        Some(git) => git,
        None => crate::model::lfs_pointer_id(&taken.digest, size)?,
    };
    Ok(LockedModelFile { path, size, digest: taken.digest, git, lfs })
}

/// Reads a file, reports progress, and computes git's id where it is wanted.
struct ModelFileReader<'a, R> {
    inner: R,
    git: Option<GitBlobHasher>,
    read: u64,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for ModelFileReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(git) = &mut self.git {
            git.update(&buffer[..read]);
        }
        self.read += read as u64;
        self.progress.advance_bytes(read as u64);
        Ok(read)
    }
}

/// A folder on this machine.
pub(super) struct DiskFolder(LinkedFolder);

impl DiskFolder {
    /// Opens a folder; fails when there is none at this path.
    pub(super) fn open(root: PathBuf) -> Result<Self> {
        LinkedFolder::open(root).map(Self)
    }

    /// The length of a file in bytes.
    pub(super) fn file_size(&self, path: &str) -> Result<u64> {
        let metadata = self.0.read_metadata(path)?;
        let missing = || self.0.read_error(path)(io::ErrorKind::NotFound.into());
        Ok(metadata.ok_or_else(missing)?.len())
    }
}

impl FileTree for DiskFolder {
    fn describe_path(&self, path: &str) -> String {
        self.0.display_path(path).display().to_string()
    }

    fn list_folder(&self, folder: &str) -> Result<Option<Vec<FolderEntry>>> {
        let Some(names) = self.0.list_names(folder)? else { return Ok(None) };
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let Ok(name) = name.into_string() else {
                return Err(Error::Damaged {
                    what: self.describe_path(folder),
                    reason: "the name of a file in it is not valid UTF-8; rename the file".into(),
                });
            };
            let kind = match self.0.read_metadata(&join_paths(folder, &name))? {
                Some(metadata) if metadata.is_dir() => FolderEntryKind::Folder,
                Some(metadata) if metadata.is_file() => {
                    FolderEntryKind::File { size: metadata.len() }
                }
                // A socket or device is not part of a model.
                Some(_) => continue,
                None => FolderEntryKind::Broken,
            };
            entries.push(FolderEntry { name, kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(entries))
    }

    fn read_document(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        if !self.0.read_metadata(path)?.is_some_and(|metadata| metadata.is_file()) {
            return Ok(None);
        }
        self.0.read_document(path, most)
    }

    fn real_path(&self, path: &str) -> Result<String> {
        Ok(self.0.real_path(path)?.to_string_lossy().into_owned())
    }

    fn import_files(
        &self,
        files: &[FileImport],
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Vec<ImportedFile>> {
        let mut taken = Vec::with_capacity(files.len());
        for wanted in files {
            let file = self
                .0
                .open_file(&wanted.path)?
                .ok_or_else(|| self.0.read_error(&wanted.path)(io::ErrorKind::NotFound.into()))?;
            taken.push(import_file(
                &self.describe_path(&wanted.path),
                wanted,
                file,
                store,
                progress,
            )?);
        }
        Ok(taken)
    }
}
