//! The download engine: brings blobs of known digest into a store, whatever they come from
//! (registry, Hub, URL). `gantry fetch` uses it for everything that a lock lists.
//!
//! All downloads share one limit of concurrent transfers. The bytes of a blob go from the socket
//! through a short queue to a thread, which hashes and writes them, so that a slow disk never
//! blocks the network threads. A partial blob of an interrupted run is continued with a range
//! request. One blob that fails does not stop the others.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use net::{Client, HttpRequest};
use store::progress::Progress;
use store::{Store, WriteStart};
use tokio::sync::{mpsc, oneshot};
use types::lock::Blob;

use crate::{Error, Result};

/// Chunks that wait between the socket and the thread that writes. A chunk has at most some 400 KiB
/// (hyper's read buffer), so that six transfers hold less than 20 MB.
const QUEUE: usize = 8;

/// A blob to download.
#[derive(Clone)]
pub struct FetchJob {
    /// Its digest and length.
    pub blob: Blob,
    /// What it belongs to, for messages: an image, a model's file.
    pub name: String,
    /// A GET request whose response body is exactly the blob.
    pub request: HttpRequest,
    /// Further requests for the same bytes, for the case that a server does not have them.
    pub alternatives: Vec<HttpRequest>,
}

/// The result of a fetch.
#[derive(Debug, Default)]
pub struct FetchReport {
    /// Number of blobs that were downloaded.
    pub fetched: usize,
    /// Bytes that were received over the network.
    pub moved: u64,
    /// Number of blobs that the store had already.
    pub present: usize,
    /// Blobs that could not be downloaded, sorted by name.
    pub failed: Vec<FetchFailure>,
}

/// A blob that could not be downloaded.
#[derive(Debug)]
pub struct FetchFailure {
    /// Its digest and length.
    pub blob: Blob,
    /// What it belongs to.
    pub name: String,
    /// The error of the last attempt.
    pub error: Error,
}

/// Downloads all blobs that the store does not have. Returns an error only before the first byte is
/// requested: when the store cannot be read or the disk has no room. A blob that fails later is
/// listed in the report. Dropping the future keeps the partial blobs for the next run.
pub async fn fetch_blobs(
    client: &Client,
    store: &Store,
    jobs: Vec<FetchJob>,
    progress: Arc<dyn Progress>,
) -> Result<FetchReport> {
    // Held until the end: garbage collection must not remove blobs that no root names yet.
    let _session = store.open_session()?;
    let mut report = FetchReport::default();
    let missing = select_missing_jobs(store, jobs, &*progress, &mut report)?;
    let mut running = stream::iter(missing)
        .map(|job| {
            let (client, store, progress) = (client.clone(), store.clone(), Arc::clone(&progress));
            async move {
                // The client's own limit: other work on the same client counts as well.
                let _place = client.acquire_permit().await;
                progress.start_item(&job.name);
                let outcome = fetch_blob(&client, &store, &job, &progress).await;
                progress.end_item(&job.name);
                (job, outcome)
            }
        })
        .buffer_unordered(client.concurrency());
    while let Some((job, outcome)) = running.next().await {
        match outcome {
            // Another process that works on the same store downloaded it meanwhile.
            Ok(0) => report.present += 1,
            Ok(moved) => {
                report.fetched += 1;
                report.moved += moved;
                progress.finish_item(&job.name);
            }
            Err(error) => {
                progress.add_note(&error.to_string());
                report.failed.push(FetchFailure { blob: job.blob, name: job.name, error });
            }
        }
    }
    // Downloads end in any order; a report must not depend on it.
    report.failed.sort_by(|a, b| (&a.name, a.blob).cmp(&(&b.name, b.blob)));
    Ok(report)
}

/// The jobs whose blobs the store does not have, each digest once. The largest come first, so that
/// the run does not end with one long transfer while all others are done. Fails when the disk has
/// no room for them.
fn select_missing_jobs(
    store: &Store,
    jobs: Vec<FetchJob>,
    progress: &dyn Progress,
    report: &mut FetchReport,
) -> Result<Vec<FetchJob>> {
    // Images share layers, and models share files: the first job of a digest stands for all of
    // them, since any of the sources gives the same bytes.
    let mut by_digest = HashMap::new();
    for job in jobs {
        by_digest.entry(job.blob.digest).or_insert(job);
    }
    let mut missing = Vec::new();
    for job in by_digest.into_values() {
        // Announced even when present, so that the total is that of the lock, not of this run.
        progress.expect_bytes(job.blob.size);
        if store::Source::blob_size(store, &job.blob.digest)? == Some(job.blob.size) {
            report.present += 1;
            progress.skip_bytes(job.blob.size);
        } else {
            missing.push(job);
        }
    }
    missing.sort_by(|a, b| (b.blob.size, a.blob.digest).cmp(&(a.blob.size, b.blob.digest)));
    // Partial blobs of an earlier run occupy their space already.
    let mut needed = 0;
    for job in &missing {
        needed += job.blob.size.saturating_sub(store.partial_size(&job.blob.digest)?);
    }
    store.ensure_free_space(needed)?;
    Ok(missing)
}

