//! What is in a folder of models: whether a file is right, what is a stranger's, and the proof of
//! all that was put.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::hash::Sha256;
use store::progress::Progress;
use types::Digest;

use super::plan::{Content, Folder};
use super::record::{Record, modified};
use super::{Result, at};

/// What is read at once.
const PIECE: usize = 1 << 20;

/// Whether a file is what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Right,
    Wrong,
    Missing,
}

/// Looks at a file. One that a record has with this digest and that was not written since is not
/// hashed again.
pub(super) fn state(
    root: &Path,
    path: &Path,
    content: Content,
    records: &[Record],
) -> Result<State> {
    let whole = root.join(path);
    match fs::metadata(&whole) {
        Ok(metadata) if metadata.is_file() && metadata.len() == content.size => {}
        Ok(_) => return Ok(State::Wrong),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::Missing),
        Err(cause) => return Err(at(&whole)(cause)),
    }
    let known = records.iter().filter_map(|record| record.files.get(path));
    for known in known.filter(|known| known.digest == content.digest) {
        if known.modified == modified(&whole)? {
            return Ok(State::Right);
        }
    }
    let is_right = hashed(&whole, &mut |_| {})? == content.digest;
    Ok(if is_right { State::Right } else { State::Wrong })
}

/// The files below a folder that are none of the model's.
pub(super) fn strangers(path: &Path, folder: &Folder) -> Result<BTreeSet<PathBuf>> {
    let mut strangers = BTreeSet::new();
    let mut open = vec![path.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).map_err(at(&next))? {
            let entry = entry.map_err(at(&next))?;
            let own = entry.path();
            if entry.file_type().map_err(at(&own))?.is_dir() {
                open.push(own);
                continue;
            }
            let is_known = own.strip_prefix(path).is_ok_and(|relative| {
                folder.files.contains_key(relative) || folder.links.contains_key(relative)
            });
            if !is_known {
                strangers.insert(own);
            }
        }
    }
    Ok(strangers)
}

/// What a check of a folder found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The models that were put there, with how many files each has.
    pub models: Vec<(String, usize)>,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is not as it was put.
    pub bad: Vec<Bad>,
}

/// A file that is not as it was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bad {
    /// The model.
    pub model: String,
    /// The file, relative to the folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: String,
}

/// Reads every file that was put into a folder and compares its digest. Blocks on the disk.
pub fn verify(root: &Path, progress: &dyn Progress) -> Result<Checked> {
    let records = Record::read_all(root)?;
    let mut checked = Checked { models: vec![], bytes: 0, bad: vec![] };
    progress.expect(records.iter().flat_map(|r| r.files.values()).map(|file| file.size).sum());
    for record in &records {
        let mut fault = |path: &Path, fault: String| {
            let path = path.to_owned();
            checked.bad.push(Bad { model: record.name.clone(), path, fault });
        };
        for (path, file) in &record.files {
            let whole = root.join(path);
            match fs::metadata(&whole) {
                Ok(metadata) if metadata.len() != file.size => {
                    fault(path, format!("it has {} bytes, not {}", metadata.len(), file.size));
                }
                Ok(_) => {
                    let actual = hashed(&whole, &mut |bytes| progress.advance(bytes))?;
                    checked.bytes += file.size;
                    if actual != file.digest {
                        fault(path, format!("its digest is {actual}, not {}", file.digest));
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    fault(path, "it is not there".to_owned());
                }
                Err(cause) => return Err(at(&whole)(cause)),
            }
        }
        for (path, to) in &record.links {
            if !fs::read_link(root.join(path)).is_ok_and(|now| now == *to) {
                fault(path, format!("it is no link to {}", to.display()));
            }
        }
        checked.models.push((record.name.clone(), record.files.len()));
        progress.done(&record.name);
    }
    Ok(checked)
}

fn hashed(path: &Path, advance: &mut dyn FnMut(u64)) -> Result<Digest> {
    let mut file = File::open(path).map_err(at(path))?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(at(path))?;
        if read == 0 {
            return Ok(hash.finish());
        }
        hash.update(&piece[..read]);
        advance(read as u64);
    }
}
