//! Writes evidence to a disk and reads it back: as one `.tar.zst`, which has the same bytes for the
//! same content, or as a folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use crate::part::MOST;
use crate::{Error, Result};

/// The compression level of zstd: a good ratio, still fast for some megabytes of text.
const LEVEL: i32 = 12;
/// The largest zstd window that is accepted (128 MiB): a stranger's archive could demand more
/// memory. Archives of Gantry need far less.
const WINDOW_LOG: u32 = 27;
/// The most files of an archive that are read.
const MOST_FILES: usize = 100_000;

/// Where evidence is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceTarget {
    /// One `.tar.zst` file.
    Archive(PathBuf),
    /// A folder, which is created.
    Folder(PathBuf),
}

impl EvidenceTarget {
    /// A path that ends in `.tar.zst` is an archive, any other a folder.
    pub fn from_path(path: &Path) -> Self {
        let is_archive = path.to_string_lossy().ends_with(".tar.zst");
        if is_archive { Self::Archive(path.to_owned()) } else { Self::Folder(path.to_owned()) }
    }
}

/// Writes the files, all of them or none: first under a temporary name, then renamed.
pub(crate) fn write_files(
    target: &EvidenceTarget,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    match target {
        EvidenceTarget::Archive(path) => {
            let failed = |cause| Error::Write { path: path.clone(), cause };
            // In the same folder, since a rename cannot cross file systems. tempfile's own mode is
            // 0600, and an auditor has to read the result.
            let mut new = tempfile::Builder::new()
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(parent_folder(path))
                .map_err(failed)?;
            write_tar(new.as_file_mut(), files).map_err(failed)?;
            new.persist(path).map_err(|error| failed(error.error))?;
            Ok(())
        }
        EvidenceTarget::Folder(path) => {
            let failed = |cause| Error::Write { path: path.clone(), cause };
            let is_empty = |path: &Path| path.read_dir().is_ok_and(|mut all| all.next().is_none());
            if path.exists() && !is_empty(path) {
                return Err(Error::Taken { path: path.clone() });
            }
            let new = tempfile::Builder::new()
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .tempdir_in(parent_folder(path))
                .map_err(failed)?;
            for (name, bytes) in files {
                let file = new.path().join(name);
                fs::create_dir_all(parent_folder(&file)).map_err(failed)?;
                fs::write(file, bytes).map_err(failed)?;
            }
            fs::rename(new.path(), path).map_err(failed)
        }
    }
}

/// Reads evidence that may come from a stranger: only regular files with plain relative paths, and
/// a bounded number of files and bytes.
///
/// # Errors
/// A file that cannot be read, and content that Gantry never writes.
pub(crate) fn read_files(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let failed = |cause| Error::Read { path: path.to_owned(), cause };
    let mut files = BTreeMap::new();
    if path.is_dir() {
        let mut left = MOST;
        read_folder(path, path, &mut left, &mut files)?;
        return Ok(files);
    }
    let mut decoder = zstd::Decoder::new(File::open(path).map_err(failed)?).map_err(failed)?;
    decoder.window_log_max(WINDOW_LOG).map_err(failed)?;
    // A quarter more than the content may have: headers and padding come on top.
    let mut archive = tar::Archive::new(decoder.take(MOST + (MOST >> 2)));
    // Raw, so that extensions of tar (long names, PAX) are seen as entries and refused: Gantry
    // never writes them, and the library would hold their content in memory without a limit.
    for entry in archive.entries().map_err(failed)?.raw(true) {
        let altered = |what: &str, reason: &str| Error::Altered {
            what: what.to_owned(),
            reason: reason.to_owned(),
        };
        let shown = path.display().to_string();
        let mut entry = entry.map_err(|cause| Error::Unreadable { what: shown.clone(), cause })?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type() != EntryType::Regular || !is_plain_path(&name) {
            return Err(altered(&name, "it is not a regular file with a plain path"));
        }
        if files.len() >= MOST_FILES {
            return Err(altered(&shown, "it has more files than Gantry accepts"));
        }
        let mut bytes = Vec::new();
        let size = entry.size();
        entry.read_to_end(&mut bytes).map_err(failed)?;
        // `take` above may have cut the archive short in the middle of a file.
        if bytes.len() as u64 != size {
            return Err(altered(&name, "it is truncated"));
        }
        if files.insert(name.clone(), bytes).is_some() {
            return Err(altered(&name, "the archive contains it twice"));
        }
    }
    Ok(files)
}

/// Writes the files as a compressed tar. Times, owners and modes are fixed and the paths are
/// sorted, so that the bytes depend on the content alone.
fn write_tar(file: &mut File, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let mut archive = Builder::new(zstd::Encoder::new(file, LEVEL)?);
    for (name, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_path(name)?;
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        archive.append(&header, bytes.as_slice())?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// Reads a folder with all that is in it. `left` is how many more bytes may be read.
fn read_folder(
    root: &Path,
    at: &Path,
    left: &mut u64,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let failed = |cause| Error::Read { path: at.to_owned(), cause };
    for entry in at.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let size = entry.metadata().map_err(failed)?.len();
        if kind.is_dir() {
            read_folder(root, &path, left, files)?;
        } else if !kind.is_file() || size > *left || files.len() >= MOST_FILES {
            let reason =
                "it is not a regular file, or the folder has more content than Gantry accepts"
                    .to_owned();
            return Err(Error::Altered { what: name, reason });
        } else {
            *left -= size;
            files.insert(name, fs::read(&path).map_err(failed)?);
        }
    }
    Ok(())
}

/// Whether a path is relative and cannot lead out of its folder.
fn is_plain_path(name: &str) -> bool {
    !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The folder that a path is in; `.` for a bare name.
fn parent_folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
