//! Writes planned models into a bucket: objects that are right stay, missing ones are uploaded and
//! checked where nobody sees them, and become visible all at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use store::Source;
use store::progress::{Progress, SilentProgress};
use types::site::ModelLayout;

use super::explain;
use super::inspect::{BucketUploadJob, inspect_model, is_object_right};
use super::journal::{UploadJournal, remove_stale_journals};
use super::model_bucket::{ModelBucket, REQUESTS};
use super::stage::stage_files;
use crate::models::plan::{FileContent, ModelPlan};
use crate::models::record::ModelRecord;
use crate::models::storage::ModelStorage;
use crate::models::{Error, ModelPutOutcome, Result};

/// How often uploads are made that vanish between their last part and their completion. Once may be
/// another push that completed them; again and again is a cleaner that is set too short.
const TRIES: usize = 3;

/// Writes planned models of a source into a bucket; one model after the other, so that the first can be
/// used while the second is uploaded. Blocks; call it outside of the runtime.
pub fn push_models(
    source: &dyn Source,
    bucket: &ModelBucket,
    plans: &[ModelPlan],
    layout: ModelLayout,
    progress: &dyn Progress,
) -> Result<Vec<ModelPutOutcome>> {
    let records = ModelRecord::read_all(bucket)?;
    progress.expect_bytes(plans.iter().map(ModelPlan::size).sum());
    let mut jobs = Vec::new();
    for plan in plans {
        jobs.push(bucket.runtime.block_on(inspect_model(bucket, plan, &records, progress))?);
    }
    let (done, going_on): (Vec<_>, Vec<_>) =
        plans.iter().zip(&jobs).partition(|(_, job)| job.is_empty());
    let name = |(plan, _): (&'_ ModelPlan, _)| plan.name.clone();
    let done: Vec<String> = done.into_iter().map(name).collect();
    let going_on: Vec<String> = going_on.into_iter().map(name).collect();
    // Before anything is uploaded: parts of abandoned pushes cost storage until they are aborted.
    remove_stale_journals(bucket, &going_on, &done)?;
    let mut puts = Vec::new();
    for (plan, job) in plans.iter().zip(jobs) {
        progress.start_item(&plan.name);
        let put = push_model(source, bucket, plan, job, progress);
        progress.end_item(&plan.name);
        let put = put?;
        let known = records.iter().find(|record| record.name == plan.name);
        let record = build_record(bucket, plan, layout)?;
        // A push that finds everything right writes nothing at all.
        if known != Some(&record) {
            record.write_superseding(bucket)?;
        }
        progress.finish_item(&plan.name);
        puts.push(put);
    }
    Ok(puts)
}

/// How many bytes of each model a bucket lacks. Nothing is written; parts of interrupted uploads do not
/// count.
pub fn find_missing_bytes(bucket: &ModelBucket, plans: &[ModelPlan]) -> Result<Vec<u64>> {
    let records = ModelRecord::read_all(bucket)?;
    let missing = |plan: &ModelPlan| {
        let job = inspect_model(bucket, plan, &records, &SilentProgress);
        let job = bucket.runtime.block_on(job)?;
        Ok(job.contents.iter().chain(&job.folder_files).map(|(_, content)| content.size).sum())
    };
    plans.iter().map(missing).collect()
}

/// Writes one model: its files, then what points to it.
fn push_model(
    source: &dyn Source,
    bucket: &ModelBucket,
    plan: &ModelPlan,
    job: BucketUploadJob,
    progress: &dyn Progress,
) -> Result<ModelPutOutcome> {
    let mut put = ModelPutOutcome::Present;
    if !job.is_empty() {
        put = ModelPutOutcome::Written;
        stage_and_commit(source, bucket, plan, &job, progress)?;
    }
    // Old files go when the new ones are there, and before the pointers: in between a reader that lists
    // may see both revisions, but never a model with files missing.
    for path in &job.stale {
        put = ModelPutOutcome::Written;
        bucket.remove_file(path)?;
    }
    for (path, bytes) in &plan.pointers {
        if bucket.read_file(path)?.as_ref() != Some(bytes) {
            put = ModelPutOutcome::Written;
            bucket.write_file(path, bytes)?;
        }
    }
    Ok(put)
}

/// Stages all files of a model and commits them: first those that no reader lists, then the folder.
fn stage_and_commit(
    source: &dyn Source,
    bucket: &ModelBucket,
    plan: &ModelPlan,
    job: &BucketUploadJob,
    progress: &dyn Progress,
) -> Result<()> {
    let journal = Arc::new(UploadJournal::open(bucket, &plan.name)?);
    let mut files: Vec<(PathBuf, FileContent)> = job
        .contents
        .iter()
        .chain(&job.folder_files)
        .filter(|file| file.1.size > 0)
        .cloned()
        .collect();
    for attempt in 1.. {
        stage_files(source, bucket, &journal, &files, progress)?;
        let mut gone = Vec::new();
        for files in [&job.contents, &job.folder_files] {
            gone.extend(bucket.runtime.block_on(commit_files(bucket, &journal, files))?);
        }
        let Some((path, _)) = gone.first() else { break };
        if attempt == TRIES {
            return Err(Error::Request {
                url: bucket.display_path(path).display().to_string(),
                fault: "its upload vanishes each time before it can be completed".into(),
                next: "check whether a lifecycle rule or another program removes incomplete uploads of the bucket".into(),
            });
        }
        files = gone;
    }
    journal.remove()
}

/// Makes staged files visible, and returns those whose upload does not exist any more. The longest is
/// completed first, since joining its parts takes longest: so all appear at about the same time.
async fn commit_files(
    bucket: &ModelBucket,
    journal: &UploadJournal,
    files: &[(PathBuf, FileContent)],
) -> Result<Vec<(PathBuf, FileContent)>> {
    let mut files = files.to_vec();
    files.sort_by_key(|(_, content)| std::cmp::Reverse(content.size));
    let mut shown = stream::iter(files)
        .map(|(path, content)| async move {
            let is_shown = commit_file(bucket, journal, &path, content).await?;
            Ok((path, content, is_shown))
        })
        .buffer_unordered(REQUESTS);
    let (mut gone, mut failed) = (Vec::new(), None);
    // The others are completed also after a failure: the fewer files are missing, the sooner the next
    // run is done.
    while let Some(file) = shown.next().await {
        match file {
            Ok((_, _, true)) => {}
            Ok((path, content, false)) => gone.push((path, content)),
            Err(error) => drop(failed.get_or_insert(error)),
        }
    }
    failed.map_or(Ok(gone), Err)
}

/// Makes one file visible. `false` when its upload does not exist and the file is not there either.
async fn commit_file(
    bucket: &ModelBucket,
    journal: &UploadJournal,
    path: &Path,
    content: FileContent,
) -> Result<bool> {
    // S3 refuses an upload without parts, so an empty file is a plain object.
    if content.size == 0 {
        return bucket.put_object(path, Bytes::new(), content.digest).await.map(|()| true);
    }
    let Some(upload) = journal.staged_upload(path) else {
        // Completed by this run's earlier attempt.
        return is_object_right_now(bucket, path, content).await;
    };
    let key = bucket.object_key(path)?;
    match bucket.server.complete_multipart(&key, &upload.id, upload.part_ids()).await {
        Ok(_) => {
            journal.forget_upload(path);
            Ok(true)
        }
        Err(error) if explain::is_upload_gone(&error) => {
            // Another push completed it, or a retry of our own request whose answer was lost.
            journal.forget_upload(path);
            is_object_right_now(bucket, path, content).await
        }
        Err(error) => Err(bucket.request_error(path)(error)),
    }
}

/// Whether an object is there with the right content.
async fn is_object_right_now(
    bucket: &ModelBucket,
    path: &Path,
    content: FileContent,
) -> Result<bool> {
    match bucket.head_object(path).await? {
        Some(object) => is_object_right(bucket, path, content, &object, &[]).await,
        None => Ok(false),
    }
}

/// The record of a model that is complete, with a last look at every object.
fn build_record(
    bucket: &ModelBucket,
    plan: &ModelPlan,
    layout: ModelLayout,
) -> Result<ModelRecord> {
    let pointers = plan.pointers.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64));
    let files = plan.files().map(|(path, content)| (path, content.size));
    let (paths, sizes): (Vec<PathBuf>, Vec<u64>) = files.chain(pointers).unzip();
    let objects = bucket.runtime.block_on(bucket.head_objects(&paths))?;
    let mut modified = HashMap::new();
    for ((path, size), object) in paths.into_iter().zip(sizes).zip(objects) {
        let stat = object.map(|object| object.stat).filter(|stat| stat.size == size);
        let Some(stat) = stat else {
            return Err(Error::Request {
                url: bucket.display_path(&path).display().to_string(),
                fault: format!("it was written, but now it does not have the {size} bytes that it should have"),
                next: "check whether another program writes to the bucket, then run the same command again".into(),
            });
        };
        modified.insert(path, stat.modified);
    }
    ModelRecord::from_plan(plan, layout, |path| Ok(modified.get(path).copied().unwrap_or_default()))
}
