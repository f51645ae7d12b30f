//! What an input asks for, in the form that a lock records: whether a lock is still that of its
//! `gantry.yaml` is decided by it, without looking anything up.

use std::path::Path;

use serde::Serialize;
use store::hash::{DigestHasher, sha256};
use types::Digest;
use types::input::{
    ChartSource, Input, InputChart, InputManifestSet, InputModel, ManifestSource, PossibleImages,
};
use types::lock::{InputChange, Lock, LockedRequest};

use crate::context::resolve_path_from;
use crate::manifest_sources::list_source_files;
use crate::{Error, Result};

/// The hex digits of a digest that a lock records: enough to notice every change, short enough for
/// one line.
const DIGITS: usize = 16;

/// Whether the contents of values files and local charts are compared, besides the entries of
/// `gantry.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileComparison {
    /// They are: other values may render other images.
    Content,
    /// They are not. For what renders the charts itself and proves that every image is locked: a site
    /// may change its values.
    Nothing,
}

/// Compares an input with the lock that was made of it; empty where nothing has changed, and for a
/// lock of an earlier version, which records nothing. `base` is the folder of `gantry.yaml`.
///
/// # Errors
/// [`Error::Request`] where an entry cannot be written.
pub fn list_input_changes(
    base: &Path,
    input: &Input,
    lock: &Lock,
    files: FileComparison,
) -> Result<Vec<InputChange>> {
    if lock.requests.is_empty() {
        return Ok(Vec::new());
    }
    let mut changes = InputChange::list(&lock.requests, &list_requests(base, input)?);
    if files == FileComparison::Nothing {
        changes.retain(|change| !matches!(change, InputChange::FilesChanged(_)));
    }
    Ok(changes)
}

/// What the input asks for, sorted.
pub(crate) fn list_requests(base: &Path, input: &Input) -> Result<Vec<LockedRequest>> {
    let mut requests = vec![
        make_request("the bundle's name", &input.name)?,
        make_request("platforms:", &input.platforms)?,
        make_request("attached:", &input.attached)?,
        make_request("rules:", &input.rules)?,
    ];
    // Absent where it is not given, as it was before the key existed.
    if input.include != PossibleImages::LeftOut {
        requests.push(make_request("include:", &input.include)?);
    }
    for chart in &input.charts {
        let request = make_request(&describe_chart(chart), chart)?;
        requests.push(LockedRequest { files: digest_files(base, chart), ..request });
    }
    for set in &input.manifests {
        let request = make_request(&describe_manifest_set(set), set)?;
        requests.push(LockedRequest { files: digest_sources(base, set), ..request });
    }
    for image in &input.images {
        requests.push(make_request(&format!("image {}", image.reference), image)?);
    }
    for archive in &input.archives {
        let entry = format!("images of {}", archive.from.path().display());
        requests.push(make_request(&entry, archive)?);
    }
    for model in &input.models {
        requests.push(make_request(&describe_model(model), model)?);
    }
    for file in &input.files {
        requests.push(make_request(&format!("file {}", file.display()), file)?);
    }
    requests.sort();
    Ok(requests)
}

/// The digest is that of the entry as JSON, in which what is not given does not stand: so a key that
/// a later version adds changes no digest.
fn make_request(entry: &str, value: &impl Serialize) -> Result<LockedRequest> {
    let json = serde_json::to_vec(value)
        .map_err(|cause| Error::Request { entry: entry.to_owned(), cause })?;
    let digest = sha256(&json).hex()[..DIGITS].to_owned();
    Ok(LockedRequest { entry: entry.to_owned(), digest, files: None })
}

fn describe_chart(chart: &InputChart) -> String {
    let source = match chart.source.locked_name() {
        (url, Some(name)) => format!("{name} of {url}"),
        (text, None) => text,
    };
    // With the version, so that a change of it is named by the old one and the new one.
    let version = match &chart.version {
        Some(version) => format!(", version: {version}"),
        None => String::new(),
    };
    match &chart.release {
        Some(release) => format!("release {release} ({source}{version})"),
        None => format!("chart {source}{version}"),
    }
}

fn describe_manifest_set(set: &InputManifestSet) -> String {
    let sources: Vec<String> = set.sources.iter().map(ManifestSource::locked_name).collect();
    format!("release {} ({})", set.release, sources.join(", "))
}

fn describe_model(model: &InputModel) -> String {
    match model {
        InputModel::Hub { id, .. } => format!("model {id}"),
        InputModel::Ollama { name, .. } => format!("model {name}"),
        InputModel::Url { url, .. } => format!("model {url}"),
        InputModel::ImagePath { image, path, .. } => format!("models in {path} of {image}"),
    }
}

/// The digest of the contents of all files that a set of manifests is made of; `None` where all of them
/// are at URLs. What cannot be read counts as empty: whoever needs it says so.
fn digest_sources(base: &Path, set: &InputManifestSet) -> Option<String> {
    let is_local = |source: &&ManifestSource| !matches!(source, ManifestSource::Url { .. });
    let mut digests: Vec<Digest> = Vec::new();
    for source in set.sources.iter().filter(is_local) {
        let files = list_source_files(base, source).unwrap_or_default();
        digests.push(sha256(files.len().to_string().as_bytes()));
        digests.extend(files.iter().map(|file| sha256(&std::fs::read(file).unwrap_or_default())));
    }
    join_digests(&digests)
}

