//! The reading side of a pack: a thread that reads each blob once, in the order of the plan, hashes
//! it on the way, and hands chunks to the writing side ([`crate::writer`]) over a bounded channel.
//!
//! The last chunk of a blob is handed over only after the blob's digest was verified, so a bundle
//! file is never finished with the end of a damaged blob in it.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use store::Source;
use store::hash::DigestHasher;
use types::Digest;

use crate::index::BundleIndex;
use crate::{Error, PackPlan, Result};

/// Bytes in one chunk: small enough that it is still in the processor's cache when it is hashed.
const CHUNK: usize = 256 << 10;
/// Chunks between the two sides, 8 MiB in all: each side can go on while the other one pauses.
const CHUNKS: usize = 32;

/// Why the reading side stopped.
pub(crate) enum PackInterruption {
    /// The finished bundle file of this number holds other bytes than the source has now.
    KeptDiffers(u32),
    /// The disk was full after so many bytes of a file. Its blobs have to be read again.
    DiskFull {
        /// The bytes of the file that were written.
        written: u64,
    },
    /// There is one more folder, with whatever is in it.
    FolderAdded,
    /// Reading or writing failed.
    Failed(Error),
}

impl From<Error> for PackInterruption {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The writing side's end of the channels to the reading side.
pub(crate) struct ChunkReceiver {
    full: Receiver<Result<Vec<u8>, PackInterruption>>,
    empty: SyncSender<Vec<u8>>,
}

impl ChunkReceiver {
    /// Waits for the next chunk of the plan.
    pub(crate) fn receive_chunk(&self) -> Result<Vec<u8>, PackInterruption> {
        match self.full.recv() {
            Ok(chunk) => chunk,
            // The reading side ends early only after it sent the reason, or by a panic, which
            // `thread::scope` raises again when this thread returns.
            Err(_) => Err(PackInterruption::Failed(Error::Read {
                what: "the source".into(),
                cause: std::io::ErrorKind::UnexpectedEof.into(),
            })),
        }
    }

    /// Gives a buffer back for reuse.
    pub(crate) fn return_buffer(&self, chunk: Vec<u8>) {
        // The reading side may have finished already: nobody needs the buffer then.
        let _ = self.empty.send(chunk);
    }
}

/// Runs `write` while another thread reads what the plan needs. `kept` has the indexes of the finished
/// files, which need not be written again.
pub(crate) fn run_with_blob_reader<T>(
    source: &dyn Source,
    plan: &PackPlan,
    kept: &[Option<Arc<BundleIndex>>],
    write: impl FnOnce(&ChunkReceiver) -> Result<T, PackInterruption>,
) -> Result<T, PackInterruption> {
    let jobs = list_read_jobs(plan, kept);
    let (full, chunks) = sync_channel(CHUNKS);
    let (empty, buffers) = sync_channel(CHUNKS);
    for _ in 0..CHUNKS {
        // Fill the pool of buffers. The channel has space for all of them, so this cannot block.
        let _ = empty.send(Vec::new());
    }
    thread::scope(|scope| {
        scope.spawn(move || read_all_jobs(source, &jobs, &full, &buffers));
        write(&ChunkReceiver { full: chunks, empty })
    })
}

/// A blob that must be read, and the pieces it is packed in.
struct BlobReadJob {
    digest: Digest,
    size: u64,
    pieces: Vec<BlobReadPiece>,
}

/// One piece of the blob, in the bundle file of this number.
struct BlobReadPiece {
    volume: u32,
    length: u64,
    /// The hash of the piece in a finished file that is kept; `None` when the piece is to be
    /// written.
    kept: Option<blake3::Hash>,
}

/// The blobs of which at least one piece must be written. `kept` has the indexes of the finished files,
/// one per planned file.
fn list_read_jobs(plan: &PackPlan, kept: &[Option<Arc<BundleIndex>>]) -> Vec<BlobReadJob> {
    let mut jobs: Vec<BlobReadJob> = Vec::new();
    for (volume, kept) in plan.files.iter().zip(kept) {
        for (at, entry) in volume.index.entries.iter().enumerate() {
            if !entry.kind.is_blob() {
                continue;
            }
            let kept = kept.as_ref().and_then(|kept| kept.entries.get(at));
            let piece = BlobReadPiece {
                volume: volume.number,
                length: entry.length,
                kept: kept.map(|entry| entry.hash),
            };
            // The pieces of a blob are consecutive, also over file borders: compare the last job
            // only.
            match jobs.last_mut() {
                Some(job) if job.digest == entry.blob => job.pieces.push(piece),
                _ => jobs.push(BlobReadJob {
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
fn read_all_jobs(
    source: &dyn Source,
    jobs: &[BlobReadJob],
    full: &SyncSender<Result<Vec<u8>, PackInterruption>>,
    empty: &Receiver<Vec<u8>>,
) {
    for job in jobs {
        match read_blob(source, job, full, empty) {
            Ok(WriterPresence::Present) => {}
            Ok(WriterPresence::Gone) => return,
            Err(stop) => {
                // Sending fails when the writing side failed first; its own error is reported then.
                let _ = full.send(Err(stop));
                return;
            }
        }
    }
}

/// Whether the writing side still takes chunks.
enum WriterPresence {
    Present,
    Gone,
}

/// Reads one blob: sends the pieces that are to be written, and compares the others with the files
/// that are kept.
fn read_blob(
    source: &dyn Source,
    job: &BlobReadJob,
    full: &SyncSender<Result<Vec<u8>, PackInterruption>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<WriterPresence, PackInterruption> {
    let failed = |cause| Error::Read { what: job.digest.to_string(), cause };
    let mut reader = source.open_blob(&job.digest, 0..job.size).map_err(Error::from)?;
    let mut hash = Some(DigestHasher::for_digest(&job.digest));
    let mut place = 0;
    let mut spare = None;
    for piece in &job.pieces {
        let mut kept_hash = blake3::Hasher::new();
        let mut rest = piece.length;
        loop {
            let Some(mut chunk) = spare.take().or_else(|| empty.recv().ok()) else {
                return Ok(WriterPresence::Gone);
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
                check_blob_digest(job, &hash.finish())?;
            }
            if piece.kept.is_some() {
                // This piece is not written again: only compare it, and reuse the buffer at once.
                kept_hash.update(&chunk);
                spare = Some(chunk);
            } else if full.send(Ok(chunk)).is_err() {
                return Ok(WriterPresence::Gone);
            }
            // Checked at the end of the loop: an empty blob still sends one (empty) chunk, which
            // the writing side waits for.
            if rest == 0 {
                break;
            }
        }
        if piece.kept.is_some_and(|kept| kept != kept_hash.finalize()) {
            return Err(PackInterruption::KeptDiffers(piece.volume));
        }
    }
    Ok(WriterPresence::Present)
}

fn check_blob_digest(job: &BlobReadJob, actual: &Digest) -> Result<(), Error> {
    if *actual == job.digest {
        return Ok(());
    }
    Err(Error::BlobDamaged { digest: job.digest, actual: *actual })
}
