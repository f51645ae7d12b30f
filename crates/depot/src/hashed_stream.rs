//! A blob that is hashed while it is sent, in three steps that run at the same time: one chunk is read,
//! the one before it is hashed, and the one before that is on its way to the client. So a request that
//! verifies a blob takes as long as the slowest step, and not as long as their sum. The last chunk is
//! held back until the digest is known to be right.
//!
//! When many nodes pull the same image at once, one of the requests hashes a blob for all of them:
//!
//! ```text
//!  request 1   read ─▶ hash ─▶ send … last chunk ─ digest right ─▶ send
//!  request 2   read ─────────▶ send … last chunk ─ wait for it ──▶ send
//! ```

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use store::hash::DigestHasher;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::blob_checks::{BlobChecks, BlobSnapshot, HashingRole, HashingTurn, ReaderCheck};

/// The chunks of a whole blob, which end with an error instead of the last one if the digest is wrong.
pub(crate) fn stream_hashed(
    checks: &Arc<BlobChecks>,
    blob: BlobSnapshot,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (checks, reading) = (Arc::clone(checks), Arc::clone(checks));
    let (range, read) = (0..blob.size(), blob.clone());
    let remaining = blob.size();
    let chunks = net::body::stream_reader(net::body::ReadAhead::OnceTaken, move || {
        reading.open_reader(read, range, ReaderCheck::Hashed)
    });
    let (hashing, turn) = match checks.take_hashing_turn(&blob) {
        HashingRole::Hasher(turn) => {
            (HashProgress::Idle(DigestHasher::for_digest(blob.digest())), turn)
        }
        HashingRole::Waiter(turn) => (HashProgress::Elsewhere(turn), None),
    };
    let start = Some(HashedBlob { chunks, hashing, remaining, blob, checks, _turn: turn });
    stream::unfold(start, |state| async move {
        let mut state = state?;
        let chunk = match state.chunks.next().await? {
            Ok(chunk) => chunk,
            Err(error) => return Some((Err(error), None)),
        };
        match state.hash_chunk(&chunk).await {
            Ok(()) => Some((Ok(chunk), Some(state))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// A blob on its way.
struct HashedBlob {
    chunks: BoxStream<'static, io::Result<Bytes>>,
    hashing: HashProgress,
    /// Bytes that were not read yet.
    remaining: u64,
    blob: BlobSnapshot,
    checks: Arc<BlobChecks>,
    /// Ends when the stream does.
    _turn: Option<HashingTurn>,
}

/// The hash of the chunks so far.
enum HashProgress {
    Idle(DigestHasher),
    /// The last chunk is being added.
    Running(JoinHandle<DigestHasher>),
    /// Another request hashes the blob; the channel closes when that one ends.
    Elsewhere(watch::Receiver<()>),
    /// The digest is known.
    Finished,
}

impl HashedBlob {
    /// Starts to add a chunk to the hash, once the one before is in it. Of the last one it waits for the
    /// end, and compares the digest.
    async fn hash_chunk(&mut self, chunk: &Bytes) -> io::Result<()> {
        self.remaining = self.remaining.saturating_sub(chunk.len() as u64);
        if let HashProgress::Elsewhere(turn) = &self.hashing {
            if self.remaining > 0 {
                return Ok(());
            }
            let checks = Arc::clone(&self.checks);
            return checks.confirm_intact(self.blob.clone(), turn.clone()).await;
        }
        let mut hasher = self.take_hasher().await?;
        let bytes = chunk.clone();
        self.hashing = HashProgress::Running(tokio::task::spawn_blocking(move || {
            hasher.update(&bytes);
            hasher
        }));
        if self.remaining > 0 {
            return Ok(());
        }
        let digest = self.take_hasher().await?.finish();
        // Looks at the files again.
        let (checks, blob) = (Arc::clone(&self.checks), self.blob.clone());
        tokio::task::spawn_blocking(move || checks.judge_digest(&blob, &digest))
            .await
            .map_err(io::Error::other)?
    }

    async fn take_hasher(&mut self) -> io::Result<DigestHasher> {
        match std::mem::replace(&mut self.hashing, HashProgress::Finished) {
            HashProgress::Idle(hasher) => Ok(hasher),
            HashProgress::Running(running) => running.await.map_err(io::Error::other),
            HashProgress::Elsewhere(_) | HashProgress::Finished => {
                Err(io::Error::other("the blob is longer than it was"))
            }
        }
    }
}
