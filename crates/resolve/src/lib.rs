//! From `gantry.yaml` to `gantry.lock`: charts rendered and searched for images, tags to digests,
//! revisions to commits, and everything that is on this machine taken into the store. And from a
//! lock to what is to be fetched.

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

/// Things that are looked up at once: mostly waiting for answers, so more than transfers.
const LOOKUPS: usize = 8;

/// What resolving works with.
#[derive(Clone)]
pub struct World {
    /// The way out.
    pub client: Client,
    /// Where hosts really are.
    pub mirrors: Mirrors,
    /// Where what was read is kept.
    pub store: Store,
    /// The folder of `gantry.yaml`; its paths are relative to it.
    pub base: PathBuf,
    /// Who is told how it goes.
    pub progress: Arc<dyn Progress>,
}

impl World {
    fn path(&self, relative: &Path) -> PathBuf {
        path_from(&self.base, relative)
    }
}

/// A path of the input: below the home folder, or relative to the input's folder.
fn path_from(base: &Path, relative: &Path) -> PathBuf {
    let home = relative.strip_prefix("~").ok().zip(std::env::home_dir());
    match home {
        Some((rest, home)) => home.join(rest),
        None if base == Path::new(".") => relative.to_owned(),
        None => base.join(relative),
    }
}

/// Resolves an input. What `previous` has pinned stays as it is, unless `upgrade` says otherwise.
/// Every problem is reported, not only the first.
pub async fn lock(
    world: &World,
    input: &Input,
    previous: Option<&Lock>,
    upgrade: &Upgrade,
) -> Result<Lock> {
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

/// Disk work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
