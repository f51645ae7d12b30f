//! Reads the sources of plain manifests that are on this machine: files, globs, folders and
//! kustomizations.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use chart::manifest_set::ManifestText;
use remote::kustomize::{self, KustomizeBinary};
use types::Cause;
use types::input::ManifestSource;

use crate::context::resolve_path_from;

/// The longest file of manifests that is read: far above any real one, and a bound on memory.
const MAX_MANIFESTS: u64 = 64 << 20;

/// Whether a path holds plain manifests and not a chart: a YAML or JSON file, a kustomization, or a
/// folder of such files. A folder of templates is a chart's, even where its Chart.yaml is missing.
pub fn is_manifest_path(path: &Path) -> bool {
    let is_chart = ["Chart.yaml", "templates"].iter().any(|name| path.join(name).exists());
    is_manifest_file(path)
        || path.is_dir()
            && !is_chart
            && (kustomize::find_kustomization_file(path).is_some()
                || list_manifest_files(path).is_ok_and(|files| !files.is_empty()))
}

/// Reads a source of manifests, each file on its own. Its paths are relative to `base`. Blocks on the
/// disk, and on kustomize for a kustomization; a source at a URL has nothing on this machine.
///
/// # Errors
/// A source that does not exist or has no manifests, and whatever kustomize refuses.
pub fn read_local_manifests(
    base: &Path,
    source: &ManifestSource,
) -> remote::Result<Vec<ManifestText>> {
    match find_source_files(base, source)? {
        SourceFiles::Kustomization(folder) => {
            let text = KustomizeBinary::locate()?.build(&folder)?;
            // By the name that the user gave it, since the stream must not depend on the machine.
            let name = match source {
                ManifestSource::Path(path) => format!("kustomize {}", clean_name(path)),
                other => other.locked_name(),
            };
            Ok(vec![ManifestText { name, text }])
        }
        SourceFiles::Files(files) => files
            .into_iter()
            .map(|SourceFile { name, path }| Ok(ManifestText { name, text: read_text(&path)? }))
            .collect(),
        SourceFiles::Remote => Ok(Vec::new()),
    }
}

/// All files that a source is made of, sorted: those of a kustomization as well, without building it.
pub(crate) fn list_source_files(
    base: &Path,
    source: &ManifestSource,
) -> remote::Result<BTreeSet<PathBuf>> {
    Ok(match find_source_files(base, source)? {
        SourceFiles::Kustomization(folder) => kustomize::list_kustomization_files(&folder)?,
        SourceFiles::Files(files) => files.into_iter().map(|file| file.path).collect(),
        SourceFiles::Remote => BTreeSet::new(),
    })
}

/// What a source is on this machine.
enum SourceFiles {
    Kustomization(PathBuf),
    Files(Vec<SourceFile>),
    /// Nothing: it is at a URL.
    Remote,
}

/// A file, with its name in the stream and in messages.
struct SourceFile {
    name: String,
    path: PathBuf,
}

fn find_source_files(base: &Path, source: &ManifestSource) -> remote::Result<SourceFiles> {
    let text = match source {
        ManifestSource::Url { .. } => return Ok(SourceFiles::Remote),
        ManifestSource::Kustomization(folder) => {
            return Ok(SourceFiles::Kustomization(resolve_path_from(base, folder)));
        }
        ManifestSource::Path(text) => text,
    };
    let path = resolve_path_from(base, Path::new(text));
    if path.is_dir() {
        if kustomize::find_kustomization_file(&path).is_some() {
            return Ok(SourceFiles::Kustomization(path));
        }
        let files = list_manifest_files(&path)?;
        if files.is_empty() {
            return Err(local_error(
                path,
                "it has no .yaml, .yml or .json file and no kustomization.yaml; folders inside it are \
                 not searched, list them too",
            ));
        }
        let folder = clean_name(text);
        let files = files.into_iter().map(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = if folder.is_empty() { file } else { format!("{folder}/{file}") };
            SourceFile { name, path }
        });
        return Ok(SourceFiles::Files(files.collect()));
    }
    // A file that is called so comes before a pattern that is written so.
    if path.is_file() || !text.contains(['*', '?', '[']) {
        if !path.is_file() {
            return Err(local_error(path, "there is no such file or folder"));
        }
        let name = clean_name(text).to_owned();
        return Ok(SourceFiles::Files(vec![SourceFile { name, path }]));
    }
    Ok(SourceFiles::Files(expand_pattern(base, text, &path)?))
}

