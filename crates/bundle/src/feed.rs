//! The reading side of a pack: a thread that reads each blob once, in the order of the plan, hashes
//! it on the way, and hands chunks to the writing side ([`crate::writer`]) over a bounded channel.
//!
//! The last chunk of a blob is handed over only after the blob's digest was verified, so a bundle
//! file is never finished with the end of a damaged blob in it.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use store::Source;
use store::hash::Sha256;
use types::Digest;

use crate::{Error, Plan, Result, Volume};

/// Bytes in one chunk: small enough that it is still in the processor's cache when it is hashed.
const CHUNK: usize = 256 << 10;
/// Chunks between the two sides, 8 MiB in all: each side can go on while the other one pauses.
const CHUNKS: usize = 32;

/// Why the reading side stopped.
pub(crate) enum Stop {
    /// The finished bundle file of this number holds other bytes than the source has now.
    KeptDiffers(u32),
    /// Reading or writing failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The writing side's end of the channels to the reading side.
pub(crate) struct Chunks {
    full: Receiver<Result<Vec<u8>, Stop>>,
    empty: SyncSender<Vec<u8>>,
}

impl Chunks {
    /// Waits for the next chunk of the plan.
    pub(crate) fn chunk(&self) -> Result<Vec<u8>, Stop> {
        match self.full.recv() {
            Ok(chunk) => chunk,
            // The reading side ends early only after it sent the reason, or by a panic, which
            // `thread::scope` raises again when this thread returns.
            Err(_) => Err(Stop::Failed(Error::Read {
                what: "the source".into(),
                cause: std::io::ErrorKind::UnexpectedEof.into(),
            })),
        }
    }

    /// Gives a buffer back for reuse.
    pub(crate) fn give_back(&self, chunk: Vec<u8>) {
        // The reading side may have finished already: nobody needs the buffer then.
        let _ = self.empty.send(chunk);
    }
}

/// Runs `write` while another thread reads what the plan needs. `kept` has the finished files that
/// need not be written again.
pub(crate) fn with_chunks<T>(
    source: &dyn Source,
    plan: &Plan,
    kept: &[Option<Volume>],
    write: impl FnOnce(&Chunks) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let jobs = jobs(plan, kept);
    let (full, chunks) = sync_channel(CHUNKS);
    let (empty, buffers) = sync_channel(CHUNKS);
    for _ in 0..CHUNKS {
        // Fill the pool of buffers. The channel has space for all of them, so this cannot block.
        let _ = empty.send(Vec::new());
    }
    thread::scope(|scope| {
        scope.spawn(move || run(source, &jobs, &full, &buffers));
        write(&Chunks { full: chunks, empty })
    })
}

/// A blob that must be read, and the pieces it is packed in.
struct Job {
    digest: Digest,
    size: u64,
    pieces: Vec<Piece>,
}

/// One piece of the blob, in the bundle file of this number.
struct Piece {
    volume: u32,
    length: u64,
    /// The hash of the piece in a finished file that is kept; `None` when the piece is to be
    /// written.
    kept: Option<blake3::Hash>,
}

/// The blobs of which at least one piece must be written. `kept` has the finished files, one per
/// planned file.
fn jobs(plan: &Plan, kept: &[Option<Volume>]) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for (volume, kept) in plan.volumes.iter().zip(kept) {
        for (at, entry) in volume.index.entries.iter().enumerate() {
            if !entry.kind.is_blob() {
                continue;
            }
            let kept = kept.as_ref().and_then(|kept| kept.index().entries.get(at));
            let piece = Piece {
                volume: volume.number,
                length: entry.length,
                kept: kept.map(|entry| entry.hash),
            };
            // The pieces of a blob are consecutive, also over file borders: compare the last job
            // only.
            match jobs.last_mut() {
                Some(job) if job.digest == entry.blob => job.pieces.push(piece),
                _ => jobs.push(Job {
                    digest: entry.blob,
                    size: entry.blob_size,
                    pieces: vec![piece],
                }),
            }
        }
    }
    jobs.retain(|job| job.pieces.iter().any(|piece| piece.kept.is_none()));
    jobs
}

/// Reads all jobs. Used buffers come back over `empty`. Ends early, without an error, when the
/// writing side is gone.
fn run(
    source: &dyn Source,
    jobs: &[Job],
    full: &SyncSender<Result<Vec<u8>, Stop>>,
    empty: &Receiver<Vec<u8>>,
) {
    for job in jobs {
        match read(source, job, full, empty) {
            Ok(Side::There) => {}
            Ok(Side::Gone) => return,
            Err(stop) => {
                // Sending fails when the writing side failed first; its own error is reported then.
                let _ = full.send(Err(stop));
                return;
            }
        }
    }
}

/// Whether the writing side still takes chunks.
enum Side {
    There,
    Gone,
}

/// Reads one blob: sends the pieces that are to be written, and compares the others with the files
/// that are kept.
fn read(
    source: &dyn Source,
    job: &Job,
    full: &SyncSender<Result<Vec<u8>, Stop>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<Side, Stop> {
    let failed = |cause| Error::Read { what: job.digest.to_string(), cause };
    let mut reader = source.open(&job.digest, 0..job.size).map_err(Error::from)?;
    let mut hash = Some(Sha256::new());
    let mut place = 0;
    let mut spare = None;
    for piece in &job.pieces {
        let mut kept_hash = blake3::Hasher::new();
        let mut rest = piece.length;
        loop {
            let Some(mut chunk) = spare.take().or_else(|| empty.recv().ok()) else {
                return Ok(Side::Gone);
            };
            chunk.resize(rest.min(CHUNK as u64) as usize, 0);
            reader.read_exact(&mut chunk).map_err(failed)?;
            rest -= chunk.len() as u64;
            place += chunk.len() as u64;
            if let Some(hash) = &mut hash {
                hash.update(&chunk);
            }
            // Verify before the last chunk is sent, see the module's documentation.
            if place == job.size
                && let Some(hash) = hash.take()
            {
                check(job, &hash.finish())?;
            }
            if piece.kept.is_some() {
                // This piece is not written again: only compare it, and reuse the buffer at once.
                kept_hash.update(&chunk);
                spare = Some(chunk);
            } else if full.send(Ok(chunk)).is_err() {
                return Ok(Side::Gone);
            }
            // Checked at the end of the loop: an empty blob still sends one (empty) chunk, which
            // the writing side waits for.
            if rest == 0 {
                break;
            }
        }
        if piece.kept.is_some_and(|kept| kept != kept_hash.finalize()) {
            return Err(Stop::KeptDiffers(piece.volume));
        }
    }
    Ok(Side::There)
}

fn check(job: &Job, actual: &Digest) -> Result<(), Error> {
    if *actual == job.digest {
        return Ok(());
    }
    Err(Error::BlobDamaged { digest: job.digest, actual: *actual })
}
