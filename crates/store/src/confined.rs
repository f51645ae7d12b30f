//! Folders that others may write: what is in them is opened beneath the folder, and no symbolic link
//! on the way is followed. Someone who can write to a shared store, a models volume or a stick can
//! plant a link; a program that follows it hands out, or overwrites, a file of somewhere else.
//!
//! Linux has openat2(2) for it since 5.6 (`RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`): one call, decided
//! by the kernel, without a race. Where the kernel or a seccomp filter refuses that call, and on other
//! systems, each part of the path is opened by itself with `O_NOFOLLOW`.
//!
//! The folder's own path is the user's word and may contain links.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

/// The permissions of new files and folders, before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

/// How a folder is opened of which only the entries are needed: `O_PATH` needs no right to list it.
#[cfg(target_os = "linux")]
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How a file is opened of which only the metadata is needed: no pipe is waited for, no right to read
/// is needed.
#[cfg(target_os = "linux")]
const METADATA: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const METADATA: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// How a file is opened for reading. Without blocking, since opening a planted pipe would wait for a
/// writer for ever; reading a regular file is not changed by it.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A folder that others may write. All paths are relative to it, without `..`; a symbolic link on the
/// way, also as the last part, is an error (see [`is_refused_link`]). Nothing is kept open, so
/// that the folder's disk can be unmounted.
#[derive(Debug, Clone)]
pub struct ConfinedFolder {
    path: PathBuf,
}

