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
            match place.file_stat(path) {
                // A wrong length needs no reading.
                Ok(Some(stat)) if stat.size != file.size => {
                    fault(path, format!("it has {} bytes instead of {}", stat.size, file.size));
                }
                // Always read, also when the time is the record's: a verification is made because disks
                // fail silently.
                Ok(Some(_)) => {
                    let algorithm = file.digest.algorithm();
                    let mut advance = |bytes| progress.advance_bytes(bytes);
                    let actual = place.digest_file(path, algorithm, &mut advance)?;
                    checked.bytes += file.size;
                    if actual != file.digest {
                        fault(path, format!("its digest is {actual} instead of {}", file.digest));
                    }
                }
                Ok(None) => fault(path, "it is missing".to_owned()),
                Err(error) if error.is_refused_link() => {
                    fault(path, "a symbolic link is there or on the way to it".to_owned());
                }
                Err(error) => return Err(error),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use store::progress::SilentProgress;
    use types::site::ModelLayout;

    use super::super::test_source::{COMMIT, MemorySource};
    use super::super::{ModelSelection, plan_models, write_models};
    use super::*;

    fn write_model(root: &Path) {
        let mut source = MemorySource::default();
        let files: [(&str, &[u8]); 3] = [("a", b"aaaa"), ("b", b"bbbb"), ("c", b"cccc")];
        source.add_model("o/n", COMMIT, None, &files);
        let plans = plan_models(&source, &ModelSelection::default()).unwrap().plans;
        write_models(&source, root, &plans, ModelLayout::HfCache, &SilentProgress).unwrap();
    }

    #[test]
    fn what_was_written_verifies_and_every_byte_of_it_is_read() {
        let root = tempfile::tempdir().unwrap();
        write_model(root.path());
        let report = verify_models(root.path(), &SilentProgress).unwrap();
        assert_eq!(report.bad, []);
        assert_eq!(report.models, [(format!("o/n@{COMMIT}"), 4)]);
        assert_eq!(report.bytes, 3 * 4 + 40);
    }

    #[test]
    fn each_kind_of_damage_is_told_with_its_file() {
        let root = tempfile::tempdir().unwrap();
        write_model(root.path());
        let snapshot = root.path().join("models--o--n/snapshots").join(COMMIT);
        // As a disk does it: the content changes, length and time stay.
        let blob = fs::canonicalize(snapshot.join("a")).unwrap();
        let time = fs::metadata(&blob).unwrap().modified().unwrap();
        fs::write(&blob, "axaa").unwrap();
        fs::File::options().append(true).open(&blob).unwrap().set_modified(time).unwrap();
        fs::write(fs::canonicalize(snapshot.join("b")).unwrap(), "bbb").unwrap();
        fs::remove_file(fs::canonicalize(snapshot.join("c")).unwrap()).unwrap();
        fs::remove_file(snapshot.join("a")).unwrap();
        fs::write(snapshot.join("a"), "aaaa").unwrap();
        let report = verify_models(root.path(), &SilentProgress).unwrap();
        let faults: Vec<&str> = report.bad.iter().map(|bad| bad.fault.as_str()).collect();
        let has = |part: &str| faults.iter().filter(|fault| fault.contains(part)).count();
        assert_eq!(has("its digest is sha256:"), 1, "{faults:?}");
        assert_eq!(has("it has 3 bytes instead of 4"), 1, "{faults:?}");
        assert_eq!(has("it is missing"), 1, "{faults:?}");
        assert_eq!(has("it is not a link to ../../blobs/"), 1, "{faults:?}");
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
