//! The dependencies of a chart folder: which of them are not in its `charts/`, and the folders that
//! `file://` names for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{ChartArchive, MAX_FILE, read_file};
use super::metadata::{ChartDependency, ChartMetadata};
use super::version;
use crate::{Error, Result};

/// The scheme of a repository that is a folder on this machine.
const FILE: &str = "file://";

/// The dependencies in `Chart.yaml` that are not in `charts/` (helm 3.22, pkg/action/package.go).
pub(super) fn list_missing_dependencies<'a>(
    folder: &Path,
    metadata: &'a ChartMetadata,
) -> Result<Vec<&'a ChartDependency>> {
    if metadata.dependencies.is_empty() {
        return Ok(Vec::new());
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
    Ok(metadata
        .dependencies
        .iter()
        .filter(|dependency| !there.contains(&dependency.name))
        .collect())
}

/// The folders of the missing dependencies, which `file://` names: relative to the chart's folder, or
/// absolute (helm 3.22, internal/resolver/resolver.go, `GetLocalPath`).
///
/// # Errors
/// One of them is in a repository elsewhere: those are helm's to download.
pub(super) fn find_dependency_folders<'a>(
    folder: &Path,
    missing: &[&'a ChartDependency],
) -> Result<Vec<(&'a ChartDependency, PathBuf)>> {
    let local = |dependency: &&'a ChartDependency| {
        let path = dependency.repository.strip_prefix(FILE)?;
        Some((*dependency, folder.join(path)))
    };
    let found: Vec<_> = missing.iter().filter_map(local).collect();
    if found.len() == missing.len() {
        return Ok(found);
    }
    let elsewhere: Vec<&str> = missing
        .iter()
        .filter(|dependency| !dependency.repository.starts_with(FILE))
        .map(|dependency| dependency.name.as_str())
        .collect();
    let shown = folder.display();
    Err(Error::Local {
        path: folder.to_owned(),
        reason: format!(
            "dependencies in Chart.yaml are missing in charts/: {}; run `helm dependency build {shown}`",
            elsewhere.join(", ")
        )
        .into(),
    })
}

/// Checks that the chart in a dependency's folder is the one that `Chart.yaml` asks for: its name, and
/// a version in the range (helm 3.22, pkg/downloader/manager.go, `tarFromLocalDir`).
pub(super) fn check_dependency(
    parent: &Path,
    dependency: &ChartDependency,
    found: &ChartMetadata,
) -> Result<()> {
    let wrong = |reason: String| Error::Local { path: parent.to_owned(), reason: reason.into() };
    let ChartDependency { name, version: range, repository, .. } = dependency;
    if found.name != *name {
        return Err(wrong(format!(
            "Chart.yaml names the dependency {name} at {repository}, but the chart there is called {}",
            found.name
        )));
    }
    if range.is_empty() {
        return Ok(());
    }
    let offered = [(found.version.as_str(), ())];
    match version::choose_version(name, offered, Some(range)) {
        Err(Error::NotFound { .. }) => Err(wrong(format!(
            "Chart.yaml asks for version {range} of the dependency {name}, but the chart at {repository} has version {}",
            found.version
        ))),
        outcome => outcome,
    }
}
