//! The proof: what the overlay puts in is taken out of the render again, and then it has to be the
//! render before, leaf by leaf.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::mounts::{Mount, Volume};
use super::pods::{Spot, text};
use super::wants::Env;
use crate::path::{Path, Step};
use crate::relocate::difference::differences;
use crate::relocate::explained::is_checksum;
use crate::relocate::rendered::Rendered;

/// What an overlay puts in by values, and where.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) env: BTreeMap<Spot, Vec<Env>>,
    pub(super) mounts: BTreeMap<Spot, Vec<Mount>>,
    pub(super) volumes: BTreeMap<Spot, Vec<Volume>>,
    /// The variables that go through ConfigMaps: their checksums differ too.
    pub(super) config: BTreeSet<Env>,
}

/// What is not as it should be, in words; empty where the proof holds.
pub(super) fn refute(
    before: &Rendered,
    after: &Rendered,
    given: &Given,
    volatile: &BTreeSet<(usize, Path)>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let (documents, others) = (&before.manifests.documents, &after.manifests.documents);
    if documents.len() != others.len() {
        wrong.push(format!("{} documents became {}", documents.len(), others.len()));
    }
    for (index, document) in documents.iter().enumerate() {
        let name = format!("{} {}", document.kind(), document.name());
        let Some(same) = after.same_document(before, index) else {
            wrong.push(format!("{name} is gone"));
            continue;
        };
        let other = &others[same];
        let is_own = |spot: &&Spot| spot.0 == index;
        let mut spots = given.env.keys().chain(given.mounts.keys()).chain(given.volumes.keys());
        let is_given = spots.any(|spot| is_own(&spot));
        if document.text == other.text && !is_given {
            continue;
        }
        let mut value = other.value.clone();
        wrong.extend(taken_out(&mut value, index, given).map(|what| format!("{name}: {what}")));
        if document.kind() == "ConfigMap" {
            without_config(&mut value, &document.value, given);
        }
        for difference in differences(&document.value, &value) {
            let key = difference.path.last_key().unwrap_or_default();
            let sides = [&difference.before, &difference.after];
            let is_sum = !given.config.is_empty()
                && sides.iter().all(|s| s.as_ref().is_some_and(|text| is_checksum(key, text)));
            // An empty list that was filled is gone when what filled it is taken out.
            let was_empty = matches!(difference.before.as_deref(), Some("[]" | "null"))
                && difference.after.is_none();
            let is_volatile = volatile.contains(&(index, difference.path.clone()));
            if !is_sum && !was_empty && !is_volatile {
                wrong.push(format!("{name}: {} changes too", difference.path));
            }
        }
    }
    wrong
}

/// Takes what was given out of a document; tells what was not there.
fn taken_out(
    value: &mut Value,
    document: usize,
    given: &Given,
) -> impl Iterator<Item = String> + use<> {
    let mut missing = Vec::new();
    let own = |spot: &Spot| spot.0 == document;
    for (spot, all) in given.env.iter().filter(|(spot, _)| own(spot)) {
        for env in all.iter().filter(|env| !given.config.contains(env)) {
            let is_it =
                |item: &Value| text(item, "name") == env.name && text(item, "value") == env.value;
            if !taken(value, &spot.1, "env", &is_it) {
                missing.push(format!("{} does not come out", env.name));
            }
        }
    }
    for (spot, all) in given.mounts.iter().filter(|(spot, _)| own(spot)) {
        for mount in all {
            if !taken(value, &spot.1, "volumeMounts", &|item| *item == mount.value()) {
                missing.push(format!("the mount {} does not come out", mount.volume));
            }
        }
    }
    for (spot, all) in given.volumes.iter().filter(|(spot, _)| own(spot)) {
        for volume in all {
            if !taken(value, &spot.1, "volumes", &|item| *item == volume.value()) {
                missing.push(format!("the volume {} does not come out", volume.name));
            }
        }
    }
    missing.into_iter()
}

/// Takes one item out of a list, and the list with it if it was the only one; `false` where it is
/// not there exactly once.
fn taken(value: &mut Value, path: &Path, key: &str, is_it: &dyn Fn(&Value) -> bool) -> bool {
    let Some(map) = at(value, path).and_then(Value::as_object_mut) else { return false };
    let Some(items) = map.get_mut(key).and_then(Value::as_array_mut) else { return false };
    let before = items.len();
    items.retain(|item| !is_it(item));
    let is_one = before == items.len() + 1;
    if items.is_empty() {
        map.shift_remove(key);
    }
    is_one
}

fn at<'a>(value: &'a mut Value, path: &Path) -> Option<&'a mut Value> {
    path.steps().iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
        Step::Inside(_) => None,
    })
}

/// Takes variables out of a ConfigMap that did not have them before.
fn without_config(value: &mut Value, before: &Value, given: &Given) {
    let had = before.get("data").cloned().unwrap_or_default();
    let Some(data) = value.get_mut("data").and_then(Value::as_object_mut) else { return };
    for env in &given.config {
        if had.get(&env.name).is_none()
            && data.get(&env.name) == Some(&Value::from(env.value.as_str()))
        {
            data.shift_remove(&env.name);
        }
    }
}
