//! A tree of files in which models are looked for: a folder of this machine, or a folder in an
//! image's file system. Both are read through the same few questions.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use store::Store;
use store::hash::GitBlob;
use store::progress::Progress;
use types::lock::ModelFile;
use types::{Digest, GitId};

use super::image::put_blob;
use crate::{Error, Result};

/// Folders in folders; deeper trees are taken for a circle of links.
const MAX_DEPTH: usize = 64;
/// Files of one model folder; see [`crate::model`] for what a manifest takes.
const MAX_FILES: usize = 100_000;

/// A tree of files. Paths are relative to its root, with `/` between segments; links are followed.
pub(super) trait Tree {
    /// What errors call the place of a path.
    fn shown(&self, path: &str) -> String;
    /// What a folder has, sorted by name; `None` when it is no folder.
    fn list(&self, folder: &str) -> Result<Option<Vec<Entry>>>;
    /// A document of at most `most` bytes; `None` when there is no such file.
    fn document(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>>;
    /// The path that a file has once all links are followed.
    fn real_path(&self, path: &str) -> Result<String>;
    /// Puts files into the store, in any order; answers stand in the order of the questions.
    fn take(&self, files: &[Wanted], store: &Store, progress: &dyn Progress) -> Result<Vec<Taken>>;
}

/// An entry of a folder, what links point to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: EntryKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryKind {
    Folder,
    File {
        size: u64,
    },
    /// A link to nothing.
    Broken,
}

/// A file to be taken into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) hash: Hash,
}

/// What is known of a file's content, and what is to be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    /// The sha256 is known; the content must have it.
    Known(Digest),
    /// Only the sha256 is to be found out (an LFS file has no git id of its content).
    Sha256,
    /// Git's id is to be found out as well.
    Git,
}

/// A file that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) digest: Digest,
    pub(super) git: Option<GitId>,
}

/// A file of a tree, found by [`files`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Relative to the folder that was asked for.
    pub(super) path: String,
    pub(super) size: u64,
}

/// All files below a folder, sorted by path. `enter` says which folders are looked into.
pub(super) fn files(
    tree: &dyn Tree,
    folder: &str,
    enter: impl Fn(&str) -> bool,
) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), 0)];
    while let Some((below, depth)) = open.pop() {
        let path = join(folder, &below);
        let damaged = |reason: String| Error::Damaged { what: tree.shown(&path), reason };
        if depth > MAX_DEPTH {
            return Err(damaged(format!(
                "folders are more than {MAX_DEPTH} deep; is a link a circle?"
            )));
        }
        for entry in tree.list(&path)?.unwrap_or_default() {
            let relative = join(&below, &entry.name);
            match entry.kind {
                EntryKind::Folder if enter(&relative) => open.push((relative, depth + 1)),
                EntryKind::Folder => {}
                EntryKind::File { size } => found.push(Found { path: relative, size }),
                EntryKind::Broken => {
                    return Err(damaged(format!(
                        "{relative} is a link to a file that is not there; the download was cut or \
                         the folder was copied without its blobs: download it again"
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

/// Two paths as one.
pub(super) fn join(folder: &str, name: &str) -> String {
    match (folder.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => folder.to_owned(),
        _ => format!("{folder}/{name}"),
    }
}

/// Puts one content into the store as it was asked for.
pub(super) fn take_one(
    what: &str,
    wanted: &Wanted,
    content: impl Read,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Taken> {
    if let Hash::Known(digest) = wanted.hash {
        put_blob(store, &digest, wanted.size, content, what, progress)?;
        return Ok(Taken { digest, git: None });
    }
    progress.expect(wanted.size);
    let git = (wanted.hash == Hash::Git).then(|| GitBlob::new(wanted.size));
    let mut watched = Watched { inner: content, git, read: 0, progress };
    let (digest, size) = store.add_reader(&mut watched)?;
    if size != wanted.size {
        return Err(Error::Damaged {
            what: what.to_owned(),
            reason: format!(
                "it had {} bytes and now has {size}; it changed meanwhile",
                wanted.size
            ),
        });
    }
    let git = watched.git.map(GitBlob::finish).transpose()?;
    Ok(Taken { digest, git })
}

/// A taken file as a lock has it.
pub(super) fn model_file(path: String, size: u64, taken: Taken) -> Result<ModelFile> {
    let lfs = taken.git.is_none();
    let git = match taken.git {
        Some(git) => git,
        None => crate::model::pointer_id(&taken.digest, size)?,
    };
    Ok(ModelFile { path, size, digest: taken.digest, git, lfs })
}

struct Watched<'a, R> {
    inner: R,
    git: Option<GitBlob>,
    read: u64,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(git) = &mut self.git {
            git.update(&buffer[..read]);
        }
        self.read += read as u64;
        self.progress.advance(read as u64);
        Ok(read)
    }
}

/// A folder of this machine.
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Fails when there is no such folder.
    pub(super) fn open(root: PathBuf) -> Result<Self> {
        match fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { root }),
            Ok(_) => Err(Error::Read {
                what: root.display().to_string(),
                cause: io::ErrorKind::NotADirectory.into(),
            }),
            Err(cause) => Err(Error::Read { what: root.display().to_string(), cause }),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn unreadable(&self, path: &str) -> impl Fn(io::Error) -> Error {
        let what = self.shown(path);
        move |cause| Error::Read { what: what.clone(), cause }
    }
}

impl Tree for Folder {
    fn shown(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    fn list(&self, folder: &str) -> Result<Option<Vec<Entry>>> {
        let path = self.at(folder);
        if !path.is_dir() {
            return Ok(None);
        }
        let unreadable = self.unreadable(folder);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&path).map_err(&unreadable)? {
            let entry = entry.map_err(&unreadable)?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(Error::Damaged {
                    what: entry.path().display().to_string(),
                    reason: "its name is no UTF-8, which a repository's files have".into(),
                });
            };
            let kind = match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => EntryKind::Folder,
                Ok(metadata) if metadata.is_file() => EntryKind::File { size: metadata.len() },
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => EntryKind::Broken,
                Err(cause) => return Err(unreadable(cause)),
            };
            entries.push(Entry { name, kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(entries))
    }

    fn document(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let place = self.at(path);
        if !place.is_file() {
            return Ok(None);
        }
        let unreadable = self.unreadable(path);
        let file = File::open(place).map_err(&unreadable)?;
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(&unreadable)?;
        if bytes.len() as u64 > most {
            return Err(Error::TooLarge { what: self.shown(path), size: bytes.len() as u64, most });
        }
        Ok(Some(bytes))
    }

    fn real_path(&self, path: &str) -> Result<String> {
        let real = fs::canonicalize(self.at(path)).map_err(self.unreadable(path))?;
        Ok(real.to_string_lossy().into_owned())
    }

    fn take(&self, files: &[Wanted], store: &Store, progress: &dyn Progress) -> Result<Vec<Taken>> {
        let mut taken = Vec::with_capacity(files.len());
        for wanted in files {
            let unreadable = self.unreadable(&wanted.path);
            let file = File::open(self.at(&wanted.path)).map_err(&unreadable)?;
            taken.push(take_one(&self.shown(&wanted.path), wanted, file, store, progress)?);
        }
        Ok(taken)
    }
}
