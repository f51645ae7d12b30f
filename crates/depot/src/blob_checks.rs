//! Which blobs have the bytes that their digests promise, and readers that never let a client complete
//! a response with other ones.
//!
//! A whole blob is hashed while it is sent, and its last chunk is held back until the digest is right.
//! A part of a blob is sent only when the whole blob was checked since the files that hold it last
//! changed; if not, the first such request starts one check, and all wait for it. Of several requests
//! for a whole blob at the same time, one hashes it ([`HashingTurn`]), and the others hold their last
//! chunk back until it has. What was found out is remembered with the state of those files ([`store::FileStamp`]) for a day; until then a blob that was
//! right is sent without hashing it again, and its last chunk is held back until its files are known to
//! have stayed the same.

use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use store::hash::DigestHasher;
use store::{BlobFile, Source, SourceReader};
use tokio::sync::{Semaphore, watch};
use types::{ByteSize, Digest};

use crate::metrics::{CheckResult, DepotMetrics};

/// Blobs that are checked at the same time for requests of parts: more would only make a disk seek.
const CONCURRENT_CHECKS: usize = 2;
/// Bytes that a check reads at once.
const CHECK_BUFFER: usize = 256 << 10;
/// How long damage of a file that was written just before is remembered: until its stamp would show
/// another write.
const UNSETTLED_LIFE: Duration = Duration::from_secs(3);
/// How long the end of a request waits for another one that hashes the blob. After that it is checked
/// apart: a slow client must not keep a fast one waiting.
const TURN_PATIENCE: Duration = Duration::from_secs(2);
/// How long a blob that was right counts as such: media can change without a write.
pub(crate) const INTACT_LIFE: Duration = Duration::from_hours(24);
/// No part of a blob was sent yet.
const NEVER: u64 = u64::MAX;
/// How long a failure to read is remembered: a medium may be connected again, unchanged.
const FAILURE_LIFE: Duration = Duration::from_secs(30);

/// What is known of the blobs of a source.
pub(crate) struct BlobChecks {
    source: Arc<dyn Source>,
    records: Mutex<HashMap<Digest, BlobRecord>>,
    running: Mutex<HashMap<Digest, PendingVerdict>>,
    /// The blobs that requests hash while they send them, each with the end of its turn.
    hashing: Mutex<HashMap<Digest, watch::Receiver<()>>>,
    places: Semaphore,
    metrics: DepotMetrics,
    start: Instant,
    /// When a part of a blob was sent last, in milliseconds after the start.
    last_sent: AtomicU64,
}

/// The result of a check for all that wait for it; `None` while it runs.
type PendingVerdict = watch::Receiver<Option<BlobVerdict>>;

/// What is remembered of a blob.
struct BlobRecord {
    /// The files that held it, as they were when it was read.
    files: Vec<BlobFile>,
    verdict: BlobVerdict,
    /// When the record is to be forgotten, for what the files' stamps do not show.
    expires: Option<Instant>,
}

/// Whether a blob has the bytes that its digest promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlobVerdict {
    Intact,
    /// It has not, or cannot be read; with the reason.
    Damaged(String),
}

/// What is known of a blob before it is read for a request.
pub(crate) enum BlobState {
    /// It was right when it was read last, and its files have not changed since.
    Intact(BlobSnapshot),
    /// Its files have changed, or it was not read yet.
    Unchecked(BlobSnapshot),
    /// It cannot be served; with the reason.
    Damaged(String),
    /// The source does not have it.
    Missing,
}

/// A blob and the state of its files at the beginning of a request.
#[derive(Clone)]
pub(crate) struct BlobSnapshot {
    digest: Digest,
    size: u64,
    files: Vec<BlobFile>,
    taken: SystemTime,
}

impl BlobChecks {
    pub(crate) fn new(source: Arc<dyn Source>, metrics: DepotMetrics) -> Self {
        Self {
            source,
            records: Mutex::default(),
            running: Mutex::default(),
            hashing: Mutex::default(),
            places: Semaphore::new(CONCURRENT_CHECKS),
            metrics,
            start: Instant::now(),
            last_sent: AtomicU64::new(NEVER),
        }
    }

    /// Notes that a part of a blob goes to a client now.
    pub(crate) fn note_sent(&self) {
        self.last_sent.store(self.milliseconds(), Ordering::Relaxed);
    }

