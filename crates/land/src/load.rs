//! The one engine that moves roots from any source into any sink.
//!
//! All blobs of all roots share one pool of places, so that a load of one large image and of a
//! hundred small ones is equally parallel. A blob that several roots need is moved for the first of
//! them; the others wait for it, and the sink then finds or links it. A root that fails does not
//! stop the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use store::progress::Progress;
use store::{Moved, Put, Sink, Source};
use tokio::sync::Semaphore;
use types::{Descriptor, Digest, Manifest, Root};

use crate::Result;

/// How a load goes.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Blobs that are moved at once.
    pub concurrency: usize,
}

impl Default for Options {
    /// Four: a registry on a disk gains nothing from more, and each holds a file and a socket.
    fn default() -> Self {
        Self { concurrency: 4 }
    }
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Report {
    /// Every root that stands at the target now, in the order of the input.
    pub landed: Vec<Landed>,
    /// Roots that could not be put, and why.
    pub failed: Vec<Failure>,
    /// Bytes that were moved.
    pub moved: u64,
    /// Every blob and manifest of the landed roots, for the receipt.
    pub blobs: Vec<Descriptor>,
}

/// A root at the target.
#[derive(Debug, Clone)]
pub struct Landed {
    /// The root.
    pub root: Root,
    /// Whether something had to be done for it.
    pub outcome: Outcome,
}

/// Whether something had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was there, under its name, with its digest.
    Present,
    /// It was put.
    Loaded,
}

/// A root that could not be put.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The root.
    pub root: Root,
    /// Why.
    pub cause: Cause,
}

/// Why a root could not be put.
#[derive(Debug, Clone)]
pub struct Cause {
    /// The sink's or the source's error, with its next step.
    pub error: String,
    /// What is at fault.
    pub fault: Fault,
}

/// What is at fault when a root cannot be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The source: its bytes are not those that the digest promises.
    Integrity,
    /// The target, or the way there.
    Other,
}

/// Puts `roots` of `source` into `sink`. Fails as a whole only when the source cannot be read;
/// what fails for one root is in the report.
pub async fn load<S: Sink>(
    source: Arc<dyn Source>,
    roots: Vec<Root>,
    sink: Arc<S>,
    options: Options,
    progress: Arc<dyn Progress>,
) -> Result<Report> {
    let load = Arc::new(Load {
        source,
        sink,
        places: Semaphore::new(options.concurrency.max(1)),
        turns: Mutex::new(HashMap::new()),
        progress,
        moved: Arc::default(),
    });
    // Expected bytes are told before the first is moved, so that the time left means something.
    let mut plans = Vec::with_capacity(roots.len());
    for root in roots {
        let source = Arc::clone(&load.source);
        let plan = blocking(move || {
            let closure = store::closure(&*source, &root);
            (root, closure)
        })
        .await;
        plans.push(plan);
    }
    let mut report = Report::default();
    let mut expected: HashMap<Digest, u64> = HashMap::new();
    let mut ready = Vec::new();
    for (order, (root, closure)) in plans.into_iter().enumerate() {
        match closure {
            Ok(closure) => {
                for blob in closure.blobs.iter().chain(&closure.manifests) {
                    expected.insert(blob.digest, blob.size);
                }
                ready.push((order, root, closure));
            }
            Err(error) => report.failed.push(Failure { root, cause: Cause::of(&error) }),
        }
    }
    load.progress.expect(expected.values().sum());

    let mut running: FuturesUnordered<_> = ready
        .into_iter()
        .map(|(order, root, closure)| {
            let load = Arc::clone(&load);
            async move {
                let outcome = load.root(&root, &closure).await;
                (order, root, closure, outcome)
            }
        })
        .collect();
    let mut landed = Vec::new();
    while let Some((order, root, closure, outcome)) = running.next().await {
        match outcome {
            Ok(outcome) => {
                load.progress.done(&root.name.to_string());
                report.blobs.extend(closure.manifests);
                report.blobs.extend(closure.blobs);
                landed.push((order, Landed { root, outcome }));
            }
            Err(cause) => {
                load.progress.note(&format!("{}: {}", root.name, cause.error));
                report.failed.push(Failure { root, cause });
            }
        }
    }
    landed.sort_by_key(|(order, _)| *order);
    report.landed = landed.into_iter().map(|(_, landed)| landed).collect();
    report.moved = load.moved.load(Ordering::Relaxed);
    Ok(report)
}