/// The digest of the contents of all files with values of a chart and its variants, and of a local chart;
/// `None` where it has neither. What cannot be read counts as empty: whoever needs it says so.
fn digest_files(base: &Path, chart: &InputChart) -> Option<String> {
    let mut digests: Vec<Digest> = Vec::new();
    if let ChartSource::Local(path) = &chart.source {
        let path = resolve_path_from(base, path);
        // The archive of a folder depends on its content alone, whenever it is made.
        let archive = match path.is_dir() {
            true => remote::helm::package_chart(&path).ok().map(|archive| archive.digest()),
            false => std::fs::read(&path).ok().map(|bytes| sha256(&bytes)),
        };
        digests.push(archive.unwrap_or_else(|| sha256(b"")));
    }
    for path in chart.values.iter().chain(chart.variants.iter().flatten()) {
        let content = std::fs::read(resolve_path_from(base, path)).unwrap_or_default();
        digests.push(sha256(&content));
    }
    for expression in &chart.set.files {
        // A wrong expression is reported by whoever renders the chart.
        let _ = remote::helm::rewrite_set_file_paths(expression, &mut |path| {
            let content = std::fs::read(resolve_path_from(base, path)).unwrap_or_default();
            digests.push(sha256(&content));
            Ok(path.to_owned())
        });
    }
    join_digests(&digests)
}

/// One digest for all of these; `None` where there is none.
fn join_digests(digests: &[Digest]) -> Option<String> {
    if digests.is_empty() {
        return None;
    }
    let mut hash = DigestHasher::new_sha256();
    for digest in digests {
        hash.update(digest.as_bytes());
    }
    Some(hash.finish().hex()[..DIGITS].to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INPUT: &str = "version: 1\nname: a\ncharts: [{chart: ./web, values: [v.yaml], set: [a=1], setFile: [b=r.json]}]\n\
        images: [\"nginx:1\", \"redis:7\"]\nmodels: [{hf: a/b}]\nfiles: [x.pdf]\n";

    fn changes(base: &Path, before: &str, now: &str, values: FileComparison) -> Vec<String> {
        let read = |text: &str| Input::parse("gantry.yaml", text).unwrap();
        let lock = types::lock::Lock {
            version: types::lock::VERSION,
            name: "a".into(),
            platforms: vec![],
            requests: list_requests(base, &read(before)).unwrap(),
            charts: vec![],
            manifests: vec![],
            images: vec![],
            models: vec![],
            files: vec![],
        };
        let changes = list_input_changes(base, &read(now), &lock, values).unwrap();
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_asks_for_the_same_is_no_change_however_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let other = "# a comment\nname: a\nversion: 1\nplatforms: [linux/amd64]\nattached: true\n\
            images:\n- docker.io/library/redis:7\n- {image: nginx:1}\nfiles: [x.pdf]\n\
            models: [{hf: a/b, revision: main}]\n\
            charts:\n- setFile: [b=r.json]\n  set: [a=1]\n  chart: ./web\n  values: [v.yaml]\nchecks: []\n";
        let found = changes(folder.path(), INPUT, other, FileComparison::Content);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn every_change_that_may_change_the_lock_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for (from, to, expected) in [
            ("\"nginx:1\", ", "", "removed image docker.io/library/nginx:1"),
            ("\"redis:7\"", "\"redis:7\", \"a.b/c:1\"", "added image a.b/c:1"),
            (
                "\"redis:7\"",
                "{image: \"redis:7\", attached: false}",
                "changed image docker.io/library/redis:7",
            ),
            ("[a=1]", "[a=2]", "changed chart ./web"),
            ("{hf: a/b}", "{hf: a/b, revision: v2}", "changed model a/b"),
            ("[x.pdf]", "[]", "removed file x.pdf"),
            ("name: a", "name: a\nplatforms: [linux/arm64]", "changed platforms:"),
            ("name: a", "name: a\nattached: false", "changed attached:"),
            ("name: a", "name: a\ninclude: possible", "added include:"),
            ("set: [a=1]", "set: [a=1], include: possible", "changed chart ./web"),
            ("\"redis:7\"", "\"redis:7\", {archive: a.tar}", "added images of a.tar"),
        ] {
            let found = changes(
                folder.path(),
                INPUT,
                &INPUT.replacen(from, to, 1),
                FileComparison::Content,
            );
            assert_eq!(found, [expected], "{from} -> {to}");
        }
    }

    #[test]
    fn other_values_are_a_change_where_they_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| Input::parse("gantry.yaml", text).unwrap();
        for file in ["v.yaml", "r.json"] {
            let before = list_requests(folder.path(), &read(INPUT)).unwrap();
            std::fs::write(folder.path().join(file), "image: x").unwrap();
            let now = list_requests(folder.path(), &read(INPUT)).unwrap();
            let found = InputChange::list(&before, &now);
            assert_eq!(found, [InputChange::FilesChanged("chart ./web".into())], "{file}");
        }
    }
}