impl ConfinedFolder {
    /// The folder of that path. It may be created later.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, relative: impl AsRef<Path>) -> io::Result<File> {
        self.open_regular_file(relative.as_ref(), READ)
    }

    /// Opens a regular file for reading and writing, and creates it where it does not exist. What is in
    /// it stays.
    pub fn open_writable_file(&self, relative: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.open_regular_file(relative.as_ref(), flags)
    }

    /// Creates a file; an error where anything of that name exists.
    pub fn create_new_file(&self, relative: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(File::from(self.open_beneath(relative.as_ref(), flags)?))
    }

    /// The metadata of a file or folder.
    pub fn read_metadata(&self, relative: impl AsRef<Path>) -> io::Result<Metadata> {
        File::from(self.open_beneath(relative.as_ref(), METADATA)?).metadata()
    }

    /// The names in a folder, in the order of the file system; `""` is the folder itself.
    pub fn list_names(&self, relative: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStrExt as _;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = self.open_beneath(relative.as_ref(), flags)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(folder)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Creates a folder with all that are above it. Folders that exist stay.
    pub fn create_folders(&self, relative: impl AsRef<Path>) -> io::Result<()> {
        let relative = relative.as_ref();
        std::fs::create_dir_all(&self.path)?;
        let mut made = PathBuf::new();
        for part in split_path(relative)? {
            let parent = self.open_folder(&made)?;
            made.push(part);
            match rustix::fs::mkdirat(&parent, part, FOLDER_MODE) {
                Ok(()) => {}
                // Opened once more, so that a link or a file of that name is an error here.
                Err(Errno::EXIST) => drop(self.open_folder(&made)?),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Renames a file or folder within this folder; a file of the new name is replaced.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from_folder, from) = self.open_parent(from.as_ref())?;
        let (to_folder, to) = self.open_parent(to.as_ref())?;
        Ok(rustix::fs::renameat(&from_folder, from, &to_folder, to)?)
    }

    /// Removes a file, or a link, which is not followed.
    pub fn remove_file(&self, relative: impl AsRef<Path>) -> io::Result<()> {
        let (folder, name) = self.open_parent(relative.as_ref())?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?)
    }

    /// Gives a file a second name, as a hard link; an error where anything of that name exists.
    pub fn link_file(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from_folder, from) = self.open_parent(from.as_ref())?;
        let (to_folder, to) = self.open_parent(to.as_ref())?;
        Ok(rustix::fs::linkat(&from_folder, from, &to_folder, to, AtFlags::empty())?)
    }

    /// Creates a symbolic link with this target, which is not looked at; an error where anything of that
    /// name exists.
    pub fn create_link(&self, relative: impl AsRef<Path>, target: &Path) -> io::Result<()> {
        let (folder, name) = self.open_parent(relative.as_ref())?;
        Ok(rustix::fs::symlinkat(target, &folder, name)?)
    }

    /// The target of a symbolic link as it is written. A file that is no link is an error (EINVAL).
    pub fn read_link(&self, relative: impl AsRef<Path>) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        let (folder, name) = self.open_parent(relative.as_ref())?;
        let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Swaps two files or folders in one step. Not every file system can do it.
    #[cfg(target_os = "linux")]
    pub fn exchange(&self, one: impl AsRef<Path>, other: impl AsRef<Path>) -> io::Result<()> {
        use rustix::fs::{RenameFlags, renameat_with};
        let (one_folder, one) = self.open_parent(one.as_ref())?;
        let (other_folder, other) = self.open_parent(other.as_ref())?;
        Ok(renameat_with(&one_folder, one, &other_folder, other, RenameFlags::EXCHANGE)?)
    }

    /// Swaps two files or folders in one step. Not every system can do it.
    #[cfg(not(target_os = "linux"))]
    pub fn exchange(&self, _: impl AsRef<Path>, _: impl AsRef<Path>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes an empty folder.
    pub fn remove_empty_folder(&self, relative: impl AsRef<Path>) -> io::Result<()> {
        let (folder, name) = self.open_parent(relative.as_ref())?;
        Ok(rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
    }

    /// Removes a folder with all that is in it. Links in it are removed, not followed. A folder that does
    /// not exist is no error.
    pub fn remove_folder(&self, relative: impl AsRef<Path>) -> io::Result<()> {
        // The folders from the top down: removed in reverse order, each is empty then.
        let mut folders = vec![relative.as_ref().to_owned()];
        let mut at = 0;
        while let Some(folder) = folders.get(at).cloned() {
            at += 1;
            let names = match self.list_names(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                names => names?,
            };
            for path in names.into_iter().map(|name| folder.join(name)) {
                // A link is refused here, and so is removed as the entry that it is.
                match self.read_metadata(&path) {
                    Ok(metadata) if metadata.is_dir() => folders.push(path),
                    _ => self.remove_file(&path)?,
                }
            }
        }
        folders.iter().rev().try_for_each(|folder| self.remove_empty_folder(folder))
    }

    /// Sets the time of a file's last change to now. Whoever may write to the file may do so; its owner
    /// is not needed.
    pub fn touch_file(&self, relative: impl AsRef<Path>) -> io::Result<()> {
        let (folder, name) = self.open_parent(relative.as_ref())?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        Ok(rustix::fs::utimensat(&folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn open_regular_file(&self, relative: &Path, flags: OFlags) -> io::Result<File> {
        let file = File::from(self.open_beneath(relative, flags)?);
        if !file.metadata()?.is_file() {
            let path = self.path.join(relative).display().to_string();
            return Err(io::Error::other(format!("{path} is not a regular file")));
        }
        Ok(file)
    }

    fn open_folder(&self, relative: &Path) -> io::Result<OwnedFd> {
        self.open_beneath(relative, FOLDER)
    }

    fn open_parent<'a>(&self, relative: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = relative.file_name().ok_or_else(|| refuse_path(relative))?;
        Ok((self.open_folder(relative.parent().unwrap_or(Path::new("")))?, name))
    }

    fn open_beneath(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        static OPENAT2_IS_MISSING: AtomicBool = AtomicBool::new(false);
        let parts = split_path(relative)?;
        let folder = rustix::fs::open(&self.path, FOLDER, Mode::empty())?;
        if parts.is_empty() && flags == FOLDER {
            return Ok(folder);
        }
        let opened = if OPENAT2_IS_MISSING.load(Ordering::Relaxed) {
            open_parts(&folder, &parts, flags)
        } else {
            match open_by_kernel(&folder, relative, flags) {
                Err(Errno::NOSYS) => {
                    OPENAT2_IS_MISSING.store(true, Ordering::Relaxed);
                    open_parts(&folder, &parts, flags)
                }
                // Older container engines refuse calls that they do not know with EPERM. Where the file
                // itself is meant, the parts fail with the same error.
                Err(Errno::PERM) => open_parts(&folder, &parts, flags),
                result => result,
            }
        };
        opened.map_err(|errno| match errno {
            // XDEV: a path that would leave the folder, which only a link can make it do.
            Errno::LOOP | Errno::XDEV => {
                io::Error::other(RefusedLink { path: self.path.join(relative) })
            }
            errno => errno.into(),
        })
    }
}

/// Whether an error of a [`ConfinedFolder`] says that a symbolic link was not followed.
pub fn is_refused_link(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<RefusedLink>)
}

/// A symbolic link where Gantry follows none.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is a symbolic link or lies behind one; Gantry follows no links here, since whoever may write \
     to the folder could point it at any file: replace the link with the file itself",
    path.display()
)]
struct RefusedLink {
    path: PathBuf,
}

