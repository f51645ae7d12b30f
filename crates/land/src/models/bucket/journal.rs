//! The uploads of one model that are not completed yet: one object a model under
//! `.gantry/uploads/`. It is written before the first byte of an upload is sent, so that no bytes
//! are in the bucket that nobody knows of, and again while parts arrive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt};
use object_store::multipart::PartId;
use object_store::{Error as StoreError, PutMultipartOptions};
use serde::{Deserialize, Serialize};
use types::Digest;

use super::{Bucket, REQUESTS, attributes};
use crate::models::place::Place;
use crate::models::plan::Content;
use crate::models::record::{OWN, file_name};
use crate::models::{Error, Result};

/// The version of the format.
const VERSION: u32 = 1;
/// Parts are noted at most so often; what came since is sent again after a kill.
const INTERVAL: Duration = Duration::from_millis(250);
/// The same for each part that it has: a long journal is written less often, so that it stays far
/// below a hundredth of what is uploaded.
const INTERVAL_PER_PART: Duration = Duration::from_millis(1);
/// A journal that nobody wrote to for so long is of a push that will not go on.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// What is on its way to the bucket for one model.
pub(super) struct Journal {
    bucket: Bucket,
    path: PathBuf,
    state: Mutex<State>,
    /// Held while it is written; when that was done last.
    written: tokio::sync::Mutex<Option<tokio::time::Instant>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct State {
    version: u32,
    uploads: BTreeMap<PathBuf, Upload>,
}

/// One upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Upload {
    /// What the server calls it.
    pub(super) id: String,
    /// The content's sha256.
    pub(super) digest: Digest,
    /// Its length in bytes.
    pub(super) size: u64,
    /// The length of each part but the last.
    pub(super) part_size: u64,
    /// The parts that are there, by number from 0.
    pub(super) parts: BTreeMap<usize, Part>,
    /// Whether all parts are there and the digest over them was right.
    pub(super) is_whole: bool,
}

/// A part that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// What the server calls it.
    pub(super) id: String,
    /// The BLAKE3 of its bytes, in hex: the source may give others when it is read again.
    pub(super) blake3: String,
}

impl Journal {
    /// The journal of a model; empty where there is none.
    pub(super) fn open(bucket: &Bucket, model: &str) -> Result<Self> {
        let path = folder().join(file_name(model));
        let state = read(bucket, &path)?;
        Ok(Self {
            bucket: bucket.clone(),
            path,
            state: Mutex::new(state.unwrap_or_default()),
            written: tokio::sync::Mutex::default(),
        })
    }

