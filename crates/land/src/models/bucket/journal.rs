//! The journal of a model's uploads that are not completed yet: one object for each model under
//! `.gantry/uploads/`. It is written before the first byte of an upload is sent, so that the bucket
//! never has parts that nobody knows of, and again while parts arrive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt};
use object_store::multipart::PartId;
use object_store::{Error as StoreError, PutMultipartOptions};
use serde::{Deserialize, Serialize};
use types::Digest;

use super::model_bucket::{ModelBucket, REQUESTS, digest_attributes};
use crate::models::plan::FileContent;
use crate::models::record::{OWN, record_file_name};
use crate::models::storage::ModelStorage;
use crate::models::{Error, Result};

/// The version of the format.
const VERSION: u32 = 1;
/// The journal is written at most this often. Parts that arrived since are sent again after a kill.
const INTERVAL: Duration = Duration::from_millis(250);
/// This is added for each part in the journal: a long one is written less often, so that writing it
/// stays far below a hundredth of the uploaded bytes.
const INTERVAL_PER_PART: Duration = Duration::from_millis(1);
/// A push that did not write its journal for so long will not be resumed.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// The unfinished uploads of one model. Shared by the threads that upload its files.
pub(super) struct UploadJournal {
    bucket: ModelBucket,
    path: PathBuf,
    state: Mutex<JournalContent>,
    /// When the journal was written last. Locked while it is written, so that writes do not overtake
    /// each other.
    written: tokio::sync::Mutex<Option<tokio::time::Instant>>,
}

/// The content of a journal, as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JournalContent {
    version: u32,
    uploads: BTreeMap<PathBuf, StagedUpload>,
}

/// The upload of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct StagedUpload {
    /// The server's id of the upload.
    pub(super) id: String,
    /// The sha256 of the whole file.
    pub(super) digest: Digest,
    /// Its length in bytes.
    pub(super) size: u64,
    /// The length of each part but the last.
    pub(super) part_size: u64,
    /// The parts that the server has, by number from 0.
    pub(super) parts: BTreeMap<usize, UploadedPart>,
    /// Whether the server has all parts, and the digest over them was right.
    pub(super) is_whole: bool,
}

/// A part that the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UploadedPart {
    /// The server's id of the part: its ETag, or a block's id.
    pub(super) id: String,
    /// The BLAKE3 of its bytes, in hex. A resumed push reads the file again and compares: the source may
    /// have been damaged or replaced meanwhile.
    pub(super) blake3: String,
}

impl UploadJournal {
    /// Reads the journal of a model; it is empty where there is none yet.
    pub(super) fn open(bucket: &ModelBucket, model: &str) -> Result<Self> {
        let path = journals_folder().join(record_file_name(model));
        let state = read_journal(bucket, &path)?;
        Ok(Self {
            bucket: bucket.clone(),
            path,
            state: Mutex::new(state.unwrap_or_default()),
            written: tokio::sync::Mutex::default(),
        })
    }

