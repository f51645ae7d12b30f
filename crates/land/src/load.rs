//! The engine that copies roots from any source into any sink.
//!
//! All blobs of all roots share one pool of permits, so that a load of one large image and a load of
//! a hundred small ones are equally parallel. A blob that several roots need is moved for the first
//! of them; the others wait for it, and the sink then finds it there or links it (a registry's
//! cross-repository mount). A root that fails does not stop the others.
//!
//! The order for one root is: ask the sink whether the root is there already; else all blobs; then
//! the manifests, each after what it refers to; the root's own manifest, with its name, last. So a
//! name never shows an image whose blobs are missing, also after a kill. A target that writes many
//! names at once (a folder) writes the last ones at the end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, FuturesUnordered, StreamExt};
use serde::Serialize;
use store::progress::Progress;
use store::{Sink, Source, TransferCallback};
use tokio::sync::Semaphore;
use types::{Descriptor, Digest, Manifest, Root};

use crate::Result;

/// Settings of a load.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// How many blobs are moved at the same time; 0 counts as 1.
    pub concurrency: usize,
}

impl Default for LoadOptions {
    /// Four: a registry on a disk gains nothing from more, and each holds a file and a socket.
    fn default() -> Self {
        Self { concurrency: 4 }
    }
}

/// How many roots are under way for each blob that is moved at the same time. Most of the time roots
/// wait for each other's blobs or for answers; ten thousand at once would only take memory.
const ROOTS_PER_TRANSFER: usize = 16;

/// The result of a load: what is at the target now, and what failed.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Every root that is at the target now, in the order of the input.
    pub landed: Vec<LoadedRoot>,
    /// Roots that could not be loaded, and why.
    pub failed: Vec<FailedRoot>,
    /// Bytes that were sent to the sink; blobs that it had already do not count.
    pub moved: u64,
    /// Every blob and manifest of the loaded roots, for the receipt.
    pub blobs: Vec<Descriptor>,
}

/// A root that is at the target.
#[derive(Debug, Clone)]
pub struct LoadedRoot {
    /// The root.
    pub root: Root,
    /// Whether it had to be loaded.
    pub outcome: LoadOutcome,
}

/// Whether a root had to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoadOutcome {
    /// It was there already, under its name and with its digest.
    Present,
    /// It was not there, or not complete, and was loaded.
    Loaded,
}

/// A root that could not be loaded.
#[derive(Debug, Clone)]
pub struct FailedRoot {
    /// The root.
    pub root: Root,
    /// What went wrong.
    pub cause: FailureCause,
}

/// Why a root could not be loaded.
#[derive(Debug, Clone)]
pub struct FailureCause {
    /// The sink's or the source's error message, with its next step.
    pub error: String,
    /// Whether the source or the target is to blame.
    pub fault: LoadFailureKind,
}

/// What is to blame when a root cannot be loaded. It decides the exit code (3 or 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadFailureKind {
    /// The source: its bytes do not have the digest that its manifest says.
    Integrity,
    /// Anything else: the target, the network, the disk.
    Other,
}

/// Copies `roots` from `source` into `sink`. What fails for one root is in the report; only a
/// failure that concerns all of them is an error.
pub async fn load_roots<S: Sink>(
    source: Arc<dyn Source>,
    roots: Vec<Root>,
    sink: Arc<S>,
    options: LoadOptions,
    progress: Arc<dyn Progress>,
) -> Result<LoadReport> {
    let load = Arc::new(LoadRun {
        source,
        sink,
        permits: Semaphore::new(options.concurrency.max(1)),
        turns: Mutex::new(HashMap::new()),
        progress,
        moved: Arc::default(),
    });
    // The whole size is reported before the first byte is moved: else the progress bar would show a
    // time left that grows with each root.
    let mut plans = Vec::with_capacity(roots.len());
    for root in roots {
        let source = Arc::clone(&load.source);
        let plan = run_blocking(move || {
            let closure = store::find_closure(&*source, &root);
            (root, closure)
        })
        .await;
        plans.push(plan);
    }
    let mut report = LoadReport::default();
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
            Err(error) => {
                report.failed.push(FailedRoot { root, cause: FailureCause::from_error(&error) });
            }
        }
    }
    // By digest, so that a blob of several roots counts once.
    load.progress.expect_bytes(expected.values().sum());

    let mut running = stream::iter(ready)
        .map(|(order, root, closure)| {
            let load = Arc::clone(&load);
            async move {
                let outcome = load.load_root(&root, &closure).await;
                (order, root, closure, outcome)
            }
        })
        .buffer_unordered(options.concurrency.max(1) * ROOTS_PER_TRANSFER);
    let mut landed = Vec::new();
    while let Some((order, root, closure, outcome)) = running.next().await {
        match outcome {
            Ok(outcome) => {
                load.progress.finish_item(&root.name.to_string());
                report.blobs.extend(closure.manifests);
                report.blobs.extend(closure.blobs);
                landed.push((order, LoadedRoot { root, outcome }));
            }
            Err(cause) => {
                load.progress.add_note(&format!("{}: {}", root.name, cause.error));
                report.failed.push(FailedRoot { root, cause });
            }
        }
    }
    if let Err(error) = load.sink.flush_names().await {
        let cause = FailureCause::from_error(&error);
        load.progress.add_note(&cause.error);
        // Those that were there before have their names; of the others it is not known.
        for (_, lost) in landed.extract_if(.., |(_, root)| root.outcome == LoadOutcome::Loaded) {
            report.failed.push(FailedRoot { root: lost.root, cause: cause.clone() });
        }
    }
    // Roots finish in any order; report and receipt keep that of the input.
    landed.sort_by_key(|(order, _)| *order);
    report.landed = landed.into_iter().map(|(_, landed)| landed).collect();
    report.moved = load.moved.load(Ordering::Relaxed);
    Ok(report)
}

