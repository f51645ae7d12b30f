//! Compares a bucket with the plan of a model: which objects are right, and which have to be uploaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use store::progress::Progress;

use super::model_bucket::{ModelBucket, ObjectHead};
use crate::models::plan::{FileContent, FolderIdentity, ModelFolder, ModelPlan};
use crate::models::record::ModelRecord;
use crate::models::storage::ModelStorage;
use crate::models::{Error, Result};

/// The work for one model.
pub(super) struct BucketUploadJob {
    /// Objects to upload that no reader lists: blobs, whose paths are made from their content.
    pub(super) contents: Vec<(PathBuf, FileContent)>,
    /// Objects to upload of the model's folder, which should appear at once.
    pub(super) folder_files: Vec<(PathBuf, FileContent)>,
    /// Objects of the revision that this one replaces, to be removed afterwards.
    pub(super) stale: Vec<PathBuf>,
}

impl BucketUploadJob {
    /// Whether there is nothing to upload.
    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.folder_files.is_empty()
    }
}

/// Looks at every object of a model. An object is right by the digest in its metadata or by the record;
/// where neither knows it, it is read and hashed. Objects of somebody else are an error.
pub(super) async fn inspect_model(
    bucket: &ModelBucket,
    plan: &ModelPlan,
    records: &[ModelRecord],
    progress: &dyn Progress,
) -> Result<BucketUploadJob> {
    let mut job = BucketUploadJob { contents: vec![], folder_files: vec![], stale: vec![] };
    for (path, content, is_right) in find_object_states(bucket, plan, records).await? {
        if is_right == Some(true) {
            progress.skip_bytes(content.size);
        } else if plan.contents.contains_key(&path) {
            job.contents.push((path, content));
        } else {
            job.folder_files.push((path, content));
            let (path, _) = &job.folder_files[job.folder_files.len() - 1];
            if is_right == Some(false)
                && let Some(folder) = &plan.folder
                && folder.identity == FolderIdentity::Model
                && !is_recorded_folder(folder, records)
            {
                let reason = "it differs from the model's file of this name".to_owned();
                return Err(Error::InTheWay { path: bucket.display_path(path), reason });
            }
        }
    }
    if let Some(folder) = plan.folder.as_ref().filter(|f| f.identity == FolderIdentity::Model) {
        let own: BTreeSet<PathBuf> = plan.files().map(|(path, _)| path).collect();
        if is_recorded_folder(folder, records) {
            let old = records.iter().filter(|record| record.folder.as_ref() == Some(&folder.path));
            let old = old.flat_map(|record| record.files.keys());
            job.stale = old.filter(|path| !own.contains(*path)).cloned().collect();
        } else if let Some(path) =
            bucket.list_below(&folder.path).await?.into_iter().find(|path| !own.contains(path))
        {
            return Err(Error::InTheWay {
                path: bucket.display_path(&path),
                reason: "it is not a file of the model, and Gantry did not make it".into(),
            });
        }
    }
    Ok(job)
}

/// Whether an object has the content that it should have.
pub(super) async fn is_object_right(
    bucket: &ModelBucket,
    path: &Path,
    content: FileContent,
    object: &ObjectHead,
    records: &[ModelRecord],
) -> Result<bool> {
    if object.stat.size != content.size {
        return Ok(false);
    }
    if let Some(told) = object.digest {
        return Ok(told == content.digest);
    }
    // Without metadata: Azure, or a server that drops it.
    let mut known = records.iter().filter_map(|record| record.files.get(path));
    if known.any(|file| file.digest == content.digest && file.modified == object.stat.modified) {
        return Ok(true);
    }
    Ok(bucket.hash_object(path, &mut |_| {}).await? == content.digest)
}

/// Each object of a plan, and whether it is right; `None` for those that do not exist.
async fn find_object_states(
    bucket: &ModelBucket,
    plan: &ModelPlan,
    records: &[ModelRecord],
) -> Result<Vec<(PathBuf, FileContent, Option<bool>)>> {
    let files: Vec<(PathBuf, FileContent)> = plan.files().collect();
    let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
    let objects = bucket.head_objects(&paths).await?;
    let mut states = Vec::with_capacity(files.len());
    for ((path, content), object) in files.into_iter().zip(objects) {
        let state = match object {
            Some(object) => Some(is_object_right(bucket, &path, content, &object, records).await?),
            None => None,
        };
        states.push((path, content, state));
    }
    Ok(states)
}

/// Whether Gantry wrote this folder.
fn is_recorded_folder(folder: &ModelFolder, records: &[ModelRecord]) -> bool {
    records.iter().any(|record| record.folder.as_ref() == Some(&folder.path))
}
