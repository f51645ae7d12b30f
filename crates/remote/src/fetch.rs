//! The one engine that brings blobs into a store, whatever they come from.
//!
//! All blobs of all things share one pool of places. A blob goes from the socket through a short
//! queue to a thread of its own, which hashes and writes; what a killed run left is continued by
//! range. One blob that fails does not stop the others.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use net::{Client, Request};
use store::progress::Progress;
use store::{Begin, Store};
use tokio::sync::{mpsc, oneshot};
use types::lock::Blob;

use crate::{Error, Result};

/// Chunks between the socket and the disk's thread. A chunk has at most some 400 KiB (hyper's read
/// buffer), so that six transfers hold less than 20 MB.
const QUEUE: usize = 8;

/// A blob to bring.
#[derive(Clone)]
pub struct Job {
    /// The blob.
    pub blob: Blob,
    /// What it belongs to, for people: an image, a model's file.
    pub name: String,
    /// How it is asked for: a GET whose body is the blob, nothing else.
    pub request: Request,
}

/// What became of a fetch.
#[derive(Debug, Default)]
pub struct Report {
    /// Blobs that came.
    pub fetched: usize,
    /// Bytes that came over the network.
    pub moved: u64,
    /// Blobs that were here.
    pub present: usize,
    /// Blobs that did not come, and why.
    pub failed: Vec<Failure>,
}

/// A blob that did not come.
#[derive(Debug)]
pub struct Failure {
    /// The blob.
    pub blob: Blob,
    /// What it belongs to.
    pub name: String,
    /// Why.
    pub error: Error,
}

/// Brings all blobs that the store does not have. Fails as a whole only before the first byte: when
/// the store cannot be read, or has no room. Dropping the future keeps what came of each blob.
pub async fn fetch(
    client: &Client,
    store: &Store,
    jobs: Vec<Job>,
    progress: Arc<dyn Progress>,
) -> Result<Report> {
    let _session = store.session()?;
    let mut report = Report::default();
    let missing = missing(store, jobs, &*progress, &mut report)?;
    let mut running = stream::iter(missing)
        .map(|job| {
            let (client, store, progress) = (client.clone(), store.clone(), Arc::clone(&progress));
            async move {
                let _place = client.place().await;
                let outcome = one(&client, &store, &job, &progress).await;
                (job, outcome)
            }
        })
        .buffer_unordered(client.concurrency());
    while let Some((job, outcome)) = running.next().await {
        match outcome {
            Ok(0) => report.present += 1,
            Ok(moved) => {
                report.fetched += 1;
                report.moved += moved;
                progress.done(&job.name);
            }
            Err(error) => {
                progress.note(&error.to_string());
                report.failed.push(Failure { blob: job.blob, name: job.name, error });
            }
        }
    }
    report.failed.sort_by(|a, b| (&a.name, a.blob).cmp(&(&b.name, b.blob)));
    Ok(report)
}

/// The jobs whose blobs are not here, each digest once, the largest first: the last place to be
/// busy is then busy with a small one.
fn missing(
    store: &Store,
    jobs: Vec<Job>,
    progress: &dyn Progress,
    report: &mut Report,
) -> Result<Vec<Job>> {
    let mut by_digest = HashMap::new();
    for job in jobs {
        by_digest.entry(job.blob.digest).or_insert(job);
    }
    let mut missing = Vec::new();
    for job in by_digest.into_values() {
        progress.expect(job.blob.size);
        if store::Source::size(store, &job.blob.digest)? == Some(job.blob.size) {
            report.present += 1;
            progress.skip(job.blob.size);
        } else {
            missing.push(job);
        }
    }
    missing.sort_by(|a, b| (b.blob.size, a.blob.digest).cmp(&(a.blob.size, b.blob.digest)));
    let mut needed = 0;
    for job in &missing {
        needed += job.blob.size.saturating_sub(store.partial(&job.blob.digest)?);
    }
    store.need(needed)?;
    Ok(missing)
}

