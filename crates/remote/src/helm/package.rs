//! A chart folder as an archive, as `helm package` makes it, but the same bytes for the same files:
//! sorted, without times, owners and modes, and stored instead of compressed, so that they do not
//! change with a compressor's version. (The charts of one release are smaller than one layer.)

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use walkdir::WalkDir;

use super::archive::{Archive, MAX_ARCHIVE, MAX_FILE, read};
use super::ignore::{Entry, Rules};
use super::metadata::Metadata;
use crate::{Error, Result};

/// Folders of sub-charts in sub-charts; more is a circle of links.
const MAX_DEPTH: usize = 64;
/// A file's mode in the archive; helm does not look at it.
const MODE: u32 = 0o644;

/// Packs a chart folder. Charts that it depends on must be in its `charts/`, as for
/// `helm package`. Blocks on the disk.
pub fn package(folder: &Path) -> Result<Archive> {
    let what = folder.display().to_string();
    let not_a_chart = |reason: String| Error::Local { path: folder.to_owned(), reason };
    let unreadable = |cause| Error::Read { what: what.clone(), cause };
    if !folder.join("Chart.yaml").is_file() {
        return Err(not_a_chart("there is no Chart.yaml in it".into()));
    }
    let rules = match fs::read_to_string(folder.join(".helmignore")) {
        Ok(text) => Rules::parse(&format!("{what}/.helmignore"), &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Rules::parse("", "")?,
        Err(cause) => return Err(unreadable(cause)),
    };
    let metadata = Metadata::parse(&what, &read(&folder.join("Chart.yaml"), MAX_FILE)?)?;
    check_dependencies(folder, &metadata, &what)?;

    let mut files = paths(folder, &rules, &what)?;
    // Readers look for it first.
    files.sort_by_key(|path| (path != "Chart.yaml", path.clone()));
    let mut tar = tar::Builder::new(Vec::new());
    let mut total = 0;
    for path in files {
        // Asked before it is read: what does not belong to a chart may be of any length.
        let size = fs::metadata(folder.join(&path)).map_err(unreadable)?.len();
        total += size;
        if size > MAX_FILE || total > MAX_ARCHIVE {
            return Err(not_a_chart(format!(
                "{path} makes it too large for helm, which reads files of 5 MiB and charts of 100 MiB; add what is no part of the chart to .helmignore"
            )));
        }
        let bytes = read(&folder.join(&path), MAX_FILE)?;
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(MODE);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, format!("{}/{path}", metadata.name), bytes.as_slice())
            .map_err(unreadable)?;
    }
    let tar = tar.into_inner().map_err(unreadable)?;
    let mut gzip =
        GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::none());
    gzip.write_all(&tar).map_err(unreadable)?;
    let bytes = gzip.finish().map_err(unreadable)?;
    Ok(Archive { bytes, metadata, provenance: None })
}

/// The files that helm would pack, with `/` between segments.
fn paths(folder: &Path, rules: &Rules, what: &str) -> Result<Vec<String>> {
    let relative = |path: &Path| -> Option<String> {
        let segments: Option<Vec<&str>> =
            path.strip_prefix(folder).ok()?.iter().map(|segment| segment.to_str()).collect();
        Some(segments?.join("/"))
    };
    let walk = WalkDir::new(folder).follow_links(true).max_depth(MAX_DEPTH).min_depth(1);
    let mut paths = Vec::new();
    let entries = walk.into_iter().filter_entry(|entry| {
        let kind = if entry.file_type().is_dir() { Entry::Folder } else { Entry::File };
        relative(entry.path()).is_none_or(|path| !rules.ignore(&path, kind))
    });
    for entry in entries {
        let entry =
            entry.map_err(|error| Error::Read { what: what.to_owned(), cause: error.into() })?;
        if entry.file_type().is_dir() {
            continue;
        }
        let path = relative(entry.path()).filter(|_| entry.file_type().is_file());
        paths.push(path.ok_or_else(|| Error::Local {
            path: what.into(),
            reason: format!("{} is no regular file with a name in UTF-8", entry.path().display()),
        })?);
    }
    Ok(paths)
}

/// helm 3.22, pkg/action/package.go: what `Chart.yaml` names must be in `charts/`.
fn check_dependencies(folder: &Path, metadata: &Metadata, what: &str) -> Result<()> {
    if metadata.dependencies.is_empty() {
        return Ok(());
    }
    let mut there = BTreeSet::new();
    if let Ok(entries) = fs::read_dir(folder.join("charts")) {
        for entry in entries.flatten() {
            let path = entry.path();
            if path.join("Chart.yaml").is_file() {
                let bytes = read(&path.join("Chart.yaml"), MAX_FILE)?;
                there.insert(Metadata::parse(&path.display().to_string(), &bytes)?.name);
            } else if path.extension().is_some_and(|extension| extension == "tgz") {
                there.insert(Archive::read(&path)?.metadata.name);
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
            "{} stand in Chart.yaml, but not in charts/; run `helm dependency build {what}`",
            missing.join(", ")
        ),
    })
}
