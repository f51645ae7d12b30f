//! Packs a chart folder into an archive, as `helm package` does, but reproducibly: the files are
//! sorted, without times, owners and modes. They are stored without compression, so that the bytes
//! do not depend on the version of a compressor; charts are small compared with one image layer.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::rc::Rc;

use flate2::{Compression, GzBuilder};

use super::archive::{ChartArchive, MAX_ARCHIVE, MAX_FILE, read_file};
use super::ignore::{ChartPathKind, HelmIgnoreRules};
use super::metadata::ChartMetadata;
use crate::linked_folder::{LinkedFolder, join_paths};
use crate::{Error, Result};

/// Limit for nested folders; a deeper tree is taken for a loop of symbolic links.
const MAX_DEPTH: usize = 64;
/// Limit for files and folders: with a loop of links even a flat tree has no end.
const MAX_ENTRIES: usize = 100_000;
/// The mode of all files in the archive; helm does not read it.
const MODE: u32 = 0o644;
/// The chart's own description.
const METADATA: &str = "Chart.yaml";

/// Packs a chart folder. As for `helm package`, its dependencies must be in its `charts/`. Links are
/// followed as far as they stay in the folder; one in `charts/` may also lead to the folder of another
/// chart, as in a repository with several charts. Blocks on the disk.
pub fn package_chart(folder: &Path) -> Result<ChartArchive> {
    let what = folder.display().to_string();
    let not_a_chart =
        |reason: String| Error::Local { path: folder.to_owned(), reason: reason.into() };
    let unreadable = |cause| Error::Read { what: what.clone(), cause };
    let source = LinkedFolder::open(folder.to_owned())?;
    let Some(metadata) = source.read_document(METADATA, MAX_FILE)? else {
        return Err(not_a_chart("it has no Chart.yaml, so it is not a Helm chart".into()));
    };
    let ignored = source.read_document(".helmignore", MAX_FILE)?.unwrap_or_default();
    let rules =
        HelmIgnoreRules::parse(&format!("{what}/.helmignore"), &String::from_utf8_lossy(&ignored))?;
    let metadata = ChartMetadata::parse(&what, &metadata)?;
    let mut files = list_packed_files(source, &rules)?;
    // After the list, which has no links that lead elsewhere.
    check_dependencies(folder, &metadata, &what)?;
    // First, so that a reader of a stream finds it without reading the rest.
    files.sort_by_key(|file| (file.path != METADATA, file.path.clone()));
    let mut tar = tar::Builder::new(Vec::new());
    let mut total = 0;
    for PackedFile { path, size, folder, inside } in files {
        // Checked before it is read: a stray file in the folder may have any length.
        total += size;
        if size > MAX_FILE || total > MAX_ARCHIVE {
            return Err(not_a_chart(format!(
                "{path} makes it too large: helm reads files of up to 5 MiB and charts of up to 100 MiB; list files that do not belong to the chart in .helmignore"
            )));
        }
        let missing = || folder.read_error(&inside)(std::io::ErrorKind::NotFound.into());
        let bytes = folder.read_document(&inside, MAX_FILE)?.ok_or_else(missing)?;
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(MODE);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, format!("{}/{path}", metadata.name), bytes.as_slice())
            .map_err(unreadable)?;
    }
    let tar = tar.into_inner().map_err(unreadable)?;
    // 255 is "unknown system" (RFC 1952): the bytes must not depend on where they are made.
    let mut gzip =
        GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::none());
    gzip.write_all(&tar).map_err(unreadable)?;
    let bytes = gzip.finish().map_err(unreadable)?;
    Ok(ChartArchive { bytes, metadata, provenance: None })
}

/// A file that goes into the archive.
struct PackedFile {
    /// Its path in the chart, with `/` between segments.
    path: String,
    size: u64,
    /// The folder that it is read from: the chart's, or that of a chart that `charts/` links to.
    folder: Rc<LinkedFolder>,
    /// Its path in that folder.
    inside: String,
}

/// A folder of a chart that is still to be listed.
struct OpenFolder {
    path: String,
    folder: Rc<LinkedFolder>,
    inside: String,
    depth: usize,
}