/// Brings one blob; gives the bytes that came, 0 when another process brought it meanwhile.
async fn one(
    client: &Client,
    store: &Store,
    job: &Job,
    progress: &Arc<dyn Progress>,
) -> Result<u64> {
    match attempt(client, store, job, progress).await {
        // What an earlier run left may have been of other content: once more, from the start.
        Err((Error::Store(store::Error::DigestMismatch { .. }), Resumed::Yes)) => {
            progress.expect(job.blob.size);
            attempt(client, store, job, progress).await.map_err(|(error, _)| lie(job, error))
        }
        Err((error, _)) => Err(lie(job, error)),
        Ok(moved) => Ok(moved),
    }
}

/// Whether a blob was continued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resumed {
    Yes,
    No,
}

async fn attempt(
    client: &Client,
    store: &Store,
    job: &Job,
    progress: &Arc<dyn Progress>,
) -> Result<u64, (Error, Resumed)> {
    let (chunks, begun, written) = writer(store.clone(), job.blob, Arc::clone(progress));
    let Ok(offset) = begun.await else {
        // The writer ended before it began: it is here, or there is an error to tell.
        drop(chunks);
        return match joined(written).await {
            Ok(()) => {
                progress.skip(job.blob.size);
                Ok(0)
            }
            Err(error) => Err((error, Resumed::No)),
        };
    };
    let resumed = if offset > 0 { Resumed::Yes } else { Resumed::No };
    progress.skip(offset);
    let mut download = client.download(job.request.clone(), offset, Some(job.blob.size));
    let received = loop {
        match download.chunk().await {
            Ok(Some(chunk)) => {
                if chunks.send(Message::Bytes(chunk)).await.is_err() {
                    // The writer hung up: its own error says why.
                    break Ok(());
                }
            }
            Ok(None) => {
                let _ = chunks.send(Message::End).await;
                break Ok(());
            }
            Err(cause) => break Err(Error::Net { what: job.name.clone(), cause }),
        }
    };
    drop(chunks);
    let written = joined(written).await;
    received.and(written).map_err(|error| (error, resumed))?;
    Ok(job.blob.size - offset)
}

enum Message {
    Bytes(Bytes),
    /// Everything came; without it a closed queue means that the transfer was given up.
    End,
}

type Written = tokio::task::JoinHandle<store::Result<()>>;

/// A thread that writes one blob. It tells the offset to go on from, unless the blob is here.
fn writer(
    store: Store,
    blob: Blob,
    progress: Arc<dyn Progress>,
) -> (mpsc::Sender<Message>, oneshot::Receiver<u64>, Written) {
    let (chunks, mut queue) = mpsc::channel(QUEUE);
    let (tell_offset, begun) = oneshot::channel();
    let written = tokio::task::spawn_blocking(move || {
        let mut writer = match store.writer(&blob.digest, blob.size)? {
            Begin::Present => return Ok(()),
            Begin::Writer(writer) => writer,
        };
        if tell_offset.send(writer.offset()).is_err() {
            return Ok(());
        }
        while let Some(message) = queue.blocking_recv() {
            match message {
                Message::Bytes(chunk) => {
                    writer.write(&chunk)?;
                    progress.advance(chunk.len() as u64);
                }
                Message::End => return writer.commit(),
            }
        }
        // Given up: dropping the writer keeps what came.
        Ok(())
    });
    (chunks, begun, written)
}

async fn joined(written: Written) -> Result<()> {
    match written.await {
        Ok(result) => result.map_err(Error::from),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Ok(()),
    }
}

/// A wrong digest after a whole download is the server's lie.
fn lie(job: &Job, error: Error) -> Error {
    match error {
        Error::Store(store::Error::DigestMismatch { digest, actual }) => Error::Lie {
            server: job.request.shown(),
            what: job.name.clone(),
            expected: digest.to_string(),
            actual: actual.to_string(),
        },
        other => other,
    }
}