impl Cause {
    /// A sink's error is known by what it is: sinks are open for others, their errors are not.
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let is_integrity = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(error), _) => matches!(
                error,
                store::Error::DigestMismatch { .. } | store::Error::SizeMismatch { .. }
            ),
            (_, Some(error)) => remote::Error::is_integrity(error),
            _ => false,
        };
        let fault = if is_integrity { Fault::Integrity } else { Fault::Other };
        Self { error: error.to_string(), fault }
    }
}

struct Load<S> {
    source: Arc<dyn Source>,
    sink: Arc<S>,
    places: Semaphore,
    /// One turn a digest: whoever has it moves the blob, the others find it there afterwards.
    turns: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<Turn>>>>,
    progress: Arc<dyn Progress>,
    moved: Arc<AtomicU64>,
}

/// Whether the bytes of a digest were counted as progress.
#[derive(Default)]
struct Turn {
    is_counted: bool,
}

impl<S: Sink> Load<S> {
    async fn root(&self, root: &Root, closure: &store::Closure) -> Result<Outcome, Cause> {
        if self.sink.holds(root, closure).await.map_err(|error| Cause::of(&error))? {
            for blob in closure.blobs.iter().chain(&closure.manifests) {
                self.count(blob, &mut *self.turn(&blob.digest).lock().await, 0);
            }
            return Ok(Outcome::Present);
        }
        let mut puts: FuturesUnordered<_> =
            closure.blobs.iter().map(|blob| self.blob(root, blob)).collect();
        let mut first_error = None;
        while let Some(put) = puts.next().await {
            // The other blobs go on: what they move is not lost for the next run.
            if let Err(error) = put {
                first_error.get_or_insert(error);
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        for manifest in &closure.manifests {
            let bytes = self.document(manifest).await?;
            let put = if manifest.digest == root.descriptor.digest {
                self.sink.publish(root, bytes).await
            } else {
                self.sink.put_manifest(root, manifest, bytes).await.map(|_| ())
            };
            put.map_err(|error| Cause::of(&error))?;
            self.count(manifest, &mut *self.turn(&manifest.digest).lock().await, manifest.size);
        }
        Ok(Outcome::Loaded)
    }

    async fn blob(&self, root: &Root, blob: &Descriptor) -> Result<(), Cause> {
        let turn = self.turn(&blob.digest);
        let mut turn = turn.lock().await;
        let Ok(_place) = self.places.acquire().await else { return Ok(()) };
        let told = Arc::new(AtomicU64::new(0));
        let moved: Moved = {
            let (told, all, progress) =
                (Arc::clone(&told), Arc::clone(&self.moved), Arc::clone(&self.progress));
            let is_counted = turn.is_counted;
            Arc::new(move |bytes| {
                told.fetch_add(bytes, Ordering::Relaxed);
                all.fetch_add(bytes, Ordering::Relaxed);
                if !is_counted {
                    progress.advance(bytes);
                }
            })
        };
        let put = self
            .sink
            .put_blob(root, blob, Arc::clone(&self.source), moved)
            .await
            .map_err(|error| Cause::of(&error))?;
        match put {
            Put::Moved => turn.is_counted = true,
            Put::Present | Put::Linked => {
                self.count(blob, &mut turn, told.load(Ordering::Relaxed));
            }
        }
        Ok(())
    }

    /// Tells what was there already, once a digest.
    fn count(&self, blob: &Descriptor, turn: &mut Turn, told: u64) {
        if !turn.is_counted {
            turn.is_counted = true;
            self.progress.skip(blob.size.saturating_sub(told));
        }
    }

    fn turn(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<Turn>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(*digest).or_default())
    }

    async fn document(&self, manifest: &Descriptor) -> Result<Vec<u8>, Cause> {
        let source = Arc::clone(&self.source);
        let digest = manifest.digest;
        blocking(move || store::document(&*source, &digest, Manifest::MAX_SIZE))
            .await
            .map_err(|error| Cause::of(&error))
    }
}

/// Disk work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The only way not to come back is a panic, which goes on where it is noticed.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