/// Downloads one blob from the first of its servers that has it. Returns the number of bytes
/// received; 0 when another process downloaded it meanwhile.
async fn fetch_blob(
    client: &Client,
    store: &Store,
    job: &FetchJob,
    progress: &Arc<dyn Progress>,
) -> Result<u64> {
    let mut outcome = fetch_blob_from(client, store, job, progress).await;
    for request in &job.alternatives {
        match &outcome {
            // Any refusal: registries answer 403 and 404 for a layer that they may not distribute.
            Err(Error::Net { cause, .. }) if cause.status().is_some() => {
                let job = FetchJob { request: request.clone(), ..job.clone() };
                outcome = fetch_blob_from(client, store, &job, progress).await;
            }
            _ => break,
        }
    }
    match outcome {
        Err(Error::Net { what, cause }) if !job.alternatives.is_empty() => {
            Err(Error::Net { what: format!("{what} (a layer with urls)"), cause })
        }
        outcome => outcome,
    }
}

/// Downloads one blob by the job's first request.
async fn fetch_blob_from(
    client: &Client,
    store: &Store,
    job: &FetchJob,
    progress: &Arc<dyn Progress>,
) -> Result<u64> {
    match try_fetch_blob(client, store, job, progress).await {
        // The partial blob may be from a run against another server with other content: try once
        // more from the start, before the server is blamed.
        Err((Error::Store(store::Error::DigestMismatch { .. }), DownloadStart::Resumed)) => {
            progress.expect_bytes(job.blob.size);
            try_fetch_blob(client, store, job, progress)
                .await
                .map_err(|(error, _)| name_server_in_mismatch(job, error))
        }
        Err((error, _)) => Err(name_server_in_mismatch(job, error)),
        Ok(moved) => Ok(moved),
    }
}

/// Where a download began: a wrong digest is the server's fault only after a fresh start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DownloadStart {
    Resumed,
    Fresh,
}

/// Downloads one blob once, continuing a partial one. The error comes with where the download
/// began.
async fn try_fetch_blob(
    client: &Client,
    store: &Store,
    job: &FetchJob,
    progress: &Arc<dyn Progress>,
) -> Result<u64, (Error, DownloadStart)> {
    let (chunks, begun, written) = spawn_writer(store.clone(), job.blob, Arc::clone(progress));
    let Ok(offset) = begun.await else {
        // The writer ended before it sent an offset: the blob is in the store, or the store failed.
        drop(chunks);
        return match join_writer(written).await {
            Ok(()) => {
                progress.skip_bytes(job.blob.size);
                Ok(0)
            }
            Err(error) => Err((error, DownloadStart::Fresh)),
        };
    };
    let resumed = if offset > 0 { DownloadStart::Resumed } else { DownloadStart::Fresh };
    progress.skip_bytes(offset);
    let mut download = client.download(job.request.clone(), offset, Some(job.blob.size));
    let received = loop {
        match download.next_chunk().await {
            Ok(Some(chunk)) => {
                if chunks.send(DownloadMessage::Bytes(chunk)).await.is_err() {
                    // The writer ended early: its own error, read below, says why.
                    break Ok(());
                }
            }
            Ok(None) => {
                let _ = chunks.send(DownloadMessage::End).await;
                break Ok(());
            }
            Err(cause) => break Err(Error::Net { what: job.name.clone(), cause }),
        }
    };
    // Closes the queue; without `End` the writer keeps a partial blob.
    drop(chunks);
    let written = join_writer(written).await;
    // A network error comes first: the writer then only saw an early end of its queue.
    received.and(written).map_err(|error| (error, resumed))?;
    Ok(job.blob.size - offset)
}

/// What the network task sends to the writing thread.
enum DownloadMessage {
    Bytes(Bytes),
    /// The blob is complete. A queue that closes without it means an interrupted transfer.
    End,
}

type WriterHandle = tokio::task::JoinHandle<store::Result<()>>;

/// Starts a thread that writes one blob. It sends the offset from which to continue, unless the
/// blob is in the store already or the store fails.
fn spawn_writer(
    store: Store,
    blob: Blob,
    progress: Arc<dyn Progress>,
) -> (mpsc::Sender<DownloadMessage>, oneshot::Receiver<u64>, WriterHandle) {
    let (chunks, mut queue) = mpsc::channel(QUEUE);
    let (tell_offset, begun) = oneshot::channel();
    let written = tokio::task::spawn_blocking(move || {
        let mut writer = match store.open_writer(&blob.digest, blob.size)? {
            WriteStart::Present => return Ok(()),
            WriteStart::Writer(writer) => writer,
        };
        // The receiver is gone when the future of the fetch was dropped (Ctrl-C).
        if tell_offset.send(writer.offset()).is_err() {
            return Ok(());
        }
        while let Some(message) = queue.blocking_recv() {
            match message {
                DownloadMessage::Bytes(chunk) => {
                    writer.write(&chunk)?;
                    progress.advance_bytes(chunk.len() as u64);
                }
                DownloadMessage::End => return writer.commit(),
            }
        }
        // Interrupted: dropping the writer keeps the partial blob.
        Ok(())
    });
    (chunks, begun, written)
}

/// Waits for the writing thread; a panic in it goes on here.
async fn join_writer(written: WriterHandle) -> Result<()> {
    match written.await {
        Ok(result) => result.map_err(Error::from),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Cancelled: only when the runtime shuts down, and then nobody waits for the result.
        Err(_) => Ok(()),
    }
}

/// Turns a wrong digest after a complete download into an error that names the server.
fn name_server_in_mismatch(job: &FetchJob, error: Error) -> Error {
    match error {
        Error::Store(store::Error::DigestMismatch { digest, actual }) => Error::DigestMismatch {
            server: job.request.redacted_url(),
            what: job.name.clone(),
            expected: digest.to_string(),
            actual: actual.to_string(),
        },
        other => other,
    }
}
