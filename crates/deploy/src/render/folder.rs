//! The folder that releases are written to: what changes in it, and what of a former run has to go.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::file_head::FileHead;
use super::rendered_release::RenderedRelease;
use crate::{Error, Result};

/// How many folders deep files are looked for: NAMESPACE/RELEASE/hooks.
const DEEPEST: usize = 3;
/// The longest first line that is read.
const LONGEST_HEAD: u64 = 4 << 10;

/// Where releases are written.
#[derive(Debug, Clone, Copy)]
pub struct RenderFolder<'a> {
    /// The folder of the files.
    pub output: &'a Path,
    /// The folder for Secrets, if they have one of their own.
    pub secrets: Option<&'a Path>,
    /// The bundle's name in gantry.yaml: files of other bundles in the same folder are not touched.
    pub bundle: &'a str,
}

/// Which releases were rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderScope {
    /// All of gantry.yaml: files of any other release of the bundle go.
    All,
    /// Some: files of other releases stay.
    Named,
}

/// A file that has to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    /// Its path, with the folder.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Whether it stands in the folder for Secrets, which only their owner may read.
    pub is_private: bool,
}

/// What has to be done to a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderChanges {
    /// The files that are new or have another text, sorted by path.
    pub written: Vec<ChangedFile>,
    /// The files of a former run that no release has any more, sorted by path.
    pub removed: Vec<PathBuf>,
    /// How many files stay as they are.
    pub unchanged: usize,
}

impl FolderChanges {
    /// Whether the folder is up to date.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty()
    }
}

impl RenderFolder<'_> {
    /// Compares the files of releases with those in the folder. Nothing is written.
    ///
    /// # Errors
    /// A file or folder cannot be read, or an object cannot be written as YAML.
    pub fn find_changes(
        &self,
        releases: &[RenderedRelease],
        scope: RenderScope,
    ) -> Result<FolderChanges> {
        let mut changes = FolderChanges::default();
        let mut kept = BTreeSet::new();
        for release in releases {
            let head = self.head_of(release);
            for file in &release.files {
                let private = self.secrets.filter(|_| file.is_secret());
                let path = private.unwrap_or(self.output).join(&file.path);
                let former = read_if_there(&path)?;
                let text = file.write_text(&head, former.as_deref())?;
                if former.as_ref() == Some(&text) {
                    changes.unchanged += 1;
                } else {
                    let is_private = private.is_some();
                    changes.written.push(ChangedFile { path: path.clone(), text, is_private });
                }
                kept.insert(path);
            }
        }
        changes.written.sort_by(|a, b| a.path.cmp(&b.path));
        let heads: Vec<FileHead> = releases.iter().map(|release| self.head_of(release)).collect();
        let is_gone = |head: &FileHead| {
            head.bundle == self.bundle && (scope == RenderScope::All || heads.contains(head))
        };
        let mut found = BTreeSet::new();
        for folder in [Some(self.output), self.secrets].into_iter().flatten() {
            find_files(folder, DEEPEST, &mut |path, head| {
                if is_gone(&head) && !kept.contains(path) {
                    found.insert(path.to_owned());
                }
            })?;
        }
        changes.removed = found.into_iter().collect();
        Ok(changes)
    }

    fn head_of(&self, release: &RenderedRelease) -> FileHead {
        FileHead {
            release: release.release.clone(),
            namespace: release.namespace.clone(),
            bundle: self.bundle.to_owned(),
        }
    }

    /// Removes files of a former run, and the folders that are empty then.
    pub fn remove_files(&self, files: &[PathBuf]) -> Result<()> {
        for path in files {
            fs::remove_file(path).map_err(|cause| Error::Write { path: path.clone(), cause })?;
            let roots = [Some(self.output), self.secrets];
            let is_root = |folder: &Path| roots.contains(&Some(folder));
            let folders = path.ancestors().skip(1).take_while(|folder| !is_root(folder));
            // The first folder that something else is in ends it.
            for folder in folders.take(DEEPEST) {
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A binary file is somebody else's, which the caller refuses to overwrite.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(cause) => Err(Error::Read { path: path.to_owned(), cause }),
    }
}

/// Finds the files that a run of `render` wrote. Hidden folders (`.git`) and links are not followed.
fn find_files(folder: &Path, depth: usize, found: &mut dyn FnMut(&Path, FileHead)) -> Result<()> {
    let failed = |cause| Error::Read { path: folder.to_owned(), cause };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed(cause)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if kind.is_dir() && !is_hidden && depth > 0 {
            find_files(&path, depth - 1, found)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|ending| ending == "yaml")
            && let Some(head) = read_head(&path)?
        {
            found(&path, head);
        }
    }
    Ok(())
}

