//! Locks an input: charts first, then the images that they name, models and files.

use types::input::Input;
use types::lock::{self, Lock};

use crate::pins::LockPins;
use crate::{
    Error, ResolveContext, Result, UpgradeSelection, charts, collisions, files, images, models,
    requests,
};

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
        requests: requests::list_requests(&world.base, input)?,
        charts: charts.into_iter().map(|chart| chart.locked).collect(),
        images,
        models,
        files,
    };
    lock.sort();
    collisions::check_names(&lock)?;
    Ok(lock)
}
