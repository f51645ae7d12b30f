//! Locks an input: charts and manifests first, then the images that they name, models and files.

use std::collections::{BTreeSet, HashSet};

use types::Reference;
use types::input::Input;
use types::lock::{self, Lock};

use crate::pins::LockPins;
use crate::{
    Error, LeftOutImage, ResolveContext, Result, UpgradeSelection, charts, collisions, files,
    images, manifests, models, possible_images, requests,
};

/// A lock, and what its releases name that is not in it.
#[derive(Debug)]
pub struct LockedInput {
    /// The lock.
    pub lock: Lock,
    /// The images that are left out, sorted by release and name.
    pub left_out: Vec<LeftOutImage>,
}

/// Resolves an input to a lock. What `previous` has pinned stays as it is, except what `upgrade`
/// selects.
///
/// # Errors
/// [`Error::Several`] has all problems, not only the first; [`Error::NameCollision`] where two entries
/// give one name to different content.
pub async fn lock_input(
    world: &ResolveContext,
    input: &Input,
    previous: Option<&Lock>,
    upgrade: &UpgradeSelection,
) -> Result<LockedInput> {
    // Keeps `store gc` from removing what is read meanwhile: no root refers to it before `publish`.
    let _session = world.store.open_session().map_err(Error::Store)?;
    let pins = LockPins::new(previous, upgrade, &world.store);
    if let Some(unknown) = pins.find_unknown_names().first() {
        return Err(Error::Upgrade { name: (*unknown).to_owned() });
    }
    let mut problems = Vec::new();
    let mut common = BTreeSet::new();
    let mut charts = charts::resolve_charts(world, input, &pins, &mut common, &mut problems).await;
    let mut manifests =
        manifests::resolve_manifests(world, input, &mut common, &mut problems).await;
    // A release that failed may have the image that a pattern of the input is for.
    if problems.is_empty() {
        possible_images::check_common_patterns(input, &common, &mut problems);
    }
    let named: Vec<_> = charts
        .iter()
        .map(|chart| &chart.images)
        .chain(manifests.iter().map(|set| &set.images))
        .collect();
    let resolved = images::resolve_images(world, input, &pins, &named, &mut problems).await;
    let models = models::resolve_models(world, input, &pins, &mut problems).await;
    let files = files::resolve_files(world, input, &mut problems).await;
    if !problems.is_empty() {
        return Err(Error::Several(problems));
    }
    let mut left_out = resolved.left_out;
    let named = charts.iter_mut().map(|chart| &mut chart.images);
    let named = named.chain(manifests.iter_mut().map(|set| &mut set.images));
    left_out.extend(named.flat_map(|images| std::mem::take(&mut images.left_out)));
    manifests::check_objects(&manifests)?;
    let mut lock = Lock {
        version: lock::VERSION,
        name: input.name.clone(),
        platforms: input.platforms.clone(),
        requests: requests::list_requests(&world.base, input)?,
        charts: charts.into_iter().map(|chart| chart.locked).collect(),
        manifests: manifests.into_iter().map(|set| set.locked).collect(),
        images: resolved.images,
        models,
        files,
    };
    lock.sort();
    collisions::check_names(&lock)?;
    // The same image may come from two archives.
    lock.images.dedup_by(|a, b| a.reference == b.reference);
    Ok(LockedInput { left_out: list_left_out(left_out, &lock), lock })
}

/// What is left out, each once, without what the lock has for another chart or by name.
fn list_left_out(mut left_out: Vec<LeftOutImage>, lock: &Lock) -> Vec<LeftOutImage> {
    let locked: HashSet<&Reference> = lock.images.iter().map(|image| &image.reference).collect();
    left_out.retain(|image| !locked.contains(&image.reference));
    left_out.sort();
    left_out.dedup_by(|a, b| a.release == b.release && a.reference == b.reference);
    left_out
}
