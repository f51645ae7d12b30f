//! Proves the offline overlay: every entry that it adds is removed from the new render again, and
//! what is left has to be the old render, leaf by leaf.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::entries::{ContainerMount, EnvironmentVariable, PodVolume};
use super::pods::{SpecLocation, text_field};
use crate::path::DocumentPath;
use crate::proof::differences::find_differences;
use crate::proof::expected_changes::is_changed_hash;
use crate::taint::indexed_render::IndexedRender;

/// The entries that an overlay adds through values, by container or pod.
#[derive(Debug, Default)]
pub(super) struct SuppliedEntries {
    pub(super) env: BTreeMap<SpecLocation, Vec<EnvironmentVariable>>,
    pub(super) mounts: BTreeMap<SpecLocation, Vec<ContainerMount>>,
    pub(super) volumes: BTreeMap<SpecLocation, Vec<PodVolume>>,
    /// The variables that go through ConfigMaps: checksum annotations change with them.
    pub(super) config: BTreeSet<EnvironmentVariable>,
}

/// What is wrong with a render, as messages; empty if the proof holds. `volatile` are the leaves
/// that differ from render to render.
pub(super) fn find_refutations(
    before: &IndexedRender,
    after: &IndexedRender,
    given: &SuppliedEntries,
    volatile: &BTreeSet<(usize, DocumentPath)>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let (documents, others) = (&before.manifests.documents, &after.manifests.documents);
    if documents.len() != others.len() {
        wrong.push(format!(
            "the number of documents changes from {} to {}",
            documents.len(),
            others.len()
        ));
    }
    for (index, document) in documents.iter().enumerate() {
        let name = format!("{} {}", document.kind(), document.name());
        let Some(same) = after.find_same_document(before, index) else {
            wrong.push(format!("{name} is missing"));
            continue;
        };
        let other = &others[same];
        let is_own = |spot: &&SpecLocation| spot.0 == index;
        let mut spots = given.env.keys().chain(given.mounts.keys()).chain(given.volumes.keys());
        let is_given = spots.any(|spot| is_own(&spot));
        // A document that should have entries and is unchanged is wrong too.
        if document.text == other.text && !is_given {
            continue;
        }
        let mut value = other.value.clone();
        wrong.extend(
            remove_supplied(&mut value, index, given).map(|what| format!("{name}: {what}")),
        );
        if document.kind() == "ConfigMap" {
            remove_supplied_config(&mut value, &document.value, given);
        }
        for difference in find_differences(&document.value, &value) {
            let key = difference.path.last_key().unwrap_or_default();
            let side = |text: &Option<String>| text.clone().unwrap_or_default();
            // Pods restart when their ConfigMap changes, by a checksum in an annotation.
            let is_sum = !given.config.is_empty()
                && is_changed_hash(key, &side(&difference.before), &side(&difference.after));
            // A list that was empty before goes away as a whole when its entries are removed.
            let was_empty = matches!(difference.before.as_deref(), Some("[]" | "null"))
                && difference.after.is_none();
            let is_volatile = volatile.contains(&(index, difference.path.clone()));
            if !is_sum && !was_empty && !is_volatile {
                wrong.push(format!("{name}: {} also changes", difference.path));
            }
        }
    }
    wrong
}

/// Removes the added entries from a document. Returns messages for those that were not there.
fn remove_supplied(
    value: &mut Value,
    document: usize,
    given: &SuppliedEntries,
) -> impl Iterator<Item = String> + use<> {
    let mut missing = Vec::new();
    let own = |spot: &SpecLocation| spot.0 == document;
    for (spot, all) in given.env.iter().filter(|(spot, _)| own(spot)) {
        for env in all.iter().filter(|env| !given.config.contains(env)) {
            let is_it = |item: &Value| {
                text_field(item, "name") == env.name && text_field(item, "value") == env.value
            };
            if !remove_one_item(value, &spot.1, "env", &is_it) {
                missing.push(format!("the variable {} is not rendered", env.name));
            }
        }
    }
    for (spot, all) in given.mounts.iter().filter(|(spot, _)| own(spot)) {
        for mount in all {
            if !remove_one_item(value, &spot.1, "volumeMounts", &|item| *item == mount.to_value()) {
                missing.push(format!("the mount {} is not rendered", mount.volume));
            }
        }
    }
    for (spot, all) in given.volumes.iter().filter(|(spot, _)| own(spot)) {
        for volume in all {
            if !remove_one_item(value, &spot.1, "volumes", &|item| *item == volume.to_value()) {
                missing.push(format!("the volume {} is not rendered", volume.name));
            }
        }
    }
    missing.into_iter()
}

/// Removes an item from a list, and the list if that was its only item. Returns `false` if the list
/// did not have the item exactly once: twice is wrong as well.
fn remove_one_item(
    value: &mut Value,
    path: &DocumentPath,
    key: &str,
    is_it: &dyn Fn(&Value) -> bool,
) -> bool {
    let Some(map) = path.find_value_mut(value).and_then(Value::as_object_mut) else { return false };
    let Some(items) = map.get_mut(key).and_then(Value::as_array_mut) else { return false };
    let before = items.len();
    items.retain(|item| !is_it(item));
    let is_one = before == items.len() + 1;
    if items.is_empty() {
        map.shift_remove(key);
    }
    is_one
}

/// Removes the added variables from a ConfigMap that did not have them before.
fn remove_supplied_config(value: &mut Value, before: &Value, given: &SuppliedEntries) {
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
