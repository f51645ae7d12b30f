//! Uploads the parts of a model's files and checks their digests, without making them visible. Threads
//! read and hash, the runtime sends: reading is blocking work of a `Source`, requests are asynchronous.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use object_store::PutPayload;
use store::Source;
use store::hash::DigestHasher;
use store::progress::Progress;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::explain;
use super::journal::{StagedUpload, UploadJournal, UploadedPart};
use super::model_bucket::ModelBucket;
use super::part_size::MIB;
use crate::models::plan::FileContent;
use crate::models::{Error, Result};

/// The size of all parts that are in memory at the same time, in MiB. Files above 468 GiB have parts
/// that are longer than this, and then one is in memory.
const IN_MEMORY: u32 = 48;

/// Files that are read at the same time: two keep two cores busy with hashing, the others bridge the
/// waits of small files for their answers.
const READERS: usize = 4;

/// Uploads the parts of all files and checks the digest of each. Parts that the server has from an
/// earlier run are compared with the source and kept. Blocks. After an error no further file is begun.
pub(super) fn stage_files(
    source: &dyn Source,
    bucket: &ModelBucket,
    journal: &Arc<UploadJournal>,
    files: &[(PathBuf, FileContent)],
    progress: &dyn Progress,
) -> Result<()> {
    bucket.runtime.block_on(journal.begin_uploads(files))?;
    let slots = Arc::new(Semaphore::new(IN_MEMORY as usize));
    let line = FileStager { source, bucket, journal, slots, progress };
    let queue = Mutex::new(files.iter());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..READERS.min(files.len()) {
            scope.spawn(|| {
                while failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((path, content)) = next else { return };
                    if let Err(error) = line.stage_file(path, *content) {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    // Also after a failure: the next run resumes from what the journal says.
    let written = bucket.runtime.block_on(journal.write());
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => written,
    }
}

/// What the threads share.
struct FileStager<'a> {
    source: &'a dyn Source,
    bucket: &'a ModelBucket,
    journal: &'a Arc<UploadJournal>,
    slots: Arc<Semaphore>,
    progress: &'a dyn Progress,
}

/// Why the parts of a file could not be uploaded.
enum StageFailure {
    /// The server does not know the upload any more.
    Gone,
    /// Anything else.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for StageFailure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl FileStager<'_> {
    /// Uploads one file; once more from the start where its upload does not exist any more.
    fn stage_file(&self, path: &Path, content: FileContent) -> Result<()> {
        match self.upload_parts(path, content) {
            Ok(()) => Ok(()),
            Err(StageFailure::Failed(error)) => Err(error),
            Err(StageFailure::Gone) => {
                // The bucket was cleaned up, or another push completed the upload.
                self.bucket.runtime.block_on(self.journal.restart_upload(path, content))?;
                self.upload_parts(path, content).map_err(|stop| match stop {
                    StageFailure::Failed(error) => error,
                    StageFailure::Gone => Error::Request {
                        url: format!("{}/{}", self.bucket.address, path.display()),
                        fault: "the upload vanishes as soon as it is begun".into(),
                        next: "check whether a lifecycle rule or another program removes incomplete uploads of the bucket".into(),
                    },
                })
            }
        }
    }

    /// Uploads the parts that are missing, and checks the digest of the file.
    fn upload_parts(&self, path: &Path, content: FileContent) -> Result<(), StageFailure> {
        let Some(upload) = self.journal.staged_upload(path) else { return Err(StageFailure::Gone) };
        if upload.is_whole {
            self.progress.skip_bytes(content.size);
            return Ok(());
        }
        let mut sent = JoinSet::new();
        let read = self.send_missing_parts(path, content, &upload, &mut sent);
        // Parts that are being sent are waited for also after an error: what arrives is in the journal and
        // need not be sent again.
        let mut arrived = Ok(());
        while let Some(part) = self.bucket.runtime.block_on(sent.join_next()) {
            arrived = arrived.and(self.count_arrived_part(part));
        }
        // The reader's error first: it is mostly the reason for the others.
        let actual = read?;
        arrived?;
        if actual != content.digest {
            self.bucket.runtime.block_on(self.journal.abort_upload(path));
            return Err(store::Error::DigestMismatch { digest: content.digest, actual }.into());
        }
        self.journal.mark_whole(path);
        Ok(())
    }

    /// Reads a file from its start to its end and sends the parts that the server does not have. All of it
    /// is read also when most is there, since the digest is over the whole file.
    fn send_missing_parts(
        &self,
        path: &Path,
        content: FileContent,
        upload: &StagedUpload,
        sent: &mut JoinSet<Result<u64, StageFailure>>,
    ) -> Result<types::Digest, StageFailure> {
        let mut reader = self.source.open_blob(&content.digest, 0..content.size)?;
        let mut hash = DigestHasher::for_digest(&content.digest);
        let mut left = content.size;
        for number in 0.. {
            let length = left.min(upload.part_size);
            if length == 0 {
                break;
            }
            // A part above the limit takes all permits, and waits for no more than there are.
            let slots = u32::try_from(length.div_ceil(MIB)).unwrap_or(u32::MAX).min(IN_MEMORY);
            let slot = Arc::clone(&self.slots).acquire_many_owned(slots);
            // Waiting here keeps the reader from running ahead of the network. The semaphore is never
            // closed, so the error cannot happen.
            let Ok(slot) = self.bucket.runtime.block_on(slot) else {
                return Err(StageFailure::Gone);
            };
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            reader
                .read_exact(&mut bytes)
                .map_err(|cause| store::Error::Read { what: content.digest.to_string(), cause })?;
            hash.update(&bytes);
            left -= length;
            let blake3 = blake3::hash(&bytes).to_hex().to_string();
            if upload.parts.get(&number).is_some_and(|part| part.blake3 == blake3) {
                self.progress.skip_bytes(length);
                continue;
            }
            let sending = PartTransfer {
                bucket: self.bucket.clone(),
                journal: Arc::clone(self.journal),
                path: path.to_owned(),
                id: upload.id.clone(),
                number,
                blake3,
            };
            let sending = async move {
                let sent = sending.send_part(bytes.into()).await;
                // Only now is its memory free for another part.
                drop(slot);
                sent
            };
            sent.spawn_on(sending, &self.bucket.runtime);
            while let Some(part) = sent.try_join_next() {
                self.count_arrived_part(part)?;
            }
        }
        Ok(hash.finish())
    }

    /// Counts a part that arrived.
    fn count_arrived_part(
        &self,
        part: Result<Result<u64, StageFailure>, tokio::task::JoinError>,
    ) -> Result<(), StageFailure> {
        match part {
            Ok(Ok(bytes)) => {
                self.progress.advance_bytes(bytes);
                Ok(())
            }
            Ok(Err(stop)) => Err(stop),
            // The task is never cancelled, so the error is a panic: it is raised again here.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// One part that is being sent.
struct PartTransfer {
    bucket: ModelBucket,
    journal: Arc<UploadJournal>,
    path: PathBuf,
    id: String,
    number: usize,
    blake3: String,
}

impl PartTransfer {
    async fn send_part(self, bytes: Bytes) -> Result<u64, StageFailure> {
        let Self { bucket, journal, path, id, number, blake3 } = self;
        let length = bytes.len() as u64;
        let key = bucket.object_key(&path)?;
        bucket.wait_for_bytes(length).await;
        match bucket.server.put_part(&key, &id, number, PutPayload::from(bytes)).await {
            Ok(part) => {
                journal
                    .add_part(&path, number, UploadedPart { id: part.content_id, blake3 })
                    .await?;
                Ok(length)
            }
            Err(error) if explain::is_upload_gone(&error) => Err(StageFailure::Gone),
            Err(error) => Err(StageFailure::Failed(bucket.request_error(&path)(error))),
        }
    }
}