fn read_head(path: &Path) -> Result<Option<FileHead>> {
    let failed = |cause| Error::Read { path: path.to_owned(), cause };
    let file = fs::File::open(path).map_err(failed)?;
    let mut line = Vec::new();
    BufReader::new(file.take(LONGEST_HEAD)).read_until(b'\n', &mut line).map_err(failed)?;
    Ok(FileHead::parse(&String::from_utf8_lossy(&line)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::release::read_objects;
    use crate::render::ObjectFile;
    use crate::render::object_file::complete_namespaces;

    fn make_release(name: &str, objects: &[(&str, &str)]) -> RenderedRelease {
        let files = objects.iter().map(|(kind, name_of)| {
            let text = format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name_of}}}\n");
            let mut object = read_objects(&text, "shop").unwrap();
            complete_namespaces(&mut object, "shop");
            let object = object.remove(0);
            let again = object.value.clone();
            ObjectFile::new((name, "shop"), object, again)
        });
        RenderedRelease {
            release: name.to_owned(),
            namespace: "shop".to_owned(),
            chart: "c 1".to_owned(),
            files: files.collect(),
            left_out: vec![],
            accounts: vec![],
        }
    }

    fn apply_changes(
        folder: RenderFolder<'_>,
        releases: &[RenderedRelease],
        scope: RenderScope,
    ) -> FolderChanges {
        let changes = folder.find_changes(releases, scope).unwrap();
        for file in &changes.written {
            fs::create_dir_all(file.path.parent().unwrap()).unwrap();
            fs::write(&file.path, &file.text).unwrap();
        }
        folder.remove_files(&changes.removed).unwrap();
        changes
    }

    #[test]
    fn what_a_former_run_wrote_goes_and_what_a_person_wrote_stays() {
        let place = tempfile::tempdir().unwrap();
        let (output, secrets) = (place.path().join("out"), place.path().join("secrets"));
        let folder = RenderFolder { output: &output, secrets: Some(&secrets), bundle: "all" };
        let web = make_release("web", &[("ConfigMap", "a"), ("Secret", "s"), ("ConfigMap", "b")]);
        let db = make_release("db", &[("ConfigMap", "a")]);

        let first = apply_changes(folder, &[web.clone(), db.clone()], RenderScope::All);
        assert_eq!((first.written.len(), first.removed.len()), (4, 0));
        assert!(secrets.join("shop/web/secret_s.yaml").is_file());
        assert!(!output.join("shop/web/secret_s.yaml").exists());
        let again = apply_changes(folder, &[web, db.clone()], RenderScope::All);
        assert!(again.is_empty() && again.unchanged == 4);

        fs::write(output.join("shop/web/kustomization.yaml"), "resources: []\n").unwrap();
        let other = RenderFolder { bundle: "other", ..folder };
        apply_changes(other, &[make_release("cache", &[("ConfigMap", "a")])], RenderScope::All);
        let web = make_release("web", &[("ConfigMap", "a")]);
        let fewer = apply_changes(folder, &[web], RenderScope::Named);
        let removed =
            [output.join("shop/web/configmap_b.yaml"), secrets.join("shop/web/secret_s.yaml")];
        assert_eq!(fewer.removed, removed);
        assert!(!secrets.join("shop").exists(), "empty folders go");
        assert!(output.join("shop/db/configmap_a.yaml").is_file(), "db was not rendered");
        let none = apply_changes(folder, &[db], RenderScope::All);
        assert_eq!(none.removed, [output.join("shop/web/configmap_a.yaml")]);
        assert!(output.join("shop/web/kustomization.yaml").is_file());
        assert!(output.join("shop/cache/configmap_a.yaml").is_file(), "of another bundle");
    }
}
