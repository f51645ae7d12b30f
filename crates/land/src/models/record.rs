//! What was put: one small file a model under `.gantry/models`, so that a volume can be proven long
//! after, without the bundle that it came from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use store::hash::sha256;
use types::Digest;
use types::site::ModelLayout;

use super::plan::{Identity, Plan};
use super::{Error, Result, at};

/// The version of the records' format.
const VERSION: u32 = 1;
/// Gantry's own folder in a folder of models.
pub(super) const OWN: &str = ".gantry";

/// What was put of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Record {
    /// The format's version: 1.
    pub version: u32,
    /// The model with its revision.
    pub name: String,
    /// How it is laid out.
    pub layout: ModelLayout,
    /// The folder that another revision would replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Every file by its path, the small ones that point at others among them.
    pub files: BTreeMap<PathBuf, Recorded>,
    /// Symbolic links and what they say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<PathBuf, PathBuf>,
}

/// What was put of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Recorded {
    /// Its sha256.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970: a file that is as it was left is not
    /// hashed again by the next put.
    pub modified: u64,
}

impl Record {
    /// The record of a plan whose files are all there.
    pub(super) fn of(root: &Path, plan: &Plan, layout: ModelLayout) -> Result<Self> {
        let mut files = BTreeMap::new();
        for (path, content) in plan.files() {
            let modified = modified(&root.join(&path))?;
            let recorded = Recorded { digest: content.digest, size: content.size, modified };
            files.insert(path, recorded);
        }
        for (path, bytes) in &plan.pointers {
            let modified = modified(&root.join(path))?;
            let (digest, size) = (sha256(bytes), bytes.len() as u64);
            files.insert(path.clone(), Recorded { digest, size, modified });
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
                .filter(|folder| folder.identity == Identity::Model)
                .map(|folder| folder.path.clone()),
            files,
            links: links.unwrap_or_default(),
        })
    }

    /// All records of a folder, sorted by name. None where nothing was put yet.
    pub fn read_all(root: &Path) -> Result<Vec<Self>> {
        let folder = root.join(OWN).join("models");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(cause) => return Err(at(&folder)(cause)),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(at(&folder))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                records.push(Self::read(&path)?);
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(at(path))?;
        let broken = |reason: String| Error::Record { path: path.to_owned(), reason };
        let record: Self = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
        if record.version != VERSION {
            return Err(broken(format!("version {} is not known, only 1", record.version)));
        }
        Ok(record)
    }

    /// Writes the record. That of the revision which this one replaces goes; what this one points
    /// elsewhere (a branch that moved on) is no other's any more.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        let others = Self::read_all(root)?.into_iter().filter(|other| other.name != self.name);
        self.put(root)?;
        for mut other in others {
            if self.replaces(&other) {
                let path = other.path(root);
                fs::remove_file(&path).map_err(at(&path))?;
                continue;
            }
            let before = other.files.len();
            other.files.retain(|path, file| {
                self.files.get(path).is_none_or(|own| own.digest == file.digest)
            });
            if other.files.len() < before {
                other.put(root)?;
            }
        }
        Ok(())
    }

    fn put(&self, root: &Path) -> Result<()> {
        let path = self.path(root);
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|cause| Error::Record { path: path.clone(), reason: cause.to_string() })?;
        text.push('\n');
        super::write::put_small(root, &path, text.as_bytes())
    }

    pub(super) fn path(&self, root: &Path) -> PathBuf {
        root.join(OWN).join("models").join(file_name(&self.name))
    }

    fn replaces(&self, other: &Self) -> bool {
        self.folder.is_some() && self.folder == other.folder
    }
}

/// A model's name as a file's.
fn file_name(name: &str) -> String {
    format!("{}.json", name.replace(['/', ':', '@'], "--"))
}

/// When a file was last written, in nanoseconds since 1970.
pub(super) fn modified(path: &Path) -> Result<u64> {
    let time = fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(at(path))?;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
