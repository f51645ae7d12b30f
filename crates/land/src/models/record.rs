//! Records of what was written: one small file for each model under `.gantry/models`, so that a folder
//! or bucket can be verified long after, without the bundle that the models came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::hash::sha256;
use types::Cause;
use types::Digest;
use types::site::ModelLayout;

use super::plan::{FolderIdentity, ModelPlan};
use super::storage::ModelStorage;
use super::{Error, Result};

/// The version of the records' format.
const VERSION: u32 = 1;
/// Gantry's own folder beside the models.
pub(super) const OWN: &str = ".gantry";

/// What was written of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelRecord {
    /// The format's version: 1.
    pub version: u32,
    /// The model with its revision.
    pub name: String,
    /// The layout that it was written in.
    pub layout: ModelLayout,
    /// The folder (or file) that another revision would replace; absent where each revision has a folder
    /// of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Every file by its path, including the small ones that point to others (branches, manifests).
    pub files: BTreeMap<PathBuf, RecordedFile>,
    /// Symbolic links, with their targets as they are written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<PathBuf, PathBuf>,
}

/// What was written of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RecordedFile {
    /// Its sha256.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970. A file that still has this time is not
    /// hashed again by the next load.
    pub modified: u64,
}

impl ModelRecord {
    /// The record of a plan whose files are all written; `modified` returns the time of each.
    pub(super) fn from_plan(
        plan: &ModelPlan,
        layout: ModelLayout,
        modified: impl Fn(&Path) -> Result<u64>,
    ) -> Result<Self> {
        let mut files = BTreeMap::new();
        for (path, content) in plan.files() {
            let modified = modified(&path)?;
            let recorded = RecordedFile { digest: content.digest, size: content.size, modified };
            files.insert(path, recorded);
        }
        // Their content is not a blob of the source, so digest and size come from the plan's bytes.
        for (path, bytes) in &plan.pointers {
            let modified = modified(path)?;
            let (digest, size) = (sha256(bytes), bytes.len() as u64);
            files.insert(path.clone(), RecordedFile { digest, size, modified });
        }
        let folder = plan.folder.as_ref();
        let links = folder.map(|folder| {
            folder.links.iter().map(|(path, to)| (folder.path.join(path), to.clone())).collect()
        });
        Ok(Self {
            version: VERSION,
            name: plan.name.clone(),
            layout,
            folder: folder
                .filter(|folder| folder.identity == FolderIdentity::Model)
                .map(|folder| &folder.path)
                .or_else(|| plan.named.keys().next())
                .cloned(),
            files,
            links: links.unwrap_or_default(),
        })
    }

