//! Verifies all blobs of a depot ahead of their requests, one after another, while nothing is sent. So
//! the first request of a blob costs no more than a later one, and damage is known (`/readyz`, metrics)
//! before somebody asks for it.
//!
//! ```text
//!  start ─▶ blob 1 ─▶ blob 2 ─ a client is served: waits ─▶ blob 2 … all ─▶ the next day, again
//! ```

use std::collections::BTreeMap;
use std::io;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use types::Digest;

use crate::Depot;
use crate::blob_checks::{BlobChecks, BlobSnapshot, BlobState, INTACT_LIFE, ReaderCheck};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;
/// After the last chunk was sent to a client, the check waits so long: another request may follow.
const IDLE_TIME: Duration = Duration::from_millis(300);
/// How often a check that waits looks again.
const POLL: Duration = Duration::from_millis(100);

impl Depot {
    /// Verifies every blob that has not been, and again each day. Never ends; dropping it stops it.
    /// Reads the media only while no client is served.
    pub async fn verify_in_background(self: Arc<Self>) {
        // The server ends when it is told to, and not when a large blob has been read.
        let end = EndOnDrop::default();
        loop {
            for (digest, size) in self.list_blobs() {
                let reader = BackgroundReader {
                    checks: Arc::clone(&self.checks),
                    has_ended: Arc::clone(&end.has_ended),
                };
                let check = tokio::task::spawn_blocking(move || reader.verify_blob(digest, size));
                // A task that panicked has said so; the next blob may be well.
                if check.await.is_err() {
                    tracing::error!(target: "gantry", "{digest} could not be checked");
                }
            }
            tokio::time::sleep(INTACT_LIFE).await;
        }
    }

    /// Every blob once, small ones first: configs and tokenizers are asked for before weights.
    fn list_blobs(&self) -> Vec<(Digest, u64)> {
        let blobs: BTreeMap<Digest, u64> = self.catalogue.blobs().collect();
        let mut blobs: Vec<_> = blobs.into_iter().collect();
        blobs.sort_by_key(|(digest, size)| (*size, *digest));
        blobs
    }
}

/// Tells the threads that were started to stop when it is dropped.
#[derive(Default)]
struct EndOnDrop {
    has_ended: Arc<AtomicBool>,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }
}

/// Reads blobs on a thread of its own.
struct BackgroundReader {
    checks: Arc<BlobChecks>,
    has_ended: Arc<AtomicBool>,
}

impl BackgroundReader {
    /// Reads a blob unless it was verified already. What is found out is remembered in the checks.
    fn verify_blob(&self, digest: Digest, size: u64) {
        if self.wait_until_idle()
            && let BlobState::Unchecked(blob) = self.checks.look_up(digest, size)
        {
            // Damage was remembered and reported by the reader.
            let _ = self.read_to_end(blob);
        }
    }

    fn read_to_end(&self, blob: BlobSnapshot) -> io::Result<()> {
        let range = 0..blob.size();
        let mut reader = Arc::clone(&self.checks).open_reader(blob, range, ReaderCheck::Digest)?;
        let mut buffer = vec![0; BUFFER];
        while self.wait_until_idle() {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits while clients are served. Returns whether to go on.
    fn wait_until_idle(&self) -> bool {
        while self.checks.was_sending_within(IDLE_TIME) && !self.has_ended.load(Ordering::Relaxed) {
            std::thread::sleep(POLL);
        }
        !self.has_ended.load(Ordering::Relaxed)
    }
}