/// The parts of a relative path. `..` and absolute paths are refused.
fn split_path(relative: &Path) -> io::Result<Vec<&OsStr>> {
    relative
        .components()
        .filter(|component| !matches!(component, Component::CurDir))
        .map(|component| match component {
            Component::Normal(part) => Ok(part),
            _ => Err(refuse_path(relative)),
        })
        .collect()
}

fn refuse_path(relative: &Path) -> io::Error {
    let text = format!("{} is not a path inside of its folder", relative.display());
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(target_os = "linux")]
fn open_by_kernel(folder: &OwnedFd, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let path = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    // The kernel refuses a mode where nothing is created.
    let mode = if flags.contains(OFlags::CREATE) { FILE_MODE } else { Mode::empty() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(folder, path, flags, mode, resolve)
}

#[cfg(not(target_os = "linux"))]
fn open_by_kernel(_: &OwnedFd, _: &Path, _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// Opens a path part by part, each without following a link.
fn open_parts(folder: &OwnedFd, parts: &[&OsStr], flags: OFlags) -> Result<OwnedFd, Errno> {
    let Some((name, parents)) = parts.split_last() else {
        return rustix::fs::openat(folder, ".", flags, Mode::empty());
    };
    let mut parent = None;
    for part in parents {
        parent = Some(open_part(parent.as_ref().unwrap_or(folder), part, FOLDER)?);
    }
    open_part(parent.as_ref().unwrap_or(folder), name, flags)
}

fn open_part(folder: &OwnedFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let opened = rustix::fs::openat(folder, name, flags | OFlags::NOFOLLOW, FILE_MODE);
    // A link is opened itself with O_PATH, is ENOTDIR where a folder is wanted, and else ELOOP (open(2)).
    let may_be_link = match &opened {
        Ok(_) => flags.contains(METADATA),
        Err(errno) => *errno == Errno::NOTDIR,
    };
    if may_be_link {
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() {
            return Err(Errno::LOOP);
        }
    }
    opened
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::symlink;

    use super::*;

    fn make_folder() -> (tempfile::TempDir, ConfinedFolder) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/file"), "inside").unwrap();
        symlink("/etc/hostname", folder.path().join("a/b/out")).unwrap();
        symlink("file", folder.path().join("a/b/in")).unwrap();
        symlink("b", folder.path().join("a/linked")).unwrap();
        let confined = ConfinedFolder::new(folder.path());
        (folder, confined)
    }

    #[test]
    fn files_of_the_folder_are_read_written_renamed_and_removed() {
        let (folder, confined) = make_folder();

        confined.create_folders("c/d").unwrap();
        confined.create_folders("c/d").unwrap();
        confined.create_new_file("c/d/new").unwrap().write_all(b"one").unwrap();
        confined.open_writable_file("c/d/new").unwrap().write_all(b"ONE").unwrap();
        assert_eq!(
            confined.create_new_file("c/d/new").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        confined.rename("c/d/new", "a/b/file").unwrap();
        let mut text = String::new();
        confined.open_file("a/b/file").unwrap().read_to_string(&mut text).unwrap();

        assert_eq!(text, "ONE");
        assert_eq!(confined.read_metadata("a/b/file").unwrap().len(), 3);
        assert!(confined.list_names("c/d").unwrap().is_empty());
        confined.remove_file("a/b/file").unwrap();
        assert!(!folder.path().join("a/b/file").exists());
        assert_eq!(confined.open_file("a/b/file").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn no_link_is_followed_wherever_it_stands_in_the_path() {
        let (folder, confined) = make_folder();
        for path in ["a/b/out", "a/b/in", "a/linked/file"] {
            let errors = [
                confined.open_file(path).unwrap_err(),
                confined.open_writable_file(path).unwrap_err(),
                confined.read_metadata(path).unwrap_err(),
            ];
            assert!(errors.iter().all(is_refused_link), "{path}: {errors:?}");
        }
        assert!(is_refused_link(&confined.create_folders("a/linked/c").unwrap_err()));
        assert!(is_refused_link(&confined.rename("a/b/file", "a/linked/x").unwrap_err()));
        // The link itself can be removed.
        confined.remove_file("a/b/in").unwrap();
        assert!(folder.path().join("a/b/file").exists());
    }

    #[test]
    fn links_are_made_read_and_removed_and_what_they_lead_to_stays() {
        let (folder, confined) = make_folder();
        confined.create_link("a/new", Path::new("b/file")).unwrap();
        assert_eq!(confined.read_link("a/new").unwrap(), Path::new("b/file"));
        assert!(confined.read_link("a/b/file").is_err());
        assert!(is_refused_link(&confined.create_link("a/linked/x", Path::new("y")).unwrap_err()));
        confined.link_file("a/b/file", "a/second").unwrap();
        assert!(is_refused_link(&confined.link_file("a/b/file", "a/linked/x").unwrap_err()));

        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("theirs"), "kept").unwrap();
        symlink(outside.path(), folder.path().join("a/b/theirs")).unwrap();
        confined.remove_folder("a/b").unwrap();
        confined.remove_folder("a/b").unwrap();
        assert!(outside.path().join("theirs").exists() && !folder.path().join("a/b").exists());
        assert_eq!(std::fs::read_to_string(folder.path().join("a/second")).unwrap(), "inside");
        assert!(confined.remove_empty_folder("a").is_err());
    }

    #[test]
    fn a_kernel_without_openat2_refuses_the_same_links() {
        let (folder, _) = make_folder();
        let top = rustix::fs::open(folder.path(), FOLDER, Mode::empty()).unwrap();
        let open =
            |path: &str, flags| open_parts(&top, &split_path(Path::new(path)).unwrap(), flags);

        assert!(open("a/b/file", READ).is_ok());
        assert!(open("a/b", FOLDER).is_ok());
        for path in ["a/b/out", "a/b/in", "a/linked/file"] {
            for flags in [READ, METADATA, OFlags::RDWR | OFlags::CREATE] {
                assert_eq!(open(path, flags).unwrap_err(), Errno::LOOP, "{path} {flags:?}");
            }
        }
        assert_eq!(open("a/linked", FOLDER).unwrap_err(), Errno::LOOP);
        assert_eq!(open("a/b/file/c", READ).unwrap_err(), Errno::NOTDIR);
    }

    #[test]
    fn paths_that_leave_the_folder_and_what_is_no_file_are_refused() {
        let (folder, confined) = make_folder();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());

        assert!(confined.open_file("../x").is_err());
        assert!(confined.open_file("/etc/hostname").is_err());
        assert!(confined.open_file("a").is_err());
        // Without waiting for a writer.
        assert!(confined.open_file("pipe").is_err());
    }
}