    /// All records of a folder or bucket, sorted by name. Empty where nothing was written yet.
    pub fn read_all<P: ModelStorage + ?Sized>(place: &P) -> Result<Vec<Self>> {
        let mut records = Vec::new();
        for path in place.list_files(&Path::new(OWN).join("models"))? {
            if path.extension().is_some_and(|extension| extension == "json") {
                records.extend(Self::read_record(place, &path)?);
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        // After a kill between writing a record and removing the one with the old file name.
        records.dedup_by(|a, b| a.name == b.name);
        Ok(records)
    }

    fn read_record<P: ModelStorage + ?Sized>(place: &P, path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = place.read_file(path)? else { return Ok(None) };
        let broken = |reason: Cause| Error::Record { path: place.display_path(path), reason };
        let record: Self = serde_json::from_slice(&bytes).map_err(|e| broken(e.into()))?;
        if record.version != VERSION {
            let version = record.version;
            return Err(broken(
                format!("version {version} is not known to this Gantry, only 1").into(),
            ));
        }
        Ok(Some(record))
    }

    /// Writes the record, and corrects those of other revisions: the record of a revision that this one
    /// replaced is removed; a file that has other content now (a branch that moved on) is taken out of
    /// them, else their verification would fail.
    pub(super) fn write_superseding<P: ModelStorage + ?Sized>(&self, place: &P) -> Result<()> {
        let others = Self::read_all(place)?.into_iter().filter(|other| other.name != self.name);
        // Before the others are corrected: after a kill in between, a file is in two records and not in
        // none.
        self.write_record(place)?;
        for mut other in others {
            if self.replaces(&other) {
                other.remove_record(place)?;
                continue;
            }
            let before = other.files.len();
            other.files.retain(|path, file| {
                self.files.get(path).is_none_or(|own| own.digest == file.digest)
            });
            if other.files.len() < before {
                other.write_record(place)?;
            }
        }
        Ok(())
    }

    fn write_record<P: ModelStorage + ?Sized>(&self, place: &P) -> Result<()> {
        let path = self.path();
        let mut text = serde_json::to_string_pretty(self).map_err(|cause| Error::Record {
            path: place.display_path(&path),
            reason: cause.into(),
        })?;
        text.push('\n');
        place.write_file(&path, text.as_bytes())?;
        match self.paths() {
            [new, old] if new != old => self.remove_record_at(place, &old),
            _ => Ok(()),
        }
    }

    /// Removes the record. The old file name may also be that of another model, whose record stays.
    pub(super) fn remove_record<P: ModelStorage + ?Sized>(&self, place: &P) -> Result<()> {
        for path in self.paths() {
            self.remove_record_at(place, &path)?;
        }
        Ok(())
    }

    fn remove_record_at<P: ModelStorage + ?Sized>(&self, place: &P, path: &Path) -> Result<()> {
        match Self::read_record(place, path)? {
            Some(record) if record.name == self.name => place.remove_file(path),
            _ => Ok(()),
        }
    }

    /// Where the record is: the first path, or with an older Gantry the second.
    pub(super) fn paths(&self) -> [PathBuf; 2] {
        [self.path(), old_record_path(&self.name)]
    }

    fn path(&self) -> PathBuf {
        Path::new(OWN).join("models").join(record_file_name(&self.name))
    }

    fn replaces(&self, other: &Self) -> bool {
        self.folder.is_some() && self.folder == other.folder
    }
}

/// A model's name as the name of a file: `BAAI--bge-m3--<commit>.json`. Two names never have the same
/// file: one that could be taken for another (`a--b` for `a/b`) ends with a hash.
pub(super) fn record_file_name(name: &str) -> String {
    let readable = name.replace(SEPARATORS, "--");
    match is_unambiguous(name) {
        true => format!("{readable}.json"),
        false => format!("{readable}~{}.json", sha256(name.as_bytes()).short_hex()),
    }
}

/// The file of a record that Gantry 0.1 wrote, whatever the name is.
fn old_record_path(name: &str) -> PathBuf {
    Path::new(OWN).join("models").join(format!("{}.json", name.replace(SEPARATORS, "--")))
}

/// What separates the parts of a model's name.
const SEPARATORS: [char; 3] = ['/', ':', '@'];

/// Whether a name can be told from its file name: `org/name@<commit>` of the Hub, or `host/path:tag` of
/// Ollama with a tag that looks like no commit, of parts without hyphens at their ends.
fn is_unambiguous(name: &str) -> bool {
    let is_commit =
        |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (path, last) = match name.rsplit_once('@').filter(|(_, commit)| is_commit(commit)) {
        Some(parts) => parts,
        None => match name.rsplit_once(':').filter(|(_, tag)| !is_commit(tag)) {
            Some(parts) => parts,
            None => return false,
        },
    };
    path.split('/').chain([last]).all(|part| {
        let is_separated = part.contains("--") || part.starts_with('-') || part.ends_with('-');
        !part.is_empty() && !is_separated && !part.contains(SEPARATORS) && !part.contains('~')
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use proptest::prelude::*;

    use super::super::plan::{FileContent, ModelFolder};
    use super::*;

    fn make_record(name: &str, files: &[(&str, &[u8])]) -> ModelRecord {
        let file = |(path, bytes): &(&str, &[u8])| {
            let size = bytes.len() as u64;
            (PathBuf::from(path), RecordedFile { digest: sha256(bytes), size, modified: 7 })
        };
        ModelRecord {
            version: VERSION,
            name: name.to_owned(),
            layout: ModelLayout::HfCache,
            folder: None,
            files: files.iter().map(file).collect(),
            links: BTreeMap::new(),
        }
    }

    /// A folder that records can be written into.
    fn make_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(OWN).join("parts")).unwrap();
        root
    }

    fn make_plan(identity: FolderIdentity) -> ModelPlan {
        let content = FileContent { digest: sha256(b"blob"), size: 4 };
        ModelPlan {
            name: "o/n@c".into(),
            contents: [("blobs/x".into(), content)].into(),
            named: BTreeMap::new(),
            folder: Some(ModelFolder {
                path: "snapshots/c".into(),
                files: [("a.txt".into(), content)].into(),
                links: [("b.txt".into(), "../../blobs/x".into())].into(),
                identity,
            }),
            pointers: vec![("refs/main".into(), b"commit".to_vec())],
        }
    }

    #[test]
    fn a_record_has_all_files_of_a_plan_with_their_times_and_the_digests_of_its_pointers() {
        let plan = make_plan(FolderIdentity::Commit);
        let time = |path: &Path| Ok(path.as_os_str().len() as u64);
        let record = ModelRecord::from_plan(&plan, ModelLayout::HfCache, time).unwrap();
        let paths: Vec<_> = record.files.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["blobs/x", "refs/main", "snapshots/c/a.txt"]);
        let pointer = record.files[Path::new("refs/main")];
        assert_eq!(pointer, RecordedFile { digest: sha256(b"commit"), size: 6, modified: 9 });
        assert_eq!(record.links[Path::new("snapshots/c/b.txt")], Path::new("../../blobs/x"));
    }

    #[test]
    fn only_a_folder_that_another_revision_would_replace_is_noted() {
        for (identity, folder) in [
            (FolderIdentity::Commit, None),
            (FolderIdentity::Model, Some(PathBuf::from("snapshots/c"))),
        ] {
            let plan = make_plan(identity);
            let record = ModelRecord::from_plan(&plan, ModelLayout::Flat, |_| Ok(0)).unwrap();
            assert_eq!(record.folder, folder, "{identity:?}");
        }
    }

    #[test]
    fn records_are_read_sorted_by_name_and_other_files_beside_them_are_left_alone() {
        let root = make_root();
        for name in ["o/b@1", "o/a@2"] {
            make_record(name, &[]).write_superseding(root.path()).unwrap();
        }
        fs::write(root.path().join(".gantry/models/notes.txt"), "mine").unwrap();
        let names: Vec<String> =
            ModelRecord::read_all(root.path()).unwrap().into_iter().map(|r| r.name).collect();
        assert_eq!(names, ["o/a@2", "o/b@1"]);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(ModelRecord::read_all(empty.path()).unwrap(), []);
    }

    #[test]
    fn a_branch_that_moved_on_is_taken_out_of_the_older_record() {
        let root = make_root();
        let old = make_record("o/n@1", &[("refs/main", b"1"), ("blobs/same", b"same")]);
        let new = make_record("o/n@2", &[("refs/main", b"2"), ("blobs/same", b"same")]);
        old.write_superseding(root.path()).unwrap();
        new.write_superseding(root.path()).unwrap();
        let records = ModelRecord::read_all(root.path()).unwrap();
        let paths: Vec<_> = records[0].files.keys().collect();
        assert_eq!(paths, [Path::new("blobs/same")]);
        assert_eq!(records[1], new);
    }

    #[test]
    fn a_revision_in_the_same_folder_replaces_the_record_of_the_one_before() {
        let root = make_root();
        let in_folder = |name: &str, folder: &str| ModelRecord {
            folder: Some(folder.into()),
            ..make_record(name, &[])
        };
        for record in
            [in_folder("o/n@1", "o/n"), in_folder("o/m@1", "o/m"), in_folder("o/n@2", "o/n")]
        {
            record.write_superseding(root.path()).unwrap();
        }
        let names: Vec<String> =
            ModelRecord::read_all(root.path()).unwrap().into_iter().map(|r| r.name).collect();
        assert_eq!(names, ["o/m@1", "o/n@2"]);
    }

    #[test]
    fn a_record_of_another_version_or_with_unknown_fields_is_an_error_with_its_path() {
        for text in [
            r#"{"version":2,"name":"o/n@1","layout":"flat","files":{}}"#,
            r#"{"version":1,"name":"o/n@1","layout":"flat","files":{},"more":1}"#,
            "cut off",
        ] {
            let root = make_root();
            let path = root.path().join(".gantry/models/x.json");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let error = ModelRecord::read_all(root.path()).unwrap_err().to_string();
            assert!(error.starts_with(path.to_str().unwrap()), "{error}");
            assert!(error.contains("load the models again"), "{error}");
        }
    }

    #[test]
    fn usual_names_have_plain_files_and_others_a_hash() {
        let commit = "a".repeat(40);
        let plain = |name: &str| {
            record_file_name(name) == format!("{}.json", name.replace(SEPARATORS, "--"))
        };
        assert!(plain(&format!("BAAI/bge-m3@{commit}")));
        assert!(plain("registry.ollama.ai/library/qwen2.5:3b"));
        for name in ["a--b@", "a/b", "o/n@1", "a-/b:c", "r:5000/a:b"] {
            assert!(!plain(name), "{name}");
        }
        assert!(!plain(&format!("a--b@{commit}")) && !plain(&format!("a/b:{commit}")));
    }

    #[test]
    fn a_record_with_an_old_file_name_is_read_and_replaced() {
        let root = make_root();
        let (mine, theirs) = (make_record("a--b@1", &[("x", b"x")]), make_record("a/b@1", &[]));
        let old = root.path().join(old_record_path(&mine.name));
        fs::create_dir_all(old.parent().unwrap()).unwrap();
        fs::write(&old, serde_json::to_vec(&mine).unwrap()).unwrap();
        assert_eq!(ModelRecord::read_all(root.path()).unwrap(), std::slice::from_ref(&mine));

        theirs.write_superseding(root.path()).unwrap();
        assert!(old.exists(), "it is another model's");
        mine.write_superseding(root.path()).unwrap();

        assert!(!old.exists());
        assert_eq!(ModelRecord::read_all(root.path()).unwrap(), [mine, theirs]);
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(
            name in "[a-z]{1,8}/[a-z.-]{1,8}@[0-9a-f]{8}",
            folder in proptest::option::of("[a-z]{1,8}/[a-z]{1,8}"),
            paths in proptest::collection::btree_map("[a-zäß ./-]{1,20}", (any::<u64>(), any::<u64>()), 0..5),
            links in proptest::collection::btree_map("[a-z/]{1,9}", "[./a-z]{1,9}", 0..3),
        ) {
            let file = |(path, (size, modified)): (String, (u64, u64))| {
                (PathBuf::from(&path), RecordedFile { digest: sha256(path.as_bytes()), size, modified })
            };
            let record = ModelRecord {
                folder: folder.map(PathBuf::from),
                files: paths.into_iter().map(file).collect(),
                links: links.into_iter().map(|(at, to)| (at.into(), to.into())).collect(),
                ..make_record(&name, &[])
            };
            let text = serde_json::to_vec_pretty(&record).unwrap();
            prop_assert_eq!(serde_json::from_slice::<ModelRecord>(&text).unwrap(), record);
        }

        #[test]
        fn two_names_never_have_the_same_file(
            names in proptest::collection::btree_set("(a|-|b|[0-9a-f]{40}|/|:|@|~){1,6}", 2)
        ) {
            let files: std::collections::BTreeSet<String> =
                names.iter().map(|name| record_file_name(name)).collect();
            prop_assert_eq!(files.len(), names.len());
        }

        #[test]
        fn a_record_is_a_file_right_in_its_folder_whatever_the_models_name(name in "[A-Za-z0-9/:@._-]{1,60}") {
            let file = record_file_name(&name);
            prop_assert!(!file.contains(['/', ':', '@']));
            prop_assert!(file.ends_with(".json"));
            prop_assert!(file != ".." && file != ".");
        }
    }
}
