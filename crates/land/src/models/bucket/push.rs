//! Puts planned models into a bucket: what is right stays, what is missing is uploaded and checked
//! where nobody sees it, and shown at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use store::Source;
use store::progress::Progress;
use types::site::ModelLayout;

use super::journal::{Journal, tidy};
use super::look::{Job, is_right, look};
use super::stage::stage;
use super::{Bucket, REQUESTS, fault};
use crate::models::place::Place;
use crate::models::plan::{Content, Plan};
use crate::models::record::Record;
use crate::models::{Error, Put, Result};

/// How often uploads that vanished between their last part and their completion are made again.
const TRIES: usize = 3;

/// Puts planned models of a source into a bucket; one model after the other, so that what comes
/// first can be used first. Blocks; call it outside of the runtime.
pub fn push(
    source: &dyn Source,
    bucket: &Bucket,
    plans: &[Plan],
    layout: ModelLayout,
    progress: &dyn Progress,
) -> Result<Vec<Put>> {
    let records = Record::read_all(bucket)?;
    progress.expect(plans.iter().map(Plan::size).sum());
    let mut jobs = Vec::new();
    for plan in plans {
        jobs.push(bucket.runtime.block_on(look(bucket, plan, &records, progress))?);
    }
    let (done, going_on): (Vec<_>, Vec<_>) =
        plans.iter().zip(&jobs).partition(|(_, job)| job.is_empty());
    let name = |(plan, _): (&'_ Plan, _)| plan.name.clone();
    let done: Vec<String> = done.into_iter().map(name).collect();
    let going_on: Vec<String> = going_on.into_iter().map(name).collect();
    tidy(bucket, &going_on, &done)?;
    let mut puts = Vec::new();
    for (plan, job) in plans.iter().zip(jobs) {
        let put = run(source, bucket, plan, job, progress)?;
        let known = records.iter().find(|record| record.name == plan.name);
        let record = record(bucket, plan, layout)?;
        if known != Some(&record) {
            record.write(bucket)?;
        }
        progress.done(&plan.name);
        puts.push(put);
    }
    Ok(puts)
}

fn run(
    source: &dyn Source,
    bucket: &Bucket,
    plan: &Plan,
    job: Job,
    progress: &dyn Progress,
) -> Result<Put> {
    let mut put = Put::Present;
    if !job.is_empty() {
        put = Put::Written;
        fill(source, bucket, plan, &job, progress)?;
    }
    for path in &job.stale {
        put = Put::Written;
        bucket.remove(path)?;
    }
    for (path, bytes) in &plan.pointers {
        if bucket.read(path)?.as_ref() != Some(bytes) {
            put = Put::Written;
            bucket.put(path, bytes)?;
        }
    }
    Ok(put)
}

/// Stages all files of a model and commits them; what nothing looks for by listing comes first.
fn fill(
    source: &dyn Source,
    bucket: &Bucket,
    plan: &Plan,
    job: &Job,
    progress: &dyn Progress,
) -> Result<()> {
    let journal = Arc::new(Journal::open(bucket, &plan.name)?);
    let mut files: Vec<(PathBuf, Content)> =
        job.contents.iter().chain(&job.held).filter(|file| file.1.size > 0).cloned().collect();
    for attempt in 1.. {
        stage(source, bucket, &journal, &files, progress)?;
        let mut gone = Vec::new();
        for files in [&job.contents, &job.held] {
            gone.extend(bucket.runtime.block_on(commit(bucket, &journal, files))?);
        }
        let Some((path, _)) = gone.first() else { break };
        if attempt == TRIES {
            return Err(Error::Request {
                url: bucket.shown(path).display().to_string(),
                fault: "its upload is gone each time that it is completed".into(),
                next: "see whether something else cleans the bucket or pushes to it".into(),
            });
        }
        files = gone;
    }
    journal.remove()
}

/// Makes staged files visible, the longest first, since joining their parts takes longest: all are
/// there about the same time. Gives those whose upload is gone.
async fn commit(
    bucket: &Bucket,
    journal: &Journal,
    files: &[(PathBuf, Content)],
) -> Result<Vec<(PathBuf, Content)>> {
    let mut files = files.to_vec();
    files.sort_by_key(|(_, content)| std::cmp::Reverse(content.size));
    let mut shown = stream::iter(files)
        .map(|(path, content)| async move {
            let is_shown = show(bucket, journal, &path, content).await?;
            Ok((path, content, is_shown))
        })
        .buffer_unordered(REQUESTS);
    let (mut gone, mut failed) = (Vec::new(), None);
    // All are tried also after a failure: a model is better whole than half.
    while let Some(file) = shown.next().await {
        match file {
            Ok((_, _, true)) => {}
            Ok((path, content, false)) => gone.push((path, content)),
            Err(error) => drop(failed.get_or_insert(error)),
        }
    }
    failed.map_or(Ok(gone), Err)
}

/// Makes one file visible; whether its upload was there, or the file itself is.
async fn show(bucket: &Bucket, journal: &Journal, path: &Path, content: Content) -> Result<bool> {
    if content.size == 0 {
        return bucket.put_object(path, Bytes::new(), content.digest).await.map(|()| true);
    }
    let Some(upload) = journal.upload(path) else {
        // Shown by this run's first attempt.
        return is_there(bucket, path, content).await;
    };
    let key = bucket.key(path)?;
    match bucket.server.complete_multipart(&key, &upload.id, upload.part_ids()).await {
        Ok(_) => {
            journal.forget(path);
            Ok(true)
        }
        Err(error) if fault::is_gone(&error) => {
            journal.forget(path);
            is_there(bucket, path, content).await
        }
        Err(error) => Err(bucket.failed(path)(error)),
    }
}

async fn is_there(bucket: &Bucket, path: &Path, content: Content) -> Result<bool> {
    match bucket.head(path).await? {
        Some(object) => is_right(bucket, path, content, &object, &[]).await,
        None => Ok(false),
    }
}

/// The record of a model that is there, with a last look at every object.
fn record(bucket: &Bucket, plan: &Plan, layout: ModelLayout) -> Result<Record> {
    let pointers = plan.pointers.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64));
    let files = plan.files().map(|(path, content)| (path, content.size));
    let (paths, sizes): (Vec<PathBuf>, Vec<u64>) = files.chain(pointers).unzip();
    let objects = bucket.runtime.block_on(bucket.heads(&paths))?;
    let mut modified = HashMap::new();
    for ((path, size), object) in paths.into_iter().zip(sizes).zip(objects) {
        let stat = object.map(|object| object.stat).filter(|stat| stat.size == size);
        let Some(stat) = stat else {
            return Err(Error::Request {
                url: bucket.shown(&path).display().to_string(),
                fault: format!("it was put, and has not the {size} bytes that it should have"),
                next: "see whether something else writes to the bucket, and run the same command again".into(),
            });
        };
        modified.insert(path, stat.modified);
    }
    Record::of(plan, layout, |path| Ok(modified.get(path).copied().unwrap_or_default()))
}
