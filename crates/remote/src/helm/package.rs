//! Packs a chart folder into an archive, as `helm package` does, but reproducibly: the files are
//! sorted, without times, owners and modes. They are stored without compression, so that the bytes
//! do not depend on the version of a compressor; charts are small compared with one image layer.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::{Compression, GzBuilder};

use super::archive::{ChartArchive, MAX_ARCHIVE, MAX_FILE};
use super::dependencies::{self, list_missing_dependencies};
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

/// Reads the `Chart.yaml` of a chart's folder or archive. Blocks on the disk.
pub fn read_chart_metadata(chart: &Path) -> Result<ChartMetadata> {
    if !chart.is_dir() {
        return Ok(ChartArchive::read(chart)?.metadata);
    }
    let Some(metadata) = LinkedFolder::open(chart.to_owned())?.read_document(METADATA, MAX_FILE)?
    else {
        let reason = "it has no Chart.yaml, so it is not a Helm chart; name the folder with Chart.yaml in it";
        return Err(Error::Local { path: chart.to_owned(), reason: reason.into() });
    };
    ChartMetadata::parse(&chart.display().to_string(), &metadata)
}

/// Packs a chart folder. As for `helm package`, its dependencies must be in its `charts/`, except
/// those that are folders themselves (`file://`): their files are packed as if they were in `charts/`,
/// where `helm dependency build` would put them. The folder is not changed. Links are followed as far as
/// they stay in the folder; one in `charts/` may also lead to the folder of another chart, as in a
/// repository with several charts. Blocks on the disk.
pub fn package_chart(folder: &Path) -> Result<ChartArchive> {
    write_archive(folder, list_content(folder, &[])?)
}

/// Packs a chart folder that lacks dependencies which [`package_chart`] can build; `None` for one that
/// is whole, which helm can read as it is. Blocks on the disk.
pub fn package_incomplete_chart(folder: &Path) -> Result<Option<ChartArchive>> {
    let metadata = read_metadata(&LinkedFolder::open(folder.to_owned())?)?;
    match list_missing_dependencies(folder, &metadata)?.is_empty() {
        true => Ok(None),
        false => package_chart(folder).map(Some),
    }
}

fn read_metadata(folder: &LinkedFolder) -> Result<ChartMetadata> {
    let path = folder.display_path("");
    let Some(metadata) = folder.read_document(METADATA, MAX_FILE)? else {
        return Err(Error::Local {
            path,
            reason: "it has no Chart.yaml, so it is not a Helm chart".into(),
        });
    };
    ChartMetadata::parse(&path.display().to_string(), &metadata)
}

/// The content of a chart folder, with the dependencies that are folders elsewhere.
struct ChartFolder {
    metadata: ChartMetadata,
    files: Vec<PackedFile>,
}

/// Lists the content of a chart folder. `parents` are the charts that it is a dependency of.
fn list_content(folder: &Path, parents: &[PathBuf]) -> Result<ChartFolder> {
    let source = LinkedFolder::open(folder.to_owned())?;
    let metadata = read_metadata(&source)?;
    let ignored = source.read_document(".helmignore", MAX_FILE)?.unwrap_or_default();
    let name = format!("{}/.helmignore", folder.display());
    let rules = HelmIgnoreRules::parse(&name, &String::from_utf8_lossy(&ignored))?;
    let mut files = list_packed_files(source, &rules)?;
    // After the list, which has no links that lead elsewhere.
    files.extend(list_dependency_files(folder, &metadata, parents)?);
    Ok(ChartFolder { metadata, files })
}

/// Lists the files of the dependencies that are missing in `charts/` and that are folders elsewhere, as
/// if they were in `charts/`. `Chart.lock` is not read: the folder has one version only.
fn list_dependency_files(
    folder: &Path,
    metadata: &ChartMetadata,
    parents: &[PathBuf],
) -> Result<Vec<PackedFile>> {
    let missing = list_missing_dependencies(folder, metadata)?;
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |reason: String| Error::Local { path: folder.to_owned(), reason: reason.into() };
    let own = folder
        .canonicalize()
        .map_err(|cause| Error::Read { what: folder.display().to_string(), cause })?;
    let parents = [parents, &[own]].concat();
    // A chart that is a dependency twice, under two aliases, is one.
    let mut built = BTreeMap::new();
    for (dependency, path) in dependencies::find_dependency_folders(folder, &missing)? {
        let (name, repository) = (&dependency.name, &dependency.repository);
        let place = path.canonicalize().map_err(|cause| {
            wrong(format!("the dependency {name} is not at {repository}: {cause}"))
        })?;
        if parents.contains(&place) {
            return Err(wrong(format!(
                "its dependency {name} at {repository} is the chart itself, or depends on it"
            )));
        }
        let content = list_content(&place, &parents)?;
        dependencies::check_dependency(folder, dependency, &content.metadata)?;
        let target = format!("charts/{}-{}", content.metadata.name, content.metadata.version);
        built.insert(target, content.files);
    }
    let files = built.into_iter().flat_map(|(target, files)| {
        files
            .into_iter()
            .map(move |file| PackedFile { path: format!("{target}/{}", file.path), ..file })
    });
    Ok(files.collect())
}

/// Writes the archive of a chart folder.
fn write_archive(chart: &Path, content: ChartFolder) -> Result<ChartArchive> {
    let unreadable = |cause| Error::Read { what: chart.display().to_string(), cause };
    let ChartFolder { metadata, mut files } = content;
    // First, so that a reader of a stream finds it without reading the rest.
    files.sort_by_key(|file| (file.path != METADATA, file.path.clone()));
    let mut tar = tar::Builder::new(Vec::new());
    let mut total = 0;
    for PackedFile { path, size, folder, inside } in files {
        // Checked before it is read: a stray file in the folder may have any length.
        total += size;
        if size > MAX_FILE || total > MAX_ARCHIVE {
            return Err(Error::Local {
                path: chart.to_owned(),
                reason: format!(
                    "{path} makes it too large: helm reads files of up to 5 MiB and charts of up to 100 MiB; list files that do not belong to the chart in .helmignore"
                )
                .into(),
            });
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
struct ChartSubfolder {
    path: String,
    folder: Rc<LinkedFolder>,
    inside: String,
    depth: usize,
}

/// Lists the files that helm would pack.
fn list_packed_files(chart: LinkedFolder, rules: &HelmIgnoreRules) -> Result<Vec<PackedFile>> {
    let (mut files, mut entries) = (Vec::new(), 0);
    // A stack instead of recursion: the depth comes from the input.
    let mut open = vec![ChartSubfolder {
        path: String::new(),
        folder: Rc::new(chart),
        inside: String::new(),
        depth: 0,
    }];
    while let Some(ChartSubfolder { path, folder, inside, depth }) = open.pop() {
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
                        open.push(ChartSubfolder {
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
