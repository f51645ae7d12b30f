//! The files that a kustomization is made of, found by following it as kustomize does
//! (kubectl.docs.kubernetes.io, "The Kustomization File"). Refuses what is not on this machine or
//! would run a program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use types::Cause;

use crate::{Error, Result};

/// The names of the file that makes a folder a kustomization.
const NAMES: &[&str] = &["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Keys whose entries are files, or folders with kustomizations of their own.
const RESOURCES: &[&str] = &["resources", "bases", "components"];
/// Keys whose entries are files, or configurations written in place.
const FILES: &[&str] = &["patchesStrategicMerge", "crds", "configurations"];
/// Keys whose entries are maps with a file in `path`.
const PATHS: &[&str] = &["patches", "patchesJson6902", "replacements"];
/// Keys whose entries make ConfigMaps and Secrets of files.
const GENERATORS: &[&str] = &["configMapGenerator", "secretGenerator"];
/// Keys whose entries are plugins, which may be kustomize's own.
const PLUGINS: &[&str] = &["generators", "transformers", "validators"];
/// Keys that run helm.
const HELM: &[&str] = &["helmCharts", "helmChartInflationGenerator"];
/// The longest file that is read for its plugins.
const MAX_FILE: u64 = 16 << 20;

/// The file that makes a folder a kustomization; `None` where it is none.
pub fn find_kustomization_file(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file())
}

/// All files that the kustomization in a folder is made of, sorted: the kustomizations, their
/// resources, patches, and what ConfigMaps and Secrets are made of.
///
/// # Errors
/// [`Error::Local`], with the kustomization, where it names something that is not on this machine,
/// a plugin, or a chart.
pub fn list_kustomization_files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    add_folder(folder, &mut files)?;
    Ok(files)
}

/// A kustomization that is followed.
struct Kustomization {
    file: PathBuf,
    folder: PathBuf,
}

impl Kustomization {
    fn refuse(&self, reason: String) -> Error {
        Error::Local { path: self.file.clone(), reason: Cause::from(reason) }
    }

    /// A file or folder that it names under a key.
    fn resolve(&self, key: &str, entry: &str) -> Result<PathBuf> {
        let path = self.folder.join(entry);
        if path.exists() {
            return Ok(path);
        }
        Err(self.refuse(match is_remote(entry) {
            true => format!(
                "{key}: {entry} is not on this machine, and what is built must not depend on the \
                 network; download it and name the local copy, or list a file at a URL under from: \
                 in gantry.yaml, with its sha256"
            ),
            false => format!("{key}: there is no {}", path.display()),
        }))
    }
}

fn add_folder(folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let Some(file) = find_kustomization_file(folder) else {
        let reason = format!("it has no {}; name the folder of a kustomization", NAMES[0]);
        return Err(Error::Local { path: folder.to_owned(), reason: reason.into() });
    };
    // Two overlays may share a base, and a base that names itself is kustomize's to refuse.
    if !insert_file(&file, files)? {
        return Ok(());
    }
    let own = Kustomization { folder: folder.to_owned(), file };
    let content = read_documents(&own.file)?;
    let [content] = content.as_slice() else {
        return Err(own.refuse("it must have one document with the keys of a kustomization".into()));
    };
    if let Some(key) = HELM.iter().find(|key| content.get(key).is_some()) {
        return Err(own.refuse(format!(
            "{key}: would run helm, which downloads the chart; list the chart under charts: in gantry.yaml"
        )));
    }
    for key in RESOURCES {
        for entry in entries(content, key).filter_map(Value::as_str) {
            add_resource(&own.resolve(key, entry)?, files)?;
        }
    }
    for key in PLUGINS {
        for entry in entries(content, key).filter_map(Value::as_str) {
            add_plugin(&own, key, entry, files)?;
        }
    }
    for key in FILES {
        // What has line breaks is written in place.
        let paths = entries(content, key).filter_map(Value::as_str);
        for entry in paths.filter(|entry| !entry.contains('\n')) {
            insert_file(&own.resolve(key, entry)?, files)?;
        }
    }
    let paths = PATHS.iter().flat_map(|key| entries(content, key).map(move |entry| (*key, entry)));
    let schema = content.get("openapi").map(|openapi| ("openapi", openapi));
    for (key, entry) in paths.chain(schema) {
        if let Some(path) = entry.get("path").and_then(Value::as_str) {
            insert_file(&own.resolve(key, path)?, files)?;
        }
    }
    for key in GENERATORS {
        for entry in entries(content, key) {
            let lists = ["files", "envs"].into_iter().flat_map(|list| entries(entry, list));
            for text in lists.chain(entry.get("env")).filter_map(Value::as_str) {
                // `name=path` gives the file another name.
                let path = text.split_once('=').map_or(text, |(_, path)| path);
                insert_file(&own.resolve(key, path)?, files)?;
            }
        }
    }
    Ok(())
}