impl FailureCause {
    /// Tells the kind of failure from the error's type. `Sink` is a public trait with an error type
    /// of its own, so the known ones are found by downcasting; unknown ones count as the target's.
    fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let is_integrity = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(error), _) => matches!(
                error,
                store::Error::DigestMismatch { .. } | store::Error::SizeMismatch { .. }
            ),
            (_, Some(error)) => remote::Error::is_integrity(error),
            _ => false,
        };
        let fault = if is_integrity { LoadFailureKind::Integrity } else { LoadFailureKind::Other };
        Self { error: error.to_string(), fault }
    }
}

/// One run of [`load_roots`], shared by the tasks of its roots.
struct LoadRun<S> {
    source: Arc<dyn Source>,
    sink: Arc<S>,
    permits: Semaphore,
    /// One lock for each digest: its holder moves the blob, the others find it there afterwards.
    turns: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<BlobTurn>>>>,
    progress: Arc<dyn Progress>,
    moved: Arc<AtomicU64>,
}

/// What the tasks that want the same blob share, behind its lock.
#[derive(Default)]
struct BlobTurn {
    /// Whether its bytes were counted as progress; a blob counts once, however many roots want it.
    is_counted: bool,
}

impl<S: Sink> LoadRun<S> {
    async fn load_root(
        &self,
        root: &Root,
        closure: &store::RootClosure,
    ) -> Result<LoadOutcome, FailureCause> {
        // One question for the whole root: the second load of a bundle should take seconds.
        if self
            .sink
            .holds_root(root, closure)
            .await
            .map_err(|error| FailureCause::from_error(&error))?
        {
            for blob in closure.blobs.iter().chain(&closure.manifests) {
                self.count_present(blob, &mut *self.blob_turn(&blob.digest).lock().await, 0);
            }
            return Ok(LoadOutcome::Present);
        }
        let mut puts: FuturesUnordered<_> =
            closure.blobs.iter().map(|blob| self.load_blob(root, blob)).collect();
        let mut first_error = None;
        while let Some(put) = puts.next().await {
            // The other blobs go on: whatever reaches the sink now need not be moved by the next run.
            if let Err(error) = put {
                first_error.get_or_insert(error);
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        // A closure lists manifests before the index that refers to them: registries refuse a manifest
        // whose parts they do not have (OCI Distribution Spec, "Pushing Manifests").
        for manifest in &closure.manifests {
            let bytes = self.read_manifest(manifest).await?;
            let put = if manifest.digest == root.descriptor.digest {
                self.sink.publish_root(root, bytes).await
            } else {
                self.sink.put_manifest(root, manifest, bytes).await.map(|_| ())
            };
            put.map_err(|error| FailureCause::from_error(&error))?;
            self.count_present(
                manifest,
                &mut *self.blob_turn(&manifest.digest).lock().await,
                manifest.size,
            );
        }
        Ok(LoadOutcome::Loaded)
    }

    async fn load_blob(&self, root: &Root, blob: &Descriptor) -> Result<(), FailureCause> {
        let turn = self.blob_turn(&blob.digest);
        let mut turn = turn.lock().await;
        // The permit is taken after the lock: a task that waits for another's blob must not use up one
        // of the few permits. It fails only when the semaphore is closed, which nobody does.
        let Ok(_place) = self.permits.acquire().await else { return Ok(()) };
        let told = Arc::new(AtomicU64::new(0));
        let moved: TransferCallback = {
            let (told, all, progress) =
                (Arc::clone(&told), Arc::clone(&self.moved), Arc::clone(&self.progress));
            let is_counted = turn.is_counted;
            Arc::new(move |bytes| {
                told.fetch_add(bytes, Ordering::Relaxed);
                all.fetch_add(bytes, Ordering::Relaxed);
                if !is_counted {
                    progress.advance_bytes(bytes);
                }
            })
        };
        let name = root.name.to_string();
        self.progress.start_item(&name);
        let put = self.sink.put_blob(root, blob, Arc::clone(&self.source), moved).await;
        self.progress.end_item(&name);
        put.map_err(|error| FailureCause::from_error(&error))?;
        // Bytes that moved were counted by the closure above. The others are there already: all of a
        // blob that the sink has or links, and the beginning of one that an earlier run had sent.
        self.count_present(blob, &mut turn, told.load(Ordering::Relaxed));
        Ok(())
    }

    /// Counts a blob that was there already as skipped, once for each digest. `told` are the bytes of
    /// it that were counted as moved before the sink noticed that it has the blob.
    fn count_present(&self, blob: &Descriptor, turn: &mut BlobTurn, told: u64) {
        if !turn.is_counted {
            turn.is_counted = true;
            let present = blob.size.saturating_sub(told);
            if present > 0 {
                self.progress.skip_bytes(present);
            }
        }
    }

    fn blob_turn(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<BlobTurn>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(*digest).or_default())
    }

    async fn read_manifest(&self, manifest: &Descriptor) -> Result<Vec<u8>, FailureCause> {
        let source = Arc::clone(&self.source);
        let digest = manifest.digest;
        run_blocking(move || store::read_blob(&*source, &digest, Manifest::MAX_SIZE))
            .await
            .map_err(|error| FailureCause::from_error(&error))
    }
}

/// Runs blocking disk work on a thread for it, so that the async threads stay free.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // The task is never cancelled, so the error is a panic: it is raised again in the caller.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
