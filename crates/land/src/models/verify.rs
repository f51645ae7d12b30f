//! The proof of all that was put into a place, by its own records: every file is read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::progress::Progress;

use super::Result;
use super::place::Place;
use super::record::Record;

/// What a check of a place found.
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
    /// The file, relative to the place.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: String,
}

/// Reads every file that was put into a place and compares its digest. Blocks.
pub fn verify<P: Place + ?Sized>(place: &P, progress: &dyn Progress) -> Result<Checked> {
    let records = Record::read_all(place)?;
    let mut checked = Checked { models: vec![], bytes: 0, bad: vec![] };
    progress.expect(records.iter().flat_map(|r| r.files.values()).map(|file| file.size).sum());
    for record in &records {
        let mut fault = |path: &Path, fault: String| {
            let path = path.to_owned();
            checked.bad.push(Bad { model: record.name.clone(), path, fault });
        };
        for (path, file) in &record.files {
            match place.stat(path)? {
                Some(stat) if stat.size != file.size => {
                    fault(path, format!("it has {} bytes, not {}", stat.size, file.size));
                }
                Some(_) => {
                    let actual = place.digest(path, &mut |bytes| progress.advance(bytes))?;
                    checked.bytes += file.size;
                    if actual != file.digest {
                        fault(path, format!("its digest is {actual}, not {}", file.digest));
                    }
                }
                None => fault(path, "it is not there".to_owned()),
            }
        }
        for (path, to) in &record.links {
            if place.link(path)?.as_ref() != Some(to) {
                fault(path, format!("it is no link to {}", to.display()));
            }
        }
        checked.models.push((record.name.clone(), record.files.len()));
        progress.done(&record.name);
    }
    Ok(checked)
}
