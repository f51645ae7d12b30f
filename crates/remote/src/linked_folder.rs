//! A folder on this machine from which content is imported: of models, an OCI layout, a chart. Links
//! inside of it are followed, as those of a Hugging Face cache from snapshots to blobs; one that leads
//! out of it is an error, since whoever can write to the folder could make any file of this machine a
//! part of the bundle.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use store::confined::{ConfinedFolder, is_refused_link};

use crate::{Error, Result};

/// A folder whose links stay inside. Paths are relative to it; the folder's own path is the user's word
/// and may contain links.
pub(crate) struct LinkedFolder {
    /// The path as the user wrote it.
    path: PathBuf,
    /// The same without links.
    real: ConfinedFolder,
}

impl LinkedFolder {
    /// Opens a folder; fails when there is none at this path.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let unreadable = |cause| Error::unreadable_path(&path, cause);
        let real = std::fs::canonicalize(&path).map_err(unreadable)?;
        if !real.is_dir() {
            return Err(unreadable(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { path, real: ConfinedFolder::new(real) })
    }

    /// The path of a file as the user would write it.
    pub(crate) fn display_path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.path.clone() } else { self.path.join(path) }
    }

    /// The metadata of a file or folder; `None` when there is none.
    pub(crate) fn read_metadata(&self, path: &str) -> Result<Option<Metadata>> {
        self.with_real_path(path, |real| self.real.read_metadata(real))
    }

    /// Opens a regular file; `None` when there is none.
    pub(crate) fn open_file(&self, path: &str) -> Result<Option<File>> {
        self.with_real_path(path, |real| self.real.open_file(real))
    }

    /// The names in a folder; `None` when there is no such folder.
    pub(crate) fn list_names(&self, path: &str) -> Result<Option<Vec<std::ffi::OsString>>> {
        if !self.read_metadata(path)?.is_some_and(|metadata| metadata.is_dir()) {
            return Ok(None);
        }
        self.with_real_path(path, |real| self.real.list_names(real))
    }

    /// Reads a document of at most `most` bytes; `None` when there is no such file.
    pub(crate) fn read_document(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        // One byte more than allowed: a file that is too long is noticed without its metadata.
        file.take(most + 1).read_to_end(&mut bytes).map_err(self.read_error(path))?;
        if bytes.len() as u64 > most {
            return Err(Error::TooLarge {
                what: self.display_path(path).display().to_string(),
                size: bytes.len() as u64,
                most,
            });
        }
        Ok(Some(bytes))
    }

    /// The path without links.
    pub(crate) fn real_path(&self, path: &str) -> Result<PathBuf> {
        let real = self.resolve_path(path)?;
        let real = real.ok_or_else(|| self.read_error(path)(io::ErrorKind::NotFound.into()))?;
        Ok(if real.as_os_str().is_empty() {
            self.real.path().to_owned()
        } else {
            self.real.path().join(real)
        })
    }

    /// A closure that names the path in an IO error.
    pub(crate) fn read_error(&self, path: &str) -> impl Fn(io::Error) -> Error + use<> {
        let what = self.display_path(path).display().to_string();
        move |cause| Error::Read { what: what.clone(), cause }
    }

    /// Does something with a path of which no part is a link. Most have none anyway, so it is tried as it
    /// is first.
    fn with_real_path<T>(
        &self,
        path: &str,
        act: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<Option<T>> {
        let mut done = act(Path::new(path));
        if done.as_ref().is_err_and(is_refused_link) {
            let Some(real) = self.resolve_path(path)? else { return Ok(None) };
            done = act(&real);
        }
        match done {
            Ok(done) => Ok(Some(done)),
            // Also below something that is no folder.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.read_error(path)(error)),
        }
    }

    /// The path without links, relative to the folder; `None` when a link leads to nothing.
    fn resolve_path(&self, path: &str) -> Result<Option<PathBuf>> {
        let root = self.real.path();
        let real = match std::fs::canonicalize(root.join(path)) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(self.read_error(path)(cause)),
        };
        if let Ok(inside) = real.strip_prefix(root) {
            return Ok(Some(inside.to_owned()));
        }
        // The first part that is outside is the link that leads out.
        let mut link = PathBuf::new();
        for part in Path::new(path).components() {
            link.push(part);
            let is_outside =
                std::fs::canonicalize(root.join(&link)).is_ok_and(|real| !real.starts_with(root));
            if is_outside {
                break;
            }
        }
        let target = std::fs::read_link(root.join(&link)).unwrap_or(real);
        Err(Error::Local {
            path: self.path.join(&link),
            reason: format!(
                "it is a link to {}, outside of {}; copy what it leads to into the folder (cp -L), or name \
                 the folder that has both",
                target.display(),
                self.path.display()
            )
            .into(),
        })
    }
}

/// Joins two relative paths, either of which may be empty.
pub(crate) fn join_paths(folder: &str, name: &str) -> String {
    match (folder.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => folder.to_owned(),
        _ => format!("{folder}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_inside_are_followed_and_those_out_of_the_folder_are_told() {
        let [outside, root] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir_all(path("blobs")).unwrap();
        std::fs::create_dir_all(path("snapshots/c")).unwrap();
        std::fs::write(path("blobs/x"), "inside").unwrap();
        std::fs::write(outside.path().join("secret"), "outside").unwrap();
        symlink("../../blobs/x", path("snapshots/c/config.json")).unwrap();
        symlink("../blobs", path("snapshots/all")).unwrap();
        symlink("nowhere", path("snapshots/broken")).unwrap();
        symlink(outside.path().join("secret"), path("out")).unwrap();
        symlink(outside.path(), path("folder")).unwrap();
        let folder = LinkedFolder::open(root.path().to_owned()).unwrap();

        for inside in ["blobs/x", "snapshots/c/config.json", "snapshots/all/x"] {
            assert_eq!(folder.read_metadata(inside).unwrap().unwrap().len(), 6, "{inside}");
            assert!(folder.open_file(inside).unwrap().is_some(), "{inside}");
            assert!(folder.real_path(inside).unwrap().ends_with("blobs/x"), "{inside}");
        }
        assert_eq!(folder.list_names("snapshots/all").unwrap().unwrap(), ["x"]);
        assert!(folder.open_file("snapshots/broken").unwrap().is_none());
        assert!(folder.open_file("no/such").unwrap().is_none());
        for (path, link) in [("out", "out"), ("folder/secret", "folder")] {
            let error = folder.open_file(path).unwrap_err();
            let Error::Local { path, reason } = error else { panic!("{error}") };
            assert_eq!(path, root.path().join(link));
            assert!(reason.to_string().contains(outside.path().to_str().unwrap()), "{reason}");
        }
        // A folder that is named through a link is the user's word.
        let named = outside.path().join("named");
        symlink(root.path(), &named).unwrap();
        let folder = LinkedFolder::open(named).unwrap();
        assert!(folder.open_file("snapshots/c/config.json").unwrap().is_some());
    }
}