    /// Whether a part of a blob went to a client within this time.
    pub(crate) fn was_sending_within(&self, time: Duration) -> bool {
        let sent = self.last_sent.load(Ordering::Relaxed);
        sent != NEVER && Duration::from_millis(self.milliseconds().saturating_sub(sent)) < time
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NEVER)
    }

    pub(crate) fn metrics(&self) -> &DepotMetrics {
        &self.metrics
    }

    /// What is known of a blob that manifests give this size. Reads the metadata of its files alone.
    pub(crate) fn look_up(&self, digest: Digest, size: u64) -> BlobState {
        let taken = SystemTime::now();
        let found = self.source.blob_size(&digest).and_then(|actual| {
            let Some(actual) = actual else { return Ok(None) };
            Ok(Some((actual, self.source.find_blob_files(&digest)?)))
        });
        let (actual, files) = match found {
            Ok(Some(found)) => found,
            Ok(None) | Err(store::Error::BlobMissing { .. }) => return BlobState::Missing,
            Err(error) => {
                let reason = error.to_string();
                self.remember_damage(digest, Vec::new(), reason.clone(), None);
                return BlobState::Damaged(reason);
            }
        };
        if actual != size {
            let reason = describe_wrong_size(&digest, &files, actual, size);
            self.remember_damage(digest, files, reason.clone(), None);
            return BlobState::Damaged(reason);
        }
        let snapshot = BlobSnapshot { digest, size, files, taken };
        let mut records = self.lock_records();
        let Some(record) = records.get(&digest) else { return BlobState::Unchecked(snapshot) };
        let is_current = record.expires.is_none_or(|expires| Instant::now() < expires)
            && record.files == snapshot.files
            && !snapshot.files.is_empty();
        match &record.verdict {
            BlobVerdict::Intact if is_current => BlobState::Intact(snapshot),
            BlobVerdict::Damaged(reason) if is_current => BlobState::Damaged(reason.clone()),
            _ => {
                records.remove(&digest);
                self.count_damaged(&records);
                BlobState::Unchecked(snapshot)
            }
        }
    }

    /// Reads a whole blob and compares its digest, unless that is being done already. The check goes on
    /// when its caller has gone, since the next request needs it too.
    pub(crate) async fn check_blob(self: Arc<Self>, blob: BlobSnapshot) -> BlobVerdict {
        let mut result = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let start = || {
                let (sender, receiver) = watch::channel(None);
                tokio::spawn(Arc::clone(&self).run_check(blob.clone(), sender));
                receiver
            };
            running.entry(blob.digest).or_insert_with(start).clone()
        };
        match result.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(verdict)) => verdict.clone(),
            _ => BlobVerdict::Damaged(format!("{} could not be checked", blob.digest)),
        }
    }

    /// Decides whether a request for a whole blob hashes it, or waits at its end for one that does.
    pub(crate) fn take_hashing_turn(self: &Arc<Self>, blob: &BlobSnapshot) -> HashingRole {
        // Another request's hash says nothing of these bytes if a write may leave no trace.
        if !blob.is_settled() {
            return HashingRole::Hasher(None);
        }
        let mut hashing = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = hashing.get(&blob.digest) {
            return HashingRole::Waiter(turn.clone());
        }
        let (end, turn) = watch::channel(());
        hashing.insert(blob.digest, turn);
        let (digest, checks) = (blob.digest, Arc::clone(self));
        HashingRole::Hasher(Some(HashingTurn { digest, checks, _end: end }))
    }

    /// Whether a blob is intact that was sent to its last chunk while another request hashed it. If that
    /// one does not get to the end, the blob is checked apart.
    ///
    /// # Errors
    /// Fails when the blob is damaged, or its files have changed since the snapshot.
    pub(crate) async fn confirm_intact(
        self: Arc<Self>,
        blob: BlobSnapshot,
        mut turn: watch::Receiver<()>,
    ) -> io::Result<()> {
        // Nothing is ever sent: the channel closes when the turn ends.
        let _ = tokio::time::timeout(TURN_PATIENCE, turn.changed()).await;
        let look_up = {
            let (checks, digest, size) = (Arc::clone(&self), blob.digest, blob.size);
            move || checks.look_up(digest, size)
        };
        let state = tokio::task::spawn_blocking(look_up).await.map_err(io::Error::other)?;
        let (current, verdict) = match state {
            BlobState::Intact(current) => (current, BlobVerdict::Intact),
            BlobState::Unchecked(current) => (current.clone(), self.check_blob(current).await),
            BlobState::Damaged(reason) => return Err(io::Error::other(reason)),
            BlobState::Missing => return Err(describe_change(&blob)),
        };
        match verdict {
            BlobVerdict::Intact if current.files == blob.files => Ok(()),
            BlobVerdict::Intact => Err(describe_change(&blob)),
            BlobVerdict::Damaged(reason) => Err(io::Error::other(reason)),
        }
    }

    async fn run_check(
        self: Arc<Self>,
        blob: BlobSnapshot,
        result: watch::Sender<Option<BlobVerdict>>,
    ) {
        let digest = blob.digest;
        // The semaphore is never closed.
        let place = self.places.acquire().await.ok();
        let checks = Arc::clone(&self);
        let read = move || checks.read_and_compare(blob);
        let verdict = tokio::task::spawn_blocking(read).await.unwrap_or_else(|lost| {
            BlobVerdict::Damaged(format!("{digest} could not be checked: {lost}"))
        });
        drop(place);
        // Before the result is told, so that a request that comes now looks at the record.
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        result.send_replace(Some(verdict));
    }

    /// Reads a whole blob, and remembers whether it has its digest.
    fn read_and_compare(self: Arc<Self>, blob: BlobSnapshot) -> BlobVerdict {
        let range = 0..blob.size;
        let mut buffer = vec![0; CHECK_BUFFER];
        let read = self.open_reader(blob, range, ReaderCheck::Digest).and_then(|mut reader| {
            while reader.read(&mut buffer)? > 0 {}
            Ok(())
        });
        match read {
            Ok(()) => BlobVerdict::Intact,
            Err(error) => BlobVerdict::Damaged(error.to_string()),
        }
    }

    /// A reader of a range of a blob, which gives the last bytes out only when all are known to be right.
    pub(crate) fn open_reader(
        self: Arc<Self>,
        blob: BlobSnapshot,
        range: Range<u64>,
        check: ReaderCheck,
    ) -> io::Result<CheckedReader> {
        let remaining = range.end - range.start;
        let check = match check {
            ReaderCheck::Digest => OpenCheck::Digest(DigestHasher::for_digest(&blob.digest)),
            ReaderCheck::Hashed => OpenCheck::Nothing,
            ReaderCheck::Files => OpenCheck::Files,
        };
        match self.source.open_blob(&blob.digest, range) {
            Ok(inner) => Ok(CheckedReader { inner, remaining, check, blob, checks: self }),
            Err(error) => {
                self.remember_failure(&blob, &error);
                Err(io::Error::other(error))
            }
        }
    }

    /// Compares the digest that a whole blob was found to have, and remembers what that says of it.
    pub(crate) fn judge_digest(&self, blob: &BlobSnapshot, actual: &Digest) -> io::Result<()> {
        if *actual == blob.digest {
            self.remember_intact(blob);
            return Ok(());
        }
        let reason = self.remember_wrong_digest(blob, actual);
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }

    /// The blobs that are known to be damaged now, with the reasons.
    pub(crate) fn list_damaged(&self) -> Vec<String> {
        let mut records = self.lock_records();
        records.retain(|digest, record| {
            record.expires.is_none_or(|expires| Instant::now() < expires)
                && self.source.find_blob_files(digest).map_or(record.files.is_empty(), |files| {
                    files == record.files || matches!(record.verdict, BlobVerdict::Intact)
                })
        });
        self.count_damaged(&records);
        let mut reasons: Vec<String> = records
            .values()
            .filter_map(|record| match &record.verdict {
                BlobVerdict::Damaged(reason) => Some(reason.clone()),
                BlobVerdict::Intact => None,
            })
            .collect();
        reasons.sort();
        reasons
    }

    /// The whole blob was read and has its digest.
    fn remember_intact(&self, blob: &BlobSnapshot) {
        self.metrics.count_check(CheckResult::Intact);
        // A file that was written just before may be written again and keep its stamp; one that was
        // changed while it was read has another one now.
        if !blob.is_settled() || !self.is_unchanged(blob) {
            return;
        }
        let (files, verdict) = (blob.files.clone(), BlobVerdict::Intact);
        let mut records = self.lock_records();
        let expires = Some(Instant::now() + INTACT_LIFE);
        records.insert(blob.digest, BlobRecord { files, verdict, expires });
        self.count_damaged(&records);
    }

    /// The whole blob was read and has another digest. Returns the reason.
    fn remember_wrong_digest(&self, blob: &BlobSnapshot, actual: &Digest) -> String {
        let reason = format!(
            "{} is damaged{}: its bytes have the digest {actual}",
            blob.digest,
            describe_location(&blob.files)
        );
        self.metrics.count_check(CheckResult::Damaged);
        let life = if blob.is_settled() { None } else { Some(UNSETTLED_LIFE) };
        self.remember_damage(blob.digest, blob.files.clone(), reason.clone(), life);
        reason
    }

    fn remember_failure(&self, blob: &BlobSnapshot, error: &dyn std::error::Error) {
        let reason = format!("{} cannot be read: {error}", blob.digest);
        self.remember_damage(blob.digest, blob.files.clone(), reason, Some(FAILURE_LIFE));
    }

    fn remember_damage(
        &self,
        digest: Digest,
        files: Vec<BlobFile>,
        reason: String,
        life: Option<Duration>,
    ) {
        let mut records = self.lock_records();
        let verdict = BlobVerdict::Damaged(reason.clone());
        let expires = life.map(|life| Instant::now() + life);
        let previous = records.insert(digest, BlobRecord { files, verdict, expires });
        self.count_damaged(&records);
        drop(records);
        // Once, and not at each request.
        if previous.is_none_or(|previous| previous.verdict != BlobVerdict::Damaged(reason.clone()))
        {
            tracing::error!(target: "gantry", "{reason}; it is not served");
        }
    }

    fn is_unchanged(&self, blob: &BlobSnapshot) -> bool {
        self.source.find_blob_files(&blob.digest).is_ok_and(|files| files == blob.files)
    }

    fn count_damaged(&self, records: &HashMap<Digest, BlobRecord>) {
        let is_damaged = |record: &&BlobRecord| record.verdict != BlobVerdict::Intact;
        self.metrics.set_damaged_blobs(records.values().filter(is_damaged).count());
    }

    fn lock_records(&self) -> MutexGuard<'_, HashMap<Digest, BlobRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobSnapshot {
    /// The digest that it is to have.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The blob's length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn is_settled(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| file.stamp.is_settled(self.taken))
    }
}

