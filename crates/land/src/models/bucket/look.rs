//! Compares a bucket with the plan of a model: which objects are right, and which have to be uploaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use store::progress::Progress;

use super::{Bucket, Object};
use crate::models::place::Place;
use crate::models::plan::{Content, Folder, Identity, Plan};
use crate::models::record::Record;
use crate::models::{Error, Result};

/// The work for one model.
pub(super) struct Job {
    /// Objects to upload that no reader lists: blobs, whose paths are made from their content.
    pub(super) contents: Vec<(PathBuf, Content)>,
    /// Objects to upload of the model's folder, which should appear at once.
    pub(super) held: Vec<(PathBuf, Content)>,
    /// Objects of the revision that this one replaces, to be removed afterwards.
    pub(super) stale: Vec<PathBuf>,
}

impl Job {
    /// Whether there is nothing to upload.
    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.held.is_empty()
    }
}

/// Looks at every object of a model. An object is right by the digest in its metadata or by the record;
/// where neither knows it, it is read and hashed. Objects of somebody else are an error.
pub(super) async fn look(
    bucket: &Bucket,
    plan: &Plan,
    records: &[Record],
    progress: &dyn Progress,
) -> Result<Job> {
    let mut job = Job { contents: vec![], held: vec![], stale: vec![] };
    for (path, content, is_right) in states(bucket, plan, records).await? {
        if is_right == Some(true) {
            progress.skip(content.size);
        } else if plan.contents.contains_key(&path) {
            job.contents.push((path, content));
        } else {
            job.held.push((path, content));
            let (path, _) = &job.held[job.held.len() - 1];
            if is_right == Some(false)
                && let Some(folder) = &plan.folder
                && folder.identity == Identity::Model
                && !is_ours(folder, records)
            {
                let reason = "it differs from the model's file of this name".to_owned();
                return Err(Error::InTheWay { path: bucket.shown(path), reason });
            }
        }
    }
    if let Some(folder) = plan.folder.as_ref().filter(|f| f.identity == Identity::Model) {
        let own: BTreeSet<PathBuf> = plan.files().map(|(path, _)| path).collect();
        if is_ours(folder, records) {
            let old = records.iter().filter(|record| record.folder.as_ref() == Some(&folder.path));
            let old = old.flat_map(|record| record.files.keys());
            job.stale = old.filter(|path| !own.contains(*path)).cloned().collect();
        } else if let Some(path) =
            bucket.below(&folder.path).await?.into_iter().find(|path| !own.contains(path))
        {
            return Err(Error::InTheWay {
                path: bucket.shown(&path),
                reason: "it is not a file of the model, and Gantry did not make it".into(),
            });
        }
    }
    Ok(job)
}

/// Whether an object has the content that it should have.
pub(super) async fn is_right(
    bucket: &Bucket,
    path: &Path,
    content: Content,
    object: &Object,
    records: &[Record],
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
    Ok(bucket.hashed(path, &mut |_| {}).await? == content.digest)
}

/// Each object of a plan, and whether it is right; `None` for those that do not exist.
async fn states(
    bucket: &Bucket,
    plan: &Plan,
    records: &[Record],
) -> Result<Vec<(PathBuf, Content, Option<bool>)>> {
    let files: Vec<(PathBuf, Content)> = plan.files().collect();
    let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
    let objects = bucket.heads(&paths).await?;
    let mut states = Vec::with_capacity(files.len());
    for ((path, content), object) in files.into_iter().zip(objects) {
        let state = match object {
            Some(object) => Some(is_right(bucket, &path, content, &object, records).await?),
            None => None,
        };
        states.push((path, content, state));
    }
    Ok(states)
}

/// Whether Gantry wrote this folder.
fn is_ours(folder: &Folder, records: &[Record]) -> bool {
    records.iter().any(|record| record.folder.as_ref() == Some(&folder.path))
}
