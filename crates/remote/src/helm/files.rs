//! Reads all files of a chart, including those of dependencies that are packed in its `charts/`
//! folder. The result is the input of the crate `chart`.

use std::io::{Cursor, Read};
use std::path::Path;

use super::archive::{ChartArchive, MAX_ARCHIVE};
use super::package_chart;
use crate::tarball::{self, TarMemberKind, WalkControl};
use crate::{Error, Result, compression};

/// Limit for the sum of all files. Helm reads charts of up to 100 MiB unpacked
/// (pkg/chart/loader/archive.go, `MaxDecompressedChartSize`).
const MAX_UNPACKED: u64 = 100 << 20;
/// Limit for charts in charts. Helm has none; known charts are nested far less deep.
const DEEPEST: usize = 16;

/// Reads the files of a chart's folder or archive. Each has its path, which begins with the chart's
/// folder. The files of a dependency that is packed as `charts/x-1.0.0.tgz` are under
/// `charts/x-1.0.0/`. Blocks on the disk.
pub fn read_chart_files(chart: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let archive = if chart.is_dir() { package_chart(chart)? } else { ChartArchive::read(chart)? };
    let mut files = Vec::new();
    let mut left = MAX_UNPACKED;
    unpack_archive(&chart.display().to_string(), &archive.bytes, None, 0, &mut left, &mut files)?;
    Ok(files)
}

/// As [`read_chart_files`], from the bytes of an archive. `name` is its name in errors.
pub fn read_archive_files(name: &str, archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut left = MAX_UNPACKED;
    unpack_archive(name, archive, None, 0, &mut left, &mut files)?;
    Ok(files)
}

/// Unpacks an archive and the dependencies in it. `folder` replaces the first folder of a packed
/// dependency; `left` is how many bytes may still be unpacked.
fn unpack_archive(
    what: &str,
    bytes: &[u8],
    folder: Option<&str>,
    depth: usize,
    left: &mut u64,
    files: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let (_, plain) = compression::decompress(Cursor::new(bytes))
        .map_err(|cause| Error::Read { what: what.to_owned(), cause })?;
    let mut packed = Vec::new();
    tarball::walk_tar(what, plain, |member, content| {
        if member.kind != TarMemberKind::File {
            return Ok(WalkControl::Continue);
        }
        if member.size > *left {
            let size = MAX_UNPACKED - *left + member.size;
            return Err(Error::TooLarge { what: what.to_owned(), size, most: MAX_UNPACKED });
        }
        *left -= member.size;
        let mut bytes = Vec::new();
        content
            .take(MAX_ARCHIVE)
            .read_to_end(&mut bytes)
            .map_err(|cause| Error::Read { what: format!("{} of {what}", member.path), cause })?;
        let path = match (folder, member.path.split_once('/')) {
            (Some(folder), Some((_, rest))) => format!("{folder}/{rest}"),
            _ => member.path,
        };
        if is_packed_dependency(&path) {
            packed.push((path, bytes));
        } else {
            files.push((path, bytes));
        }
        Ok(WalkControl::Continue)
    })?;
    // After the walk: an archive bomb of nested archives is stopped by `left` and by the depth.
    for (path, bytes) in packed.into_iter().filter(|_| depth < DEEPEST) {
        let folder = path.trim_end_matches(".tgz").to_owned();
        unpack_archive(
            &format!("{path} of {what}"),
            &bytes,
            Some(&folder),
            depth + 1,
            left,
            files,
        )?;
    }
    Ok(())
}

/// Whether a path is that of a packed dependency (`chart/charts/x-1.0.0.tgz`). Helm ignores names
/// that begin with `_` or a dot.
fn is_packed_dependency(path: &str) -> bool {
    match path.rsplit_once("/charts/") {
        Some((_, name)) => {
            name.ends_with(".tgz") && !name.contains('/') && !name.starts_with(['.', '_'])
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn packed_dependencies_are_opened_where_they_lie() {
        let home = tempfile::tempdir().unwrap();
        let chart = |name: &str| {
            let folder = home.path().join(name);
            fs::create_dir_all(folder.join("charts")).unwrap();
            fs::write(
                folder.join("Chart.yaml"),
                format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n"),
            )
            .unwrap();
            fs::write(folder.join("values.yaml"), "a: 1\n").unwrap();
            folder
        };
        let (inner, middle, outer) = (chart("inner"), chart("middle"), chart("outer"));
        fs::write(middle.join("charts/inner-1.0.0.tgz"), package_chart(&inner).unwrap().bytes)
            .unwrap();
        fs::write(outer.join("charts/middle-1.0.0.tgz"), package_chart(&middle).unwrap().bytes)
            .unwrap();

        let files = read_chart_files(&outer).unwrap();

        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"outer/charts/middle-1.0.0/values.yaml"), "{names:?}");
        assert!(
            names.contains(&"outer/charts/middle-1.0.0/charts/inner-1.0.0/Chart.yaml"),
            "{names:?}"
        );
    }
}