/// Lists the files that helm would pack.
fn list_packed_files(chart: LinkedFolder, rules: &HelmIgnoreRules) -> Result<Vec<PackedFile>> {
    let (mut files, mut entries) = (Vec::new(), 0);
    // A stack instead of recursion: the depth comes from the input.
    let mut open = vec![OpenFolder {
        path: String::new(),
        folder: Rc::new(chart),
        inside: String::new(),
        depth: 0,
    }];
    while let Some(OpenFolder { path, folder, inside, depth }) = open.pop() {
        let refuse = |name: &str, reason: String| Error::Local {
            path: folder.display_path(&join_paths(&inside, name)),
            reason: reason.into(),
        };
        if depth > MAX_DEPTH {
            let reason =
                format!("folders are nested more than {MAX_DEPTH} deep; check for a loop of links");
            return Err(refuse("", reason));
        }
        for name in folder.list_names(&inside)?.unwrap_or_default() {
            entries += 1;
            if entries > MAX_ENTRIES {
                let reason = format!(
                    "the chart has more than {MAX_ENTRIES} files and folders; check for a loop of links, or list what does not belong to it in .helmignore"
                );
                return Err(refuse("", reason));
            }
            let shown = name.to_string_lossy();
            let not_regular = || {
                refuse(&shown, "it is not a regular file with a UTF-8 name; remove it, or list it in .helmignore".into())
            };
            let own = join_paths(&path, &shown);
            let is_ignored = |kind| rules.is_ignored(&own, kind);
            // Not even looked at.
            if is_ignored(ChartPathKind::File) && is_ignored(ChartPathKind::Folder) {
                continue;
            }
            let below = join_paths(&inside, name.to_str().ok_or_else(not_regular)?);
            let (folder, below, metadata) = match folder.read_metadata(&below) {
                Ok(metadata) => (Rc::clone(&folder), below, metadata),
                Err(error) => match open_linked_chart(&folder, &own, &below)? {
                    Some(linked) => {
                        let metadata = linked.read_metadata("")?;
                        (Rc::new(linked), String::new(), metadata)
                    }
                    None => return Err(error),
                },
            };
            match metadata {
                Some(metadata) if metadata.is_dir() => {
                    if !is_ignored(ChartPathKind::Folder) {
                        open.push(OpenFolder {
                            path: own,
                            folder,
                            inside: below,
                            depth: depth + 1,
                        });
                    }
                }
                Some(metadata) if metadata.is_file() => {
                    if !is_ignored(ChartPathKind::File) {
                        files.push(PackedFile {
                            path: own,
                            size: metadata.len(),
                            folder,
                            inside: below,
                        });
                    }
                }
                // A broken link, a socket.
                _ => return Err(not_regular()),
            }
        }
    }
    Ok(files)
}

/// The chart that a link in `charts/` leads to; `None` for everything else. `path` is the link's in the
/// chart, `inside` that in the folder.
fn open_linked_chart(
    folder: &LinkedFolder,
    path: &str,
    inside: &str,
) -> Result<Option<LinkedFolder>> {
    let is_dependency = path.rsplit('/').nth(1) == Some("charts");
    let link = folder.display_path(inside);
    if !is_dependency || !link.join(METADATA).is_file() {
        return Ok(None);
    }
    LinkedFolder::open(link).map(Some)
}

/// Checks that all dependencies in `Chart.yaml` are in `charts/` (helm 3.22,
/// pkg/action/package.go).
fn check_dependencies(folder: &Path, metadata: &ChartMetadata, what: &str) -> Result<()> {
    if metadata.dependencies.is_empty() {
        return Ok(());
    }
    let mut there = BTreeSet::new();
    if let Ok(entries) = std::fs::read_dir(folder.join("charts")) {
        for entry in entries.flatten() {
            let path = entry.path();
            if path.join(METADATA).is_file() {
                let bytes = read_file(&path.join(METADATA), MAX_FILE)?;
                there.insert(ChartMetadata::parse(&path.display().to_string(), &bytes)?.name);
            } else if path.extension().is_some_and(|extension| extension == "tgz") {
                there.insert(ChartArchive::read(&path)?.metadata.name);
            }
        }
    }
    let missing: Vec<&str> = metadata
        .dependencies
        .iter()
        .map(|dependency| dependency.name.as_str())
        .filter(|name| !there.contains(*name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Local {
        path: what.into(),
        reason: format!(
            "dependencies in Chart.yaml are missing in charts/: {}; run `helm dependency build {what}`",
            missing.join(", ")
        ).into(),
    })
}
