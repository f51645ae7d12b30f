//! Verifies all models of a folder or bucket by its own records: every file is read and hashed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::progress::Progress;

use super::Result;
use super::record::ModelRecord;
use super::storage::ModelStorage;

/// The result of verifying a folder or bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelVerifyReport {
    /// The models that were written there, each with its number of files.
    pub models: Vec<(String, usize)>,
    /// Bytes that were read.
    pub bytes: u64,
    /// The files that are not as they were written.
    pub bad: Vec<DamagedFile>,
}

/// A file that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DamagedFile {
    /// The model.
    pub model: String,
    /// The file, relative to the folder or bucket.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: String,
}

/// Reads every file that the records have and compares its digest. Damage is in the result, not an
/// error. Blocks.
pub fn verify_models<P: ModelStorage + ?Sized>(
    place: &P,
    progress: &dyn Progress,
) -> Result<ModelVerifyReport> {
    let records = ModelRecord::read_all(place)?;
    let mut checked = ModelVerifyReport { models: vec![], bytes: 0, bad: vec![] };
    progress
        .expect_bytes(records.iter().flat_map(|r| r.files.values()).map(|file| file.size).sum());
    for record in &records {
        let mut fault = |path: &Path, fault: String| {
            let path = path.to_owned();
            checked.bad.push(DamagedFile { model: record.name.clone(), path, fault });
        };
        for (path, file) in &record.files {
            match place.file_stat(path)? {
                // A wrong length needs no reading.
                Some(stat) if stat.size != file.size => {
                    fault(path, format!("it has {} bytes instead of {}", stat.size, file.size));
                }
                // Always read, also when the time is the record's: a verification is made because disks
                // fail silently.
                Some(_) => {
                    let actual =
                        place.digest_file(path, &mut |bytes| progress.advance_bytes(bytes))?;
                    checked.bytes += file.size;
                    if actual != file.digest {
                        fault(path, format!("its digest is {actual} instead of {}", file.digest));
                    }
                }
                None => fault(path, "it is missing".to_owned()),
            }
        }
        for (path, to) in &record.links {
            if place.link_target(path)?.as_ref() != Some(to) {
                fault(path, format!("it is not a link to {}", to.display()));
            }
        }
        checked.models.push((record.name.clone(), record.files.len()));
        progress.finish_item(&record.name);
    }
    Ok(checked)
}