    /// Begins an upload for each file that has none yet, and aborts those that no file needs any more.
    /// The journal has been written when this returns.
    pub(super) async fn begin_uploads(&self, files: &[(PathBuf, FileContent)]) -> Result<()> {
        let wanted: BTreeMap<&PathBuf, &FileContent> = files.iter().map(|(p, c)| (p, c)).collect();
        let is_wanted = |path: &PathBuf, upload: &StagedUpload| {
            wanted.get(path).is_some_and(|content| {
                upload.digest == content.digest
                    && upload.size == content.size
                    && upload.part_size == super::part_size::part_size(content.size)
            })
        };
        let (kept, old): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.lock_content().uploads)
                .into_iter()
                .partition(|(path, upload)| is_wanted(path, upload));
        // Aborted while the journal in the bucket still has them: after a kill in between, the next run
        // finds them there.
        abort_uploads(&self.bucket, old).await;
        let new = files.iter().filter(|(path, _)| !kept.contains_key(path));
        let begun: Vec<Result<(PathBuf, StagedUpload)>> = stream::iter(new)
            .map(|(path, content)| async move {
                Ok((path.clone(), create_upload(&self.bucket, path, *content).await?))
            })
            .buffer_unordered(REQUESTS)
            .collect()
            .await;
        self.lock_content().uploads = kept;
        // Those that were begun are noted also when another one failed.
        let mut failed = None;
        for upload in begun {
            match upload {
                Ok((path, upload)) => drop(self.lock_content().uploads.insert(path, upload)),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        self.write().await?;
        failed.map_or(Ok(()), Err)
    }

    /// Begins the upload of a file again whose old one does not exist any more.
    pub(super) async fn restart_upload(&self, path: &Path, content: FileContent) -> Result<()> {
        let upload = create_upload(&self.bucket, path, content).await?;
        self.lock_content().uploads.insert(path.to_owned(), upload);
        self.write().await
    }

    /// The upload of a file.
    pub(super) fn staged_upload(&self, path: &Path) -> Option<StagedUpload> {
        self.lock_content().uploads.get(path).cloned()
    }

    /// Notes a part that the server has, and writes the journal when that is due.
    pub(super) async fn add_part(
        &self,
        path: &Path,
        number: usize,
        part: UploadedPart,
    ) -> Result<()> {
        if let Some(upload) = self.lock_content().uploads.get_mut(path) {
            upload.parts.insert(number, part);
        }
        let parts: usize =
            self.lock_content().uploads.values().map(|upload| upload.parts.len()).sum();
        let pause = INTERVAL + INTERVAL_PER_PART * u32::try_from(parts).unwrap_or(u32::MAX);
        let is_due = match self.written.try_lock() {
            Ok(written) => written.is_none_or(|then| then.elapsed() > pause),
            // Somebody is writing it at this moment.
            Err(_) => false,
        };
        if is_due { self.write().await } else { Ok(()) }
    }

    /// Notes that the server has all parts of a file, with the right digest.
    pub(super) fn mark_whole(&self, path: &Path) {
        if let Some(upload) = self.lock_content().uploads.get_mut(path) {
            upload.is_whole = true;
        }
    }

    /// Forgets an upload that is completed or does not exist any more.
    pub(super) fn forget_upload(&self, path: &Path) {
        self.lock_content().uploads.remove(path);
    }

    /// Aborts an upload whose parts are wrong.
    pub(super) async fn abort_upload(&self, path: &Path) {
        let upload = self.lock_content().uploads.remove(path);
        abort_uploads(&self.bucket, upload.map(|upload| (path.to_owned(), upload))).await;
    }

    /// Writes the journal into the bucket.
    pub(super) async fn write(&self) -> Result<()> {
        let mut written = self.written.lock().await;
        let mut state = self.lock_content().clone();
        state.version = VERSION;
        let text = serde_json::to_vec(&state).map_err(|cause| Error::Record {
            path: self.bucket.display_path(&self.path),
            reason: cause.into(),
        })?;
        let digest = store::hash::sha256(&text);
        self.bucket.put_object(&self.path, text.into(), digest).await?;
        *written = Some(tokio::time::Instant::now());
        Ok(())
    }

    /// Removes the journal, when all uploads are completed.
    pub(super) fn remove(&self) -> Result<()> {
        self.bucket.remove_file(&self.path)
    }

    fn lock_content(&self) -> MutexGuard<'_, JournalContent> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Aborts uploads that nobody will resume, and removes their journals: those of models in `done`, which
/// are complete in the bucket, and those of other models whose push stopped more than a day ago. The
/// journals of models in `going_on` are kept.
pub(super) fn remove_stale_journals(
    bucket: &ModelBucket,
    going_on: &[String],
    done: &[String],
) -> Result<()> {
    let is_of = |path: &PathBuf, models: &[String]| {
        models.iter().any(|model| *path == journals_folder().join(record_file_name(model)))
    };
    for path in bucket.list_files(&journals_folder())? {
        if is_of(&path, going_on) || !(is_of(&path, done) || is_abandoned(bucket, &path)?) {
            continue;
        }
        if let Some(state) = read_journal(bucket, &path)? {
            bucket.runtime.block_on(abort_uploads(bucket, state.uploads));
        }
        bucket.remove_file(&path)?;
    }
    Ok(())
}

fn is_abandoned(bucket: &ModelBucket, path: &Path) -> Result<bool> {
    let Some(stat) = bucket.file_stat(path)? else { return Ok(false) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(now.saturating_sub(Duration::from_nanos(stat.modified)) > ABANDONED)
}

fn journals_folder() -> PathBuf {
    Path::new(OWN).join("uploads")
}

/// Reads a journal; `None` where there is none, or one of another version, whose uploads are left to the
/// server's own rules.
fn read_journal(bucket: &ModelBucket, path: &Path) -> Result<Option<JournalContent>> {
    let Some(bytes) = bucket.read_file(path)? else { return Ok(None) };
    let state: Option<JournalContent> = serde_json::from_slice(&bytes).ok();
    Ok(state.filter(|state| state.version == VERSION))
}

/// Begins an upload.
async fn create_upload(
    bucket: &ModelBucket,
    path: &Path,
    content: FileContent,
) -> Result<StagedUpload> {
    let key = bucket.object_key(path)?;
    let attributes = digest_attributes(content.digest);
    let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
    let id = match bucket.server.create_multipart_opts(&key, options).await {
        // Azure takes metadata only with the request that completes an upload, which object_store does
        // not offer. Nothing is lost: the record has the digest, too.
        Err(StoreError::NotSupported { .. }) => bucket.server.create_multipart(&key).await,
        id => id,
    };
    Ok(StagedUpload {
        id: id.map_err(bucket.request_error(path))?,
        digest: content.digest,
        size: content.size,
        part_size: super::part_size::part_size(content.size),
        parts: BTreeMap::new(),
        is_whole: false,
    })
}

/// Aborts uploads. Failures are only logged: an upload may be gone already, and a push that succeeds
/// must not fail for old parts. The server's own rules for incomplete uploads remove what is left.
async fn abort_uploads(
    bucket: &ModelBucket,
    uploads: impl IntoIterator<Item = (PathBuf, StagedUpload)>,
) {
    stream::iter(uploads)
        .for_each_concurrent(REQUESTS, |(path, upload)| async move {
            let Ok(key) = bucket.object_key(&path) else { return };
            if let Err(error) = bucket.server.abort_multipart(&key, &upload.id).await {
                tracing::info!(path = %path.display(), %error, "an old upload could not be aborted");
            }
        })
        .await;
}

impl StagedUpload {
    /// The ids of the parts in their order, for the request that completes the upload.
    pub(super) fn part_ids(&self) -> Vec<PartId> {
        self.parts.values().map(|part| PartId { content_id: part.id.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::PutPayload;
    use proptest::prelude::*;
    use store::hash::sha256;

    use super::super::test_bucket::make_bucket;
    use super::*;

    fn make_files(content: &[u8]) -> Vec<(PathBuf, FileContent)> {
        vec![("x".into(), FileContent { digest: sha256(content), size: content.len() as u64 })]
    }

    /// Whether the server still takes parts of an upload.
    fn is_open(bucket: &ModelBucket, upload: &StagedUpload) -> bool {
        let key = bucket.object_key(Path::new("x")).unwrap();
        let payload = PutPayload::from_static(b"part");
        bucket.runtime.block_on(bucket.server.put_part(&key, &upload.id, 0, payload)).is_ok()
    }

    #[test]
    fn an_upload_is_in_the_bucket_before_its_first_byte_and_the_next_run_takes_it_over() {
        let (bucket, runtime) = make_bucket();
        let journal = UploadJournal::open(&bucket, "o/n@1").unwrap();
        runtime.block_on(journal.begin_uploads(&make_files(b"new"))).unwrap();
        let begun = journal.staged_upload(Path::new("x")).unwrap();
        drop(journal);
        let again = UploadJournal::open(&bucket, "o/n@1").unwrap();
        runtime.block_on(again.begin_uploads(&make_files(b"new"))).unwrap();
        assert_eq!(again.staged_upload(Path::new("x")), Some(begun));
        let other = UploadJournal::open(&bucket, "o/n@2").unwrap();
        assert_eq!(other.staged_upload(Path::new("x")), None);
    }

    #[test]
    fn an_upload_of_other_content_is_aborted_and_begun_anew() {
        let (bucket, runtime) = make_bucket();
        let journal = UploadJournal::open(&bucket, "o/n@1").unwrap();
        runtime.block_on(journal.begin_uploads(&make_files(b"old"))).unwrap();
        let old = journal.staged_upload(Path::new("x")).unwrap();
        runtime.block_on(journal.begin_uploads(&make_files(b"new"))).unwrap();
        let new = journal.staged_upload(Path::new("x")).unwrap();
        assert_ne!(old.id, new.id);
        assert_eq!(new.digest, sha256(b"new"));
        assert!(!is_open(&bucket, &old) && is_open(&bucket, &new));
        runtime.block_on(journal.begin_uploads(&[])).unwrap();
        assert_eq!(journal.staged_upload(Path::new("x")), None);
        assert!(!is_open(&bucket, &new));
    }

    #[test]
    fn parts_that_come_in_any_order_complete_in_that_of_their_numbers() {
        let (bucket, runtime) = make_bucket();
        let journal = UploadJournal::open(&bucket, "o/n@1").unwrap();
        runtime.block_on(journal.begin_uploads(&make_files(b"new"))).unwrap();
        for number in [10, 2, 0, 1] {
            let part = UploadedPart { id: format!("part{number}"), blake3: String::new() };
            runtime.block_on(journal.add_part(Path::new("x"), number, part)).unwrap();
        }
        journal.mark_whole(Path::new("x"));
        runtime.block_on(journal.write()).unwrap();
        let read = UploadJournal::open(&bucket, "o/n@1").unwrap();
        let upload = read.staged_upload(Path::new("x")).unwrap();
        let ids: Vec<String> = upload.part_ids().into_iter().map(|part| part.content_id).collect();
        // Numbers, not text: 10 comes last.
        assert_eq!(ids, ["part0", "part1", "part2", "part10"]);
        assert!(upload.is_whole);
    }

    #[test]
    fn journals_of_complete_models_go_with_their_uploads_and_others_stay() {
        let (bucket, runtime) = make_bucket();
        let begin = |model: &str| {
            let journal = UploadJournal::open(&bucket, model).unwrap();
            runtime.block_on(journal.begin_uploads(&make_files(b"new"))).unwrap();
            journal.staged_upload(Path::new("x")).unwrap()
        };
        let (done, going_on, recent) = (begin("o/done@1"), begin("o/on@1"), begin("o/recent@1"));
        let both = ["o/done@1".to_owned(), "o/on@1".to_owned()];
        // A model that is pushed again at this moment is going on, also when it was complete before.
        remove_stale_journals(&bucket, &both[1..], &both).unwrap();
        assert!(
            !is_open(&bucket, &done) && is_open(&bucket, &going_on) && is_open(&bucket, &recent)
        );
        let left: Vec<_> = bucket.list_files(&journals_folder()).unwrap();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_journal_that_this_gantry_does_not_know_counts_as_none() {
        let (bucket, _runtime) = make_bucket();
        let path = journals_folder().join(record_file_name("o/n@1"));
        for text in [r#"{"version":2,"uploads":{}}"#, r#"{"version":1,"uploads":{},"x":1}"#, "cut"]
        {
            bucket.write_file(&path, text.as_bytes()).unwrap();
            assert!(read_journal(&bucket, &path).unwrap().is_none(), "{text}");
        }
        bucket.write_file(&path, br#"{"version":1,"uploads":{}}"#).unwrap();
        assert!(read_journal(&bucket, &path).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn a_journal_reads_back_as_it_was_written(
            paths in proptest::collection::btree_map("[a-zä ./-]{1,20}", (any::<[u8; 32]>(), any::<u64>(), any::<bool>()), 0..4),
            parts in proptest::collection::btree_map(0_usize..10_000, "[!-~]{0,30}", 0..6),
        ) {
            let upload = |(path, (digest, size, is_whole)): (String, ([u8; 32], u64, bool))| {
                let part = |(number, id): (&usize, &String)| {
                    (*number, UploadedPart { id: id.clone(), blake3: "00".repeat(32) })
                };
                let upload = StagedUpload {
                    id: format!("upload of {path}"),
                    digest: Digest::Sha256(digest),
                    size,
                    part_size: super::super::part_size::part_size(size),
                    parts: parts.iter().map(part).collect(),
                    is_whole,
                };
                (PathBuf::from(path), upload)
            };
            let content =
                JournalContent { version: VERSION, uploads: paths.into_iter().map(upload).collect() };
            let text = serde_json::to_vec(&content).unwrap();
            let read: JournalContent = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(read.uploads, content.uploads);
        }
    }
}
