//! Packs a chart folder into an archive, as `helm package` does, but reproducibly: the files are
//! sorted, without times, owners and modes. They are stored without compression, so that the bytes
//! do not depend on the version of a compressor; charts are small compared with one image layer.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use walkdir::WalkDir;

use super::archive::{ChartArchive, MAX_ARCHIVE, MAX_FILE, read_file};
use super::ignore::{ChartPathKind, HelmIgnoreRules};
use super::metadata::ChartMetadata;
use crate::{Error, Result};

/// Limit for nested folders; a deeper tree is taken for a loop of symbolic links.
const MAX_DEPTH: usize = 64;
/// The mode of all files in the archive; helm does not read it.
const MODE: u32 = 0o644;

/// Packs a chart folder. As for `helm package`, its dependencies must be in its `charts/`. Blocks
/// on the disk.
pub fn package_chart(folder: &Path) -> Result<ChartArchive> {
    let what = folder.display().to_string();
    let not_a_chart =
        |reason: String| Error::Local { path: folder.to_owned(), reason: reason.into() };
    let unreadable = |cause| Error::Read { what: what.clone(), cause };
    if !folder.join("Chart.yaml").is_file() {
        return Err(not_a_chart("it has no Chart.yaml, so it is not a Helm chart".into()));
    }
    let rules = match fs::read_to_string(folder.join(".helmignore")) {
        Ok(text) => HelmIgnoreRules::parse(&format!("{what}/.helmignore"), &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            HelmIgnoreRules::parse("", "")?
        }
        Err(cause) => return Err(unreadable(cause)),
    };
    let metadata = ChartMetadata::parse(&what, &read_file(&folder.join("Chart.yaml"), MAX_FILE)?)?;
    check_dependencies(folder, &metadata, &what)?;

    let mut files = list_packed_files(folder, &rules, &what)?;
    // First, so that a reader of a stream finds it without reading the rest.
    files.sort_by_key(|path| (path != "Chart.yaml", path.clone()));
    let mut tar = tar::Builder::new(Vec::new());
    let mut total = 0;
    for path in files {
        // Checked before it is read: a stray file in the folder may have any length.
        let size = fs::metadata(folder.join(&path)).map_err(unreadable)?.len();
        total += size;
        if size > MAX_FILE || total > MAX_ARCHIVE {
            return Err(not_a_chart(format!(
                "{path} makes it too large: helm reads files of up to 5 MiB and charts of up to 100 MiB; list files that do not belong to the chart in .helmignore"
            )));
        }
        let bytes = read_file(&folder.join(&path), MAX_FILE)?;
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

/// Lists the files that helm would pack; paths are relative, with `/` between segments.
fn list_packed_files(folder: &Path, rules: &HelmIgnoreRules, what: &str) -> Result<Vec<String>> {
    let relative = |path: &Path| -> Option<String> {
        let segments: Option<Vec<&str>> =
            path.strip_prefix(folder).ok()?.iter().map(|segment| segment.to_str()).collect();
        Some(segments?.join("/"))
    };
    // Links are followed, as helm does it: an umbrella chart may link to its parts.
    let walk = WalkDir::new(folder).follow_links(true).max_depth(MAX_DEPTH).min_depth(1);
    let mut paths = Vec::new();
    let entries = walk.into_iter().filter_entry(|entry| {
        let kind =
            if entry.file_type().is_dir() { ChartPathKind::Folder } else { ChartPathKind::File };
        relative(entry.path()).is_none_or(|path| !rules.is_ignored(&path, kind))
    });
    for entry in entries {
        let entry =
            entry.map_err(|error| Error::Read { what: what.to_owned(), cause: error.into() })?;
        if entry.file_type().is_dir() {
            continue;
        }
        let path = relative(entry.path()).filter(|_| entry.file_type().is_file());
        paths.push(path.ok_or_else(|| {
            Error::Local {
            path: what.into(),
            reason: format!(
                "{} is not a regular file with a UTF-8 name; remove it, or list it in .helmignore",
                entry.path().display()
            ).into(),
        }
        })?);
    }
    Ok(paths)
}

/// Checks that all dependencies in `Chart.yaml` are in `charts/` (helm 3.22,
/// pkg/action/package.go).
fn check_dependencies(folder: &Path, metadata: &ChartMetadata, what: &str) -> Result<()> {
    if metadata.dependencies.is_empty() {
        return Ok(());
    }
    let mut there = BTreeSet::new();
    if let Ok(entries) = fs::read_dir(folder.join("charts")) {
        for entry in entries.flatten() {
            let path = entry.path();
            if path.join("Chart.yaml").is_file() {
                let bytes = read_file(&path.join("Chart.yaml"), MAX_FILE)?;
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