/// Adds a file, once by whatever path it is named; `false` where it is there already.
fn insert_file(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<bool> {
    let read = |cause| Error::Read { what: path.display().to_string(), cause };
    Ok(files.insert(path.canonicalize().map_err(read)?))
}

/// Adds a resource: a file, or a folder with a kustomization.
fn add_resource(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    if path.is_dir() {
        return add_folder(path, files);
    }
    insert_file(path, files)?;
    Ok(())
}

/// Adds a generator, transformer or validator, if it is one of kustomize's own.
fn add_plugin(
    own: &Kustomization,
    key: &str,
    entry: &str,
    files: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    let documents = if entry.contains('\n') {
        parse_documents(&own.file, entry)?
    } else {
        let path = own.resolve(key, entry)?;
        if path.is_dir() {
            return add_folder(&path, files);
        }
        insert_file(&path, files)?;
        read_documents(&path)?
    };
    for document in documents {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("kind") == "HelmChartInflationGenerator" || text("apiVersion") != "builtin" {
            return Err(own.refuse(format!(
                "{key}: {} is a plugin ({} {}), and Gantry runs none; build the kustomization where the plugin \
                 is (kustomize build --enable-alpha-plugins), review the result, and list that file",
                if entry.contains('\n') { "an entry" } else { entry },
                text("apiVersion"),
                text("kind")
            )));
        }
    }
    Ok(())
}

/// The entries of a list in a kustomization; none if there is no list.
fn entries<'a>(content: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    content.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// Whether an entry is what kustomize downloads: a URL, or a repository in one of git's forms.
fn is_remote(entry: &str) -> bool {
    let host = entry.split('/').next().unwrap_or(entry);
    entry.contains("://")
        || entry.contains("?ref=")
        || entry.starts_with("git::")
        || host.contains('@')
        || (host.contains('.') && !host.starts_with('.') && entry.contains('/'))
}

fn read_documents(file: &Path) -> Result<Vec<Value>> {
    let what = || file.display().to_string();
    let size = fs::metadata(file).map_err(|cause| Error::Read { what: what(), cause })?.len();
    if size > MAX_FILE {
        return Err(Error::TooLarge { what: what(), size, most: MAX_FILE });
    }
    let text = fs::read_to_string(file).map_err(|cause| Error::Read { what: what(), cause })?;
    parse_documents(file, &text)
}

fn parse_documents(file: &Path, text: &str) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    // Separators stand on a line of their own in what people write for kustomize.
    for text in text.split("\n---") {
        let value =
            types::yaml::read_manifest(text.trim_start_matches("---")).map_err(|fault| {
                Error::Local {
                    path: file.to_owned(),
                    reason: Cause::about("it is not valid YAML", fault),
                }
            })?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A folder with these files, by their paths in it.
    fn make_folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn every_file_of_a_kustomization_is_found_whatever_names_it() {
        let prod = "resources: [../base, own.yaml]\ncomponents: [../part]\npatches: [{path: p.yaml}, {patch: 'a: b'}]\n\
            patchesStrategicMerge: [s.yaml, \"a: 1\\nb: 2\\n\"]\npatchesJson6902: [{path: j.json}]\n\
            configMapGenerator: [{name: c, files: [c.txt, k=d.txt], envs: [e.env]}]\nsecretGenerator: [{name: s, env: f.env}]\n\
            transformers: [t.yaml]\nopenapi: {path: schema.json}\nreplacements: [{path: r.yaml}]\n";
        let names = [
            "own.yaml",
            "p.yaml",
            "s.yaml",
            "j.json",
            "c.txt",
            "d.txt",
            "e.env",
            "f.env",
            "schema.json",
            "r.yaml",
        ];
        let mut files: Vec<(String, &str)> =
            names.iter().map(|name| (format!("prod/{name}"), "")).collect();
        files.extend([
            ("prod/kustomization.yaml".into(), prod),
            (
                "prod/t.yaml".into(),
                "apiVersion: builtin\nkind: PrefixTransformer\nmetadata: {name: a}\n",
            ),
            ("base/Kustomization".into(), "resources: [web.yaml]\n"),
            ("base/web.yaml".into(), ""),
            ("part/kustomization.yml".into(), "kind: Component\nresources: [../base]\n"),
        ]);
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let folder = make_folder(&files);
        let found = list_kustomization_files(&folder.path().join("prod")).unwrap();
        assert_eq!(found.len(), files.len(), "{found:#?}");
    }

    #[test]
    fn what_would_be_fetched_or_run_is_refused_with_the_next_step() {
        for (text, expected) in [
            (
                "resources: ['https://x.example/a.yaml']\n",
                "resources: https://x.example/a.yaml is not on this machine",
            ),
            ("bases: ['github.com/org/repo//base?ref=v1']\n", "is not on this machine"),
            ("components: ['git@github.com:org/repo.git']\n", "is not on this machine"),
            ("resources: [../base]\n", "there is no "),
            ("resources: [gone.yaml]\n", "there is no "),
            ("helmCharts: [{name: web}]\n", "list the chart under charts:"),
            (
                "generators: [g.yaml]\n",
                "g.yaml is a plugin (x.example/v1 Own), and Gantry runs none",
            ),
            (
                "transformers: [\"apiVersion: x.example/v1\\nkind: Own\\n\"]\n",
                "an entry is a plugin",
            ),
            ("resources: [\n", "is not valid YAML"),
        ] {
            let plugin = "apiVersion: x.example/v1\nkind: Own\n";
            let folder = make_folder(&[("kustomization.yaml", text), ("g.yaml", plugin)]);
            let error = list_kustomization_files(folder.path()).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains("kustomization.yaml"),
                "{text}: {error}"
            );
        }
        let none = make_folder(&[]);
        let error = list_kustomization_files(none.path()).unwrap_err().to_string();
        assert!(error.contains("has no kustomization.yaml"), "{error}");
    }
}