/// What a request for a whole blob that was not checked yet does about its digest.
pub(crate) enum HashingRole {
    /// It hashes what it sends; others wait for it if it has a turn.
    Hasher(Option<HashingTurn>),
    /// Another request does; the channel closes when that one ends.
    Waiter(watch::Receiver<()>),
}

/// The turn of a request to hash a blob. It ends when this is dropped, whatever became of the request.
pub(crate) struct HashingTurn {
    digest: Digest,
    checks: Arc<BlobChecks>,
    _end: watch::Sender<()>,
}

impl Drop for HashingTurn {
    fn drop(&mut self) {
        let mut hashing = self.checks.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        hashing.remove(&self.digest);
    }
}

/// How a reader finds out whether all bytes are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReaderCheck {
    /// By hashing them: for a whole blob.
    Digest,
    /// By the caller, who hashes what it gets and asks [`BlobChecks::judge_digest`].
    Hashed,
    /// By the files, which have stayed as they were when the blob was found intact.
    Files,
}

/// Reads a range of a blob, and fails instead of returning its last bytes when not all were right.
pub(crate) struct CheckedReader {
    inner: SourceReader,
    remaining: u64,
    check: OpenCheck,
    blob: BlobSnapshot,
    checks: Arc<BlobChecks>,
}

