//! The parts of a model's files, uploaded and checked, seen by nobody: threads read and hash, the
//! runtime sends.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use object_store::PutPayload;
use store::Source;
use store::hash::Sha256;
use store::progress::Progress;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::journal::{Journal, Part, Upload};
use super::{Bucket, fault};
use crate::models::plan::Content;
use crate::models::{Error, Result};

/// Length of a part: above the 5 MiB that S3 wants, and few enough requests.
const PART: u64 = 8 * MIB;
/// Most parts of one upload (S3 and Google; Azure takes more).
const PARTS: u64 = 10_000;
/// Bytes of parts that are in memory at once, in MiB. Files above 468 GiB have longer parts, and
/// then one is in memory.
const IN_MEMORY: u32 = 48;
/// Files that are read at once: two cores hash, and small ones wait for their answers.
const READERS: usize = 4;
const MIB: u64 = 1 << 20;

/// The length of each part but the last: as many as a server takes, all alike as some want it.
pub(super) fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(PARTS).next_multiple_of(MIB))
}

/// Uploads the parts of all files, and checks the digest of each; files without content have none.
/// What is there already is read again, compared and kept. Blocks; the first error ends it when
/// the files that were begun are done.
pub(super) fn stage(
    source: &dyn Source,
    bucket: &Bucket,
    journal: &Arc<Journal>,
    files: &[(PathBuf, Content)],
    progress: &dyn Progress,
) -> Result<()> {
    bucket.runtime.block_on(journal.begin(files))?;
    let slots = Arc::new(Semaphore::new(IN_MEMORY as usize));
    let line = Line { source, bucket, journal, slots, progress };
    let queue = Mutex::new(files.iter());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..READERS.min(files.len()) {
            scope.spawn(|| {
                while failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((path, content)) = next else { return };
                    if let Err(error) = line.file(path, *content) {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    // Also after a failure: what is there is kept for the next run.
    let written = bucket.runtime.block_on(journal.write());
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => written,
    }
}

/// The way from the source to the bucket.
struct Line<'a> {
    source: &'a dyn Source,
    bucket: &'a Bucket,
    journal: &'a Arc<Journal>,
    slots: Arc<Semaphore>,
    progress: &'a dyn Progress,
}

/// Why a file's parts are not all there.
enum Stop {
    /// The server does not know the upload any more.
    Gone,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Line<'_> {
    fn file(&self, path: &Path, content: Content) -> Result<()> {
        match self.parts(path, content) {
            Ok(()) => Ok(()),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Gone) => {
                // Somebody cleaned up, or another push completed it. Once more from the start.
                self.bucket.runtime.block_on(self.journal.begin_anew(path, content))?;
                self.parts(path, content).map_err(|stop| match stop {
                    Stop::Failed(error) => error,
                    Stop::Gone => Error::Request {
                        url: format!("{}/{}", self.bucket.address, path.display()),
                        fault: "the upload is gone as soon as it is begun".into(),
                        next: "see whether something else cleans the bucket or pushes to it".into(),
                    },
                })
            }
        }
    }

    fn parts(&self, path: &Path, content: Content) -> Result<(), Stop> {
        let Some(upload) = self.journal.upload(path) else { return Err(Stop::Gone) };
        if upload.is_whole {
            self.progress.skip(content.size);
            return Ok(());
        }
        let mut sent = JoinSet::new();
        let read = self.read(path, content, &upload, &mut sent);
        // Those on their way are waited for in any case: what arrives is noted for the next run.
        let mut arrived = Ok(());
        while let Some(part) = self.bucket.runtime.block_on(sent.join_next()) {
            arrived = arrived.and(self.arrived(part));
        }
        let actual = read?;
        arrived?;
        if actual != content.digest {
            self.bucket.runtime.block_on(self.journal.give_up(path));
            return Err(store::Error::DigestMismatch { digest: content.digest, actual }.into());
        }
        self.journal.is_whole(path);
        Ok(())
    }

    /// Reads a file to its end and sends the parts that are not there.
    fn read(
        &self,
        path: &Path,
        content: Content,
        upload: &Upload,
        sent: &mut JoinSet<Result<u64, Stop>>,
    ) -> Result<types::Digest, Stop> {
        let mut reader = self.source.open(&content.digest, 0..content.size)?;
        let mut hash = Sha256::new();
        let mut left = content.size;
        for number in 0.. {
            let length = left.min(upload.part_size);
            if length == 0 {
                break;
            }
            let slots = u32::try_from(length.div_ceil(MIB)).unwrap_or(u32::MAX).min(IN_MEMORY);
            let slot = Arc::clone(&self.slots).acquire_many_owned(slots);
            // The semaphore is never closed.
            let Ok(slot) = self.bucket.runtime.block_on(slot) else { return Err(Stop::Gone) };
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            reader
                .read_exact(&mut bytes)
                .map_err(|cause| store::Error::Read { what: content.digest.to_string(), cause })?;
            hash.update(&bytes);
            left -= length;
            let blake3 = blake3::hash(&bytes).to_hex().to_string();
            if upload.parts.get(&number).is_some_and(|part| part.blake3 == blake3) {
                self.progress.skip(length);
                continue;
            }
            let sending = Sending {
                bucket: self.bucket.clone(),
                journal: Arc::clone(self.journal),
                path: path.to_owned(),
                id: upload.id.clone(),
                number,
                blake3,
            };
            let sending = async move {
                let sent = sending.send(bytes.into()).await;
                drop(slot);
                sent
            };
            sent.spawn_on(sending, &self.bucket.runtime);
            while let Some(part) = sent.try_join_next() {
                self.arrived(part)?;
            }
        }
        Ok(hash.finish())
    }

    fn arrived(&self, part: Result<Result<u64, Stop>, tokio::task::JoinError>) -> Result<(), Stop> {
        match part {
            Ok(Ok(bytes)) => {
                self.progress.advance(bytes);
                Ok(())
            }
            Ok(Err(stop)) => Err(stop),
            // Nobody cancels it; a panic goes on where it is noticed.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// One part on its way.
struct Sending {
    bucket: Bucket,
    journal: Arc<Journal>,
    path: PathBuf,
    id: String,
    number: usize,
    blake3: String,
}

impl Sending {
    async fn send(self, bytes: Bytes) -> Result<u64, Stop> {
        let Self { bucket, journal, path, id, number, blake3 } = self;
        let length = bytes.len() as u64;
        let key = bucket.key(&path)?;
        match bucket.server.put_part(&key, &id, number, PutPayload::from(bytes)).await {
            Ok(part) => {
                journal.add(&path, number, Part { id: part.content_id, blake3 }).await?;
                Ok(length)
            }
            Err(error) if fault::is_gone(&error) => Err(Stop::Gone),
            Err(error) => Err(Stop::Failed(bucket.failed(&path)(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_alike_and_no_more_than_a_server_takes() {
        for size in [1, PART, 80 << 30, 100 << 30, 5 << 40] {
            let part = part_size(size);
            assert!(part >= PART && part.is_multiple_of(MIB), "{size}");
            assert!(size.div_ceil(part) <= PARTS, "{size}");
        }
    }
}
