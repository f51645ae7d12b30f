//! Resolves `gantry.yaml` to `gantry.lock`: charts are rendered and searched for images, tags
//! become digests, revisions become commits, and local content is copied into the store.
//!
//! Data flow: [`lock_input`] resolves charts first ([`charts`]), then the images that they name
//! ([`images`]), models and files. Afterwards [`content`] lists what has to be fetched for a lock.
//! Also here: opening a chart with its values ([`OpenedChart`]), which `relocate`, `deploy` and others
//! work on.

mod charts;
mod error;
mod fetch_plan;
mod files;
mod images;
pub mod init;
mod models;
mod opened_chart;
mod pins;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::{Client, Mirrors};
use store::Store;
use store::progress::Progress;
use types::input::Input;
use types::lock::{self, Lock};

pub use charts::{open_chart, open_local_chart};
pub use error::{Error, ResolveProblem, Result};
pub use fetch_plan::{FetchPlan, plan_fetch, publish_roots, restore_content};
pub use opened_chart::OpenedChart;
pub use pins::UpgradeSelection;

use pins::LockPins;

/// How many things are looked up at once. They mostly wait for answers, so there are more than
/// transfers.
const LOOKUPS: usize = 8;

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
    fn resolve_path(&self, relative: &Path) -> PathBuf {
        resolve_path_from(&self.base, relative)
    }
}

/// A path in the input: below the home folder (`~/…`), or relative to the folder of the input.
fn resolve_path_from(base: &Path, relative: &Path) -> PathBuf {
    let home = relative.strip_prefix("~").ok().zip(std::env::home_dir());
    match home {
        Some((rest, home)) => home.join(rest),
        None if base == Path::new(".") => relative.to_owned(),
        None => base.join(relative),
    }
}

/// Resolves an input to a lock. What `previous` has pinned stays as it is, except what `upgrade`
/// selects.
///
/// # Errors
/// [`Error::Several`] has all problems, not only the first.
pub async fn lock_input(
    world: &ResolveContext,
    input: &Input,
    previous: Option<&Lock>,
    upgrade: &UpgradeSelection,
) -> Result<Lock> {
    // Keeps `store gc` from removing what is read meanwhile: no root refers to it before `publish`.
    let _session = world.store.open_session().map_err(Error::Store)?;
    let pins = LockPins::new(previous, upgrade, &world.store);
    if let Some(unknown) = pins.find_unknown_names().first() {
        return Err(Error::Upgrade { name: (*unknown).to_owned() });
    }
    let mut problems = Vec::new();
    let charts = charts::resolve_charts(world, input, &pins, &mut problems).await;
    let images = images::resolve_images(world, input, &pins, &charts, &mut problems).await;
    let models = models::resolve_models(world, input, &pins, &mut problems).await;
    let files = files::resolve_files(world, input, &mut problems).await;
    if !problems.is_empty() {
        return Err(Error::Several(problems));
    }
    let mut lock = Lock {
        version: lock::VERSION,
        name: input.name.clone(),
        platforms: input.platforms.clone(),
        charts: charts.into_iter().map(|chart| chart.locked).collect(),
        images,
        models,
        files,
    };
    lock.sort();
    Ok(lock)
}

/// Runs disk or CPU work outside of the async threads. A panic in it is raised again here.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
