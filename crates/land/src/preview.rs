//! Shows what a load would do, without writing anything: `gantry load --dry-run`.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use store::{Sink, Source};
use types::{Digest, Root, error_chain};

/// How many questions are asked at the same time.
const QUESTIONS: usize = 8;

/// What a load would do for one root.
#[derive(Debug, Clone)]
pub struct RootPreview {
    /// The root.
    pub root: Root,
    /// The size of all of its blobs; `None` where the source is incomplete.
    pub bytes: Option<u64>,
    /// Whether the target has it; `None` where the target could not be asked.
    pub present: Option<bool>,
}

/// What a load would do.
#[derive(Debug, Clone, Default)]
pub struct LoadPreview {
    /// The roots, in the order of the input.
    pub roots: Vec<RootPreview>,
    /// The size of the blobs of all roots that the target does not have, each blob once. Some of them may
    /// be there for other roots.
    pub missing_bytes: u64,
    /// Why the target could not be asked, the first time.
    pub failure: Option<String>,
}

/// Finds the sizes of roots, and asks the target which of them it has. Without a target (a folder that
/// does not exist) it has none.
pub async fn preview_load<S: Sink>(
    source: Arc<dyn Source>,
    roots: Vec<Root>,
    sink: Option<Arc<S>>,
) -> LoadPreview {
    let asked: Vec<_> = stream::iter(roots)
        .map(|root| preview_root(Arc::clone(&source), root, sink.clone()))
        .buffered(QUESTIONS)
        .collect()
        .await;
    let mut preview = LoadPreview::default();
    let mut missing: HashMap<Digest, u64> = HashMap::new();
    for (root, closure, asked) in asked {
        let present = match asked {
            Ok(present) => Some(present),
            Err(failure) => {
                preview.failure.get_or_insert(failure);
                None
            }
        };
        if let (Some(closure), false) = (&closure, present == Some(true)) {
            missing.extend(closure.descriptors().map(|blob| (blob.digest, blob.size)));
        }
        let bytes = closure.map(|closure| closure.size());
        preview.roots.push(RootPreview { root, bytes, present });
    }
    preview.missing_bytes = missing.values().sum();
    preview
}

async fn preview_root<S: Sink>(
    source: Arc<dyn Source>,
    root: Root,
    sink: Option<Arc<S>>,
) -> (Root, Option<store::RootClosure>, Result<bool, String>) {
    let of = root.clone();
    // Reads manifests from the disk.
    let closure =
        tokio::task::spawn_blocking(move || store::find_closure(&*source, &of).ok()).await;
    let closure = closure.unwrap_or_default();
    let present = match (&sink, &closure) {
        (Some(sink), Some(closure)) => {
            sink.holds_root(&root, closure).await.map_err(|error| error_chain(&error))
        }
        _ => Ok(false),
    };
    (root, closure, present)
}
