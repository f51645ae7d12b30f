//! The reading side of a pack: a thread that reads blobs once, in the order of the plan, hashes
//! them as they come, and hands chunks to the writing side.
//!
//! The last chunk of a blob is handed over only after the blob's digest was found right: a volume
//! is never finished with the end of a damaged blob in it.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use store::Source;
use store::hash::Sha256;
use types::Digest;

use crate::{Error, Plan, Result, Volume};

/// Bytes in one chunk: small enough that it is still in the processor's cache when it is hashed.
const CHUNK: usize = 256 << 10;
/// Chunks on the way: 8 MiB let both sides go on through each other's pauses.
const CHUNKS: usize = 32;

/// Why the reading side stopped.
pub(crate) enum Stop {
    /// A finished volume of this number holds other bytes than the source has now.
    KeptDiffers(u32),
    /// It failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What the writing side sees of the reading side.
pub(crate) struct Chunks {
    full: Receiver<Result<Vec<u8>, Stop>>,
    empty: SyncSender<Vec<u8>>,
}

impl Chunks {
    /// The next chunk of the plan.
    pub(crate) fn chunk(&self) -> Result<Vec<u8>, Stop> {
        match self.full.recv() {
            Ok(chunk) => chunk,
            // The reading side ends early only after it told why, or by a panic that the scope
            // raises again.
            Err(_) => Err(Stop::Failed(Error::Read {
                what: "the source".into(),
                cause: std::io::ErrorKind::UnexpectedEof.into(),
            })),
        }
    }

    /// Gives a buffer back; the reading side may be done already.
    pub(crate) fn give_back(&self, chunk: Vec<u8>) {
        let _ = self.empty.send(chunk);
    }
}

/// Runs `write` with a thread beside it that reads what the plan needs.
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
        // The channel has room for all of them.
        let _ = empty.send(Vec::new());
    }
    thread::scope(|scope| {
        scope.spawn(move || run(source, &jobs, &full, &buffers));
        write(&Chunks { full: chunks, empty })
    })
}

/// A blob that must be read, with its pieces.
struct Job {
    digest: Digest,
    size: u64,
    pieces: Vec<Piece>,
}

struct Piece {
    volume: u32,
    length: u64,
    /// The hash of the piece in a volume that is kept.
    kept: Option<blake3::Hash>,
}

/// Blobs of which a piece must be written; `kept` has the hashes of finished volumes.
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

/// Reads all jobs. `empty` gives used buffers back. Ends early, without an error, when the writing
/// side is gone.
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
                // Nobody is there to be told when the writing side failed first.
                let _ = full.send(Err(stop));
                return;
            }
        }
    }
}

/// Whether the writing side is still there.
enum Side {
    There,
    Gone,
}

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
            if place == job.size
                && let Some(hash) = hash.take()
            {
                check(job, &hash.finish())?;
            }
            if piece.kept.is_some() {
                kept_hash.update(&chunk);
                spare = Some(chunk);
            } else if full.send(Ok(chunk)).is_err() {
                return Ok(Side::Gone);
            }
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
