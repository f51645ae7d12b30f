//! What resolving needs from outside: network, store, paths, and threads for blocking work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::{Client, Mirrors};
use store::Store;
use store::progress::Progress;

/// How many things are looked up at once. They mostly wait for answers, so there are more than
/// transfers.
pub(crate) const LOOKUPS: usize = 8;

/// What resolving needs: network, store, paths and progress.
#[derive(Clone)]
pub struct ResolveContext {
    /// The HTTP client for everything remote.
    pub client: Client,
    /// The configured mirrors of hosts.
    pub mirrors: Mirrors,
    /// The store that receives what was read.
    pub store: Store,
    /// The folder of `gantry.yaml`; its paths are relative to it.
    pub base: PathBuf,
    /// Receives progress and notes.
    pub progress: Arc<dyn Progress>,
}

impl ResolveContext {
    pub(crate) fn resolve_path(&self, relative: &Path) -> PathBuf {
        resolve_path_from(&self.base, relative)
    }
}

/// A path in the input: below the home folder (`~/…`), or relative to the folder of the input.
pub(crate) fn resolve_path_from(base: &Path, relative: &Path) -> PathBuf {
    let home = relative.strip_prefix("~").ok().zip(std::env::home_dir());
    match home {
        Some((rest, home)) => home.join(rest),
        None if base == Path::new(".") => relative.to_owned(),
        None => base.join(relative),
    }
}

/// Runs disk or CPU work outside of the async threads. A panic in it is raised again here.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
