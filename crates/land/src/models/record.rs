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
    /// The folder that another revision would replace; absent where each revision has a folder of its
    /// own.
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
                .map(|folder| folder.path.clone()),
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
                place.remove_file(&other.path())?;
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
        place.write_file(&path, text.as_bytes())
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new(OWN).join("models").join(record_file_name(&self.name))
    }

    fn replaces(&self, other: &Self) -> bool {
        self.folder.is_some() && self.folder == other.folder
    }
}

/// A model's name as the name of a file: `BAAI--bge-m3--<commit>.json`.
pub(super) fn record_file_name(name: &str) -> String {
    format!("{}.json", name.replace(['/', ':', '@'], "--"))
}
