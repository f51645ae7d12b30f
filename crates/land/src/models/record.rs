//! What was put: one small file a model under `.gantry/models`, so that a place can be proven long
//! after, without the bundle that it came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::hash::sha256;
use types::Digest;
use types::site::ModelLayout;

use super::place::Place;
use super::plan::{Identity, Plan};
use super::{Error, Result};

/// The version of the records' format.
const VERSION: u32 = 1;
/// Gantry's own folder in a place for models.
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
    /// The record of a plan whose files are all there; `modified` tells when each was written.
    pub(super) fn of(
        plan: &Plan,
        layout: ModelLayout,
        modified: impl Fn(&Path) -> Result<u64>,
    ) -> Result<Self> {
        let mut files = BTreeMap::new();
        for (path, content) in plan.files() {
            let modified = modified(&path)?;
            let recorded = Recorded { digest: content.digest, size: content.size, modified };
            files.insert(path, recorded);
        }
        for (path, bytes) in &plan.pointers {
            let modified = modified(path)?;
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

    /// All records of a place, sorted by name. None where nothing was put yet.
    pub fn read_all<P: Place + ?Sized>(place: &P) -> Result<Vec<Self>> {
        let mut records = Vec::new();
        for path in place.names(&Path::new(OWN).join("models"))? {
            if path.extension().is_some_and(|extension| extension == "json") {
                records.extend(Self::read(place, &path)?);
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    fn read<P: Place + ?Sized>(place: &P, path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = place.read(path)? else { return Ok(None) };
        let broken = |reason: String| Error::Record { path: place.shown(path), reason };
        let record: Self = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        if record.version != VERSION {
            return Err(broken(format!("version {} is not known, only 1", record.version)));
        }
        Ok(Some(record))
    }

    /// Writes the record. That of the revision which this one replaces goes; what this one points
    /// elsewhere (a branch that moved on) is no other's any more.
    pub(super) fn write<P: Place + ?Sized>(&self, place: &P) -> Result<()> {
        let others = Self::read_all(place)?.into_iter().filter(|other| other.name != self.name);
        self.put(place)?;
        for mut other in others {
            if self.replaces(&other) {
                place.remove(&other.path())?;
                continue;
            }
            let before = other.files.len();
            other.files.retain(|path, file| {
                self.files.get(path).is_none_or(|own| own.digest == file.digest)
            });
            if other.files.len() < before {
                other.put(place)?;
            }
        }
        Ok(())
    }

    fn put<P: Place + ?Sized>(&self, place: &P) -> Result<()> {
        let path = self.path();
        let mut text = serde_json::to_string_pretty(self).map_err(|cause| Error::Record {
            path: place.shown(&path),
            reason: cause.to_string(),
        })?;
        text.push('\n');
        place.put(&path, text.as_bytes())
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new(OWN).join("models").join(file_name(&self.name))
    }

    fn replaces(&self, other: &Self) -> bool {
        self.folder.is_some() && self.folder == other.folder
    }
}

/// A model's name as a file's.
pub(super) fn file_name(name: &str) -> String {
    format!("{}.json", name.replace(['/', ':', '@'], "--"))
}