/// The files that a pattern matches, sorted by path. `pattern` is `text` below `base`.
fn expand_pattern(base: &Path, text: &str, pattern: &Path) -> remote::Result<Vec<SourceFile>> {
    let invalid = |cause: glob::PatternError| remote::Error::Local {
        path: pattern.to_owned(),
        reason: Cause::about("it is not a valid pattern", cause),
    };
    let mut files = Vec::new();
    for found in glob::glob(&pattern.to_string_lossy()).map_err(invalid)? {
        let path = found.map_err(|error| remote::Error::Read {
            what: error.path().display().to_string(),
            cause: error.into(),
        })?;
        if path.is_file() {
            let own = path.strip_prefix(base).unwrap_or(&path).to_string_lossy().into_owned();
            files.push(SourceFile { name: clean_name(&own).to_owned(), path });
        }
    }
    if files.is_empty() {
        return Err(local_error(
            pattern.to_owned(),
            &format!("no file matches {text}; look at the folder, or correct the pattern"),
        ));
    }
    Ok(files)
}

/// A path without the `./` in front and the `/` behind that people write.
fn clean_name(path: &str) -> &str {
    let path = path.strip_prefix("./").unwrap_or(path).trim_end_matches('/');
    if path == "." { "" } else { path }
}

fn is_manifest_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The manifest files of a folder, sorted. Folders inside it are not searched, as in `kubectl apply -f`.
fn list_manifest_files(folder: &Path) -> remote::Result<Vec<PathBuf>> {
    let read = |cause| remote::Error::Read { what: folder.display().to_string(), cause };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.is_file() && is_manifest_file(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_text(path: &Path) -> remote::Result<String> {
    let what = || path.display().to_string();
    let read = |cause| remote::Error::Read { what: what(), cause };
    let size = fs::metadata(path).map_err(read)?.len();
    if size > MAX_MANIFESTS {
        return Err(remote::Error::TooLarge { what: what(), size, most: MAX_MANIFESTS });
    }
    fs::read_to_string(path).map_err(read)
}

fn local_error(path: PathBuf, reason: &str) -> remote::Error {
    remote::Error::Local { path, reason: Cause::from(reason) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn make_folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "kind: A\n").unwrap();
        }
        folder
    }

    fn names(base: &Path, source: &str) -> Result<Vec<String>, String> {
        let read = read_local_manifests(base, &ManifestSource::Path(source.into()));
        let read = read.map_err(|error| error.to_string())?;
        Ok(read.into_iter().map(|text| text.name).collect())
    }

    #[test]
    fn files_globs_and_folders_are_named_as_the_user_knows_them() {
        let files = [
            "06-b.yaml",
            "06-a.yaml",
            "k8s/web.yml",
            "k8s/db.json",
            "k8s/README.md",
            "k8s/more/x.yaml",
        ];
        let folder = make_folder(&files);
        let base = folder.path();
        assert_eq!(names(base, "./06-*.yaml").unwrap(), ["06-a.yaml", "06-b.yaml"]);
        assert_eq!(names(base, "06-a.yaml").unwrap(), ["06-a.yaml"]);
        assert_eq!(names(base, "./k8s/").unwrap(), ["k8s/db.json", "k8s/web.yml"]);
        assert_eq!(names(base, "k8s/**/*.yaml").unwrap(), ["k8s/more/x.yaml"]);
        assert_eq!(names(base, ".").unwrap(), ["06-a.yaml", "06-b.yaml"]);
        assert!(is_manifest_path(&base.join("k8s")) && is_manifest_path(&base.join("06-a.yaml")));
        for (source, expected) in [
            ("07-*.yaml", "no file matches 07-*.yaml"),
            ("gone.yaml", "there is no such file or folder"),
        ] {
            let error = names(base, source).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_folder_with_a_kustomization_is_built() {
        let folder = make_folder(&["unused.yaml"]);
        let base = folder.path();
        fs::create_dir(base.join("prod")).unwrap();
        let map = "configMapGenerator: [{name: a, literals: [k=v]}]\ngeneratorOptions: {disableNameSuffixHash: true}\n";
        fs::write(base.join("prod/kustomization.yaml"), map).unwrap();
        let read = read_local_manifests(base, &ManifestSource::Path("./prod".into())).unwrap();
        assert_eq!(read[0].name, "kustomize prod");
        assert!(read[0].text.contains("kind: ConfigMap"), "{}", read[0].text);
        assert!(is_manifest_path(&base.join("prod")));
        let files = list_source_files(base, &ManifestSource::Kustomization("prod".into())).unwrap();
        assert_eq!(files.len(), 1);
    }
}