/// A [`ReaderCheck`] that is going on.
enum OpenCheck {
    Digest(DigestHasher),
    Files,
    /// There is nothing to check, or it is checked already.
    Nothing,
}

impl Read for CheckedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = match self.inner.read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.checks.remember_failure(&self.blob, &error);
                return Err(error);
            }
        };
        if let OpenCheck::Digest(hasher) = &mut self.check {
            hasher.update(&buffer[..length]);
        }
        self.remaining = self.remaining.saturating_sub(length as u64);
        if self.remaining == 0 && length > 0 {
            self.check_end()?;
        }
        Ok(length)
    }
}

impl CheckedReader {
    fn check_end(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.check, OpenCheck::Nothing) {
            OpenCheck::Nothing => Ok(()),
            OpenCheck::Digest(hasher) => self.checks.judge_digest(&self.blob, &hasher.finish()),
            // The check was of the files as they were then.
            OpenCheck::Files if self.checks.is_unchanged(&self.blob) => Ok(()),
            OpenCheck::Files => Err(describe_change(&self.blob)),
        }
    }
}

fn describe_change(blob: &BlobSnapshot) -> io::Error {
    io::Error::other(format!("{} changed while it was sent", blob.digest))
}

fn describe_wrong_size(digest: &Digest, files: &[BlobFile], actual: u64, size: u64) -> String {
    let what = if actual < size {
        let (missing, all) = (ByteSize(size - actual), ByteSize(size));
        format!("the last {missing} of {all} are missing")
    } else {
        format!("it has {actual} bytes instead of {size}")
    };
    format!("{digest} is damaged{}: {what}", describe_location(files))
}

/// The names of the files that hold a blob.
fn describe_location(files: &[BlobFile]) -> String {
    let names: Vec<String> = files.iter().map(|file| file.path.display().to_string()).collect();
    if names.is_empty() { String::new() } else { format!(" (in {})", names.join(", ")) }
}
