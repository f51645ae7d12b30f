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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_is_below_the_folder_of_the_input_unless_it_is_absolute_or_in_the_home_folder() {
        let resolve = |base: &str, path: &str| resolve_path_from(Path::new(base), Path::new(path));
        assert_eq!(resolve("site", "a/b.tar"), Path::new("site/a/b.tar"));
        assert_eq!(resolve("site", "/srv/b.tar"), Path::new("/srv/b.tar"));
        // Shown to users: without a `./` that they did not write.
        assert_eq!(resolve(".", "a/b.tar"), Path::new("a/b.tar"));
        let home = std::env::home_dir().unwrap();
        assert_eq!(resolve("site", "~/models"), home.join("models"));
        // A file that is called so, and another user's home.
        assert_eq!(resolve("site", "~models"), Path::new("site/~models"));
    }
}
