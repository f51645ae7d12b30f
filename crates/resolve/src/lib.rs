//! Resolves `gantry.yaml` to `gantry.lock`: charts are rendered and searched for images, tags
//! become digests, revisions become commits, and local content is copied into the store.
//!
//! Data flow: [`lock`] resolves charts first ([`charts`]), then the images that they name
//! ([`images`]), models and files. Afterwards [`content`] lists what has to be fetched for a lock.
//! Also here: opening a chart with its values ([`Release`]), which `relocate`, `deploy` and others
//! work on.

mod charts;
mod content;
mod error;
mod files;
mod images;
pub mod init;
mod models;
mod pins;
mod release;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::{Client, Mirrors};
use store::Store;
use store::progress::Progress;
use types::input::Input;
use types::lock::{self, Lock};

pub use charts::{open_chart, open_local};
pub use content::{Jobs, jobs, publish, restore};
pub use error::{Error, Problem, Result};
pub use pins::Upgrade;
pub use release::Release;

use pins::Pins;

/// How many things are looked up at once. They mostly wait for answers, so there are more than
/// transfers.
const LOOKUPS: usize = 8;

/// What resolving needs: network, store, paths and progress.
#[derive(Clone)]
pub struct World {
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

impl World {
    fn path(&self, relative: &Path) -> PathBuf {
        path_from(&self.base, relative)
    }
}

/// A path in the input: below the home folder (`~/…`), or relative to the folder of the input.
fn path_from(base: &Path, relative: &Path) -> PathBuf {
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
pub async fn lock(
    world: &World,
    input: &Input,
    previous: Option<&Lock>,
    upgrade: &Upgrade,
) -> Result<Lock> {
    // Keeps `store gc` from removing what is read meanwhile: no root refers to it before `publish`.
    let _session = world.store.session().map_err(Error::Store)?;
    let pins = Pins::new(previous, upgrade, &world.store);
    if let Some(unknown) = pins.unknown_names().first() {
        return Err(Error::Upgrade { name: (*unknown).to_owned() });
    }
    let mut problems = Vec::new();
    let charts = charts::resolve(world, input, &pins, &mut problems).await;
    let images = images::resolve(world, input, &pins, &charts, &mut problems).await;
    let models = models::resolve(world, input, &pins, &mut problems).await;
    let files = files::resolve(world, input, &mut problems).await;
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
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