    /// Begins an upload for each file that has none yet, and gives up those that nobody wants.
    /// The journal is written when this returns.
    pub(super) async fn begin(&self, files: &[(PathBuf, Content)]) -> Result<()> {
        let wanted: BTreeMap<&PathBuf, &Content> = files.iter().map(|(p, c)| (p, c)).collect();
        let is_wanted = |path: &PathBuf, upload: &Upload| {
            wanted.get(path).is_some_and(|content| {
                upload.digest == content.digest
                    && upload.size == content.size
                    && upload.part_size == super::stage::part_size(content.size)
            })
        };
        let (kept, old): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.lock().uploads)
                .into_iter()
                .partition(|(path, upload)| is_wanted(path, upload));
        // Before the journal forgets them: a kill in between leaves none that nobody knows of.
        abort(&self.bucket, old).await;
        let new = files.iter().filter(|(path, _)| !kept.contains_key(path));
        let begun: Vec<Result<(PathBuf, Upload)>> = stream::iter(new)
            .map(|(path, content)| async move {
                Ok((path.clone(), create(&self.bucket, path, *content).await?))
            })
            .buffer_unordered(REQUESTS)
            .collect()
            .await;
        self.lock().uploads = kept;
        let mut failed = None;
        for upload in begun {
            match upload {
                Ok((path, upload)) => drop(self.lock().uploads.insert(path, upload)),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        self.write().await?;
        failed.map_or(Ok(()), Err)
    }

    /// Begins one file's upload again; the old one is gone.
    pub(super) async fn begin_anew(&self, path: &Path, content: Content) -> Result<()> {
        let upload = create(&self.bucket, path, content).await?;
        self.lock().uploads.insert(path.to_owned(), upload);
        self.write().await
    }

    /// The upload of a file.
    pub(super) fn upload(&self, path: &Path) -> Option<Upload> {
        self.lock().uploads.get(path).cloned()
    }

    /// Notes a part that is there, and writes it down when it is time to.
    pub(super) async fn add(&self, path: &Path, number: usize, part: Part) -> Result<()> {
        if let Some(upload) = self.lock().uploads.get_mut(path) {
            upload.parts.insert(number, part);
        }
        let parts: usize = self.lock().uploads.values().map(|upload| upload.parts.len()).sum();
        let pause = INTERVAL + INTERVAL_PER_PART * u32::try_from(parts).unwrap_or(u32::MAX);
        let is_due = match self.written.try_lock() {
            Ok(written) => written.is_none_or(|then| then.elapsed() > pause),
            Err(_) => false,
        };
        if is_due { self.write().await } else { Ok(()) }
    }

    /// Notes that all parts of a file are there, with the right digest.
    pub(super) fn is_whole(&self, path: &Path) {
        if let Some(upload) = self.lock().uploads.get_mut(path) {
            upload.is_whole = true;
        }
    }

    /// Forgets an upload that is completed or gone.
    pub(super) fn forget(&self, path: &Path) {
        self.lock().uploads.remove(path);
    }

    /// Gives an upload up: its parts are wrong.
    pub(super) async fn give_up(&self, path: &Path) {
        let upload = self.lock().uploads.remove(path);
        abort(&self.bucket, upload.map(|upload| (path.to_owned(), upload))).await;
    }

    /// Writes it down.
    pub(super) async fn write(&self) -> Result<()> {
        let mut written = self.written.lock().await;
        let mut state = self.lock().clone();
        state.version = VERSION;
        let text = serde_json::to_vec(&state).map_err(|cause| Error::Record {
            path: self.bucket.shown(&self.path),
            reason: cause.to_string(),
        })?;
        let digest = store::hash::sha256(&text);
        self.bucket.put_object(&self.path, text.into(), digest).await?;
        *written = Some(tokio::time::Instant::now());
        Ok(())
    }

    /// Removes it: nothing is on its way any more.
    pub(super) fn remove(&self) -> Result<()> {
        self.bucket.remove(&self.path)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives up uploads that will not go on: those of other models' pushes that ended a day ago and
/// were not run again. The journals of `going_on` are kept; those of `done` have nothing left to do.
pub(super) fn tidy(bucket: &Bucket, going_on: &[String], done: &[String]) -> Result<()> {
    let is_of = |path: &PathBuf, models: &[String]| {
        models.iter().any(|model| *path == folder().join(file_name(model)))
    };
    for path in bucket.names(&folder())? {
        if is_of(&path, going_on) || !(is_of(&path, done) || is_abandoned(bucket, &path)?) {
            continue;
        }
        if let Some(state) = read(bucket, &path)? {
            bucket.runtime.block_on(abort(bucket, state.uploads));
        }
        bucket.remove(&path)?;
    }
    Ok(())
}

fn is_abandoned(bucket: &Bucket, path: &Path) -> Result<bool> {
    let Some(stat) = bucket.stat(path)? else { return Ok(false) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(now.saturating_sub(Duration::from_nanos(stat.modified)) > ABANDONED)
}

fn folder() -> PathBuf {
    Path::new(OWN).join("uploads")
}

/// A journal; `None` where there is none, or one that this version cannot read.
fn read(bucket: &Bucket, path: &Path) -> Result<Option<State>> {
    let Some(bytes) = bucket.read(path)? else { return Ok(None) };
    let state: Option<State> = serde_json::from_slice(&bytes).ok();
    Ok(state.filter(|state| state.version == VERSION))
}

async fn create(bucket: &Bucket, path: &Path, content: Content) -> Result<Upload> {
    let key = bucket.key(path)?;
    let attributes = attributes(content.digest);
    let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
    let id = match bucket.server.create_multipart_opts(&key, options).await {
        // Azure takes attributes with the last request only, which object_store does not offer; the
        // record has the digest in any case.
        Err(StoreError::NotSupported { .. }) => bucket.server.create_multipart(&key).await,
        id => id,
    };
    Ok(Upload {
        id: id.map_err(bucket.failed(path))?,
        digest: content.digest,
        size: content.size,
        part_size: super::stage::part_size(content.size),
        parts: BTreeMap::new(),
        is_whole: false,
    })
}

/// Gives uploads up. One that is gone already is no failure, and no failure here is worth more than
/// a push that succeeds: the server's own rules for old uploads take what is left.
async fn abort(bucket: &Bucket, uploads: impl IntoIterator<Item = (PathBuf, Upload)>) {
    stream::iter(uploads)
        .for_each_concurrent(REQUESTS, |(path, upload)| async move {
            let Ok(key) = bucket.key(&path) else { return };
            if let Err(error) = bucket.server.abort_multipart(&key, &upload.id).await {
                tracing::info!(path = %path.display(), %error, "an old upload is not given up");
            }
        })
        .await;
}

impl Upload {
    /// The parts in their order, for the last request.
    pub(super) fn part_ids(&self) -> Vec<PartId> {
        self.parts.values().map(|part| PartId { content_id: part.id.clone() }).collect()
    }
}
