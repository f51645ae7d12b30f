//! Compares the deployed revision of a release with the one that an upgrade would install. Charts
//! that generate passwords or certificates render different ones every time; fields that differ
//! between two renders of the same values therefore do not count as a change.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::ObjectId;
use remote::helm::record::ReleaseRevision;
use serde::Serialize;
use serde_json::Value;

use super::diff;
use super::objects::{self, RenderedObject};
use crate::Result;

/// An object that a deploy would create, change or delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectDifference {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectId,
    /// What would happen to it.
    pub change: ObjectChange,
    /// The changed lines as a unified diff, without the values of Secrets.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub diff: String,
}

/// What a deploy does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ObjectChange {
    /// It is created.
    Created,
    /// It is changed.
    Changed,
    /// It is deleted.
    Removed,
}

/// Where two renders differ: the object, the JSON pointer of the field, and in a multi-line string
/// the number of the line.
type FieldLocation = (ObjectId, String, Option<usize>);

/// Lists the objects of a revision, hooks included.
pub(super) fn list_revision_objects(revision: &ReleaseRevision) -> Result<Vec<RenderedObject>> {
    let mut all = objects::read_objects(&revision.manifest, &revision.namespace)?;
    for hook in &revision.hooks {
        all.extend(objects::read_objects(&hook.manifest, &revision.namespace)?);
    }
    Ok(all)
}

/// Lists the objects that differ between two revisions.
pub(super) fn find_differences(
    before: &[RenderedObject],
    after: &[RenderedObject],
) -> Vec<ObjectDifference> {
    let (old, new) = (index_by_id(before), index_by_id(after));
    let ids: BTreeSet<&ObjectId> = old.keys().chain(new.keys()).copied().collect();
    ids.into_iter()
        .filter_map(|id| {
            let (old, new) = (old.get(id).copied(), new.get(id).copied());
            if old == new {
                return None;
            }
            let change = match (old, new) {
                (None, _) => ObjectChange::Created,
                (_, None) => ObjectChange::Removed,
                _ => ObjectChange::Changed,
            };
            Some(ObjectDifference {
                object: id.clone(),
                change,
                diff: diff::print_unified_diff(old, new),
            })
        })
        .collect()
}

/// Whether every difference between `before` and `after` is in a field that also differs between
/// two renders of the same input, `after` and `again`.
pub(crate) fn is_render_noise(
    before: &[RenderedObject],
    after: &[RenderedObject],
    again: &[RenderedObject],
) -> bool {
    find_changed_fields(before, after).is_subset(&find_changed_fields(after, again))
}

fn index_by_id(objects: &[RenderedObject]) -> BTreeMap<&ObjectId, &Value> {
    objects.iter().map(|object| (&object.id, &object.value)).collect()
}

fn find_changed_fields(
    before: &[RenderedObject],
    after: &[RenderedObject],
) -> BTreeSet<FieldLocation> {
    let (old, new) = (index_by_id(before), index_by_id(after));
    let mut spots = BTreeSet::new();
    for id in old.keys().chain(new.keys()) {
        let mut note = |path: &str, line| {
            spots.insert(((*id).clone(), path.to_owned(), line));
        };
        match (old.get(id), new.get(id)) {
            (Some(old), Some(new)) => walk_values(old, new, "", id.kind == "Secret", &mut note),
            // An object that exists on one side only can never be noise of a generated value.
            _ => note("", None),
        }
    }
    spots
}

fn walk_values(
    old: &Value,
    new: &Value,
    path: &str,
    is_secret: bool,
    note: &mut dyn FnMut(&str, Option<usize>),
) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            for (key, old) in a {
                let new = b.get(key).unwrap_or(&Value::Null);
                walk_values(old, new, &format!("{path}/{key}"), is_secret, note);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (old, new)) in a.iter().zip(b).enumerate() {
                walk_values(old, new, &format!("{path}/{index}"), is_secret, note);
            }
        }
        (Value::String(a), Value::String(b)) => {
            // A Secret may hold a configuration file in base64 of which one line is a password:
            // compare the lines of the text inside.
            let decoded = (is_secret && path.starts_with("/data/"))
                .then(|| decode_base64(a).zip(decode_base64(b)))
                .flatten();
            let (a, b) = decoded.as_ref().map_or((a, b), |(a, b)| (a, b));
            if a.lines().count() != b.lines().count() {
                return note(path, None);
            }
            for (line, (a, b)) in a.lines().zip(b.lines()).enumerate() {
                if a != b {
                    note(path, Some(line));
                }
            }
        }
        // Another type, other keys or another length: the whole field counts, since its parts have
        // no counterparts to be compared with.
        _ => note(path, None),
    }
}

fn decode_base64(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_sample_objects(stream: &str) -> Vec<RenderedObject> {
        objects::read_objects(stream, "n").unwrap()
    }

    fn render_sample_release(password: &str, replicas: u32) -> Vec<RenderedObject> {
        read_sample_objects(&format!(
            "kind: Secret\napiVersion: v1\nmetadata: {{name: s}}\ndata: {{password: {}}}\n---\n\
             kind: Deployment\napiVersion: apps/v1\nmetadata: {{name: d}}\nspec: {{replicas: {replicas}, \
             sum: '{password}'}}\n",
            STANDARD.encode(password)
        ))
    }

    #[test]
    fn what_is_made_up_anew_in_each_render_is_no_change() {
        let (before, after, again) = (
            render_sample_release("a", 1),
            render_sample_release("b", 1),
            render_sample_release("c", 1),
        );
        assert!(is_render_noise(&before, &after, &again));
        let (after, again) = (render_sample_release("b", 2), render_sample_release("c", 2));
        assert!(!is_render_noise(&before, &after, &again));
        assert!(is_render_noise(&before, &before, &before));
    }

    #[test]
    fn differences_are_told_by_object_without_the_values_of_secrets() {
        let mut after = render_sample_release("hunter2", 2);
        after.push(
            read_sample_objects("kind: ConfigMap\napiVersion: v1\nmetadata: {name: new}\n")
                .remove(0),
        );

        let all = find_differences(&render_sample_release("swordfish", 1), &after);

        let told: Vec<_> = all.iter().map(|one| (one.object.to_string(), one.change)).collect();
        assert_eq!(
            told,
            [
                ("Deployment n/d".to_owned(), ObjectChange::Changed),
                ("ConfigMap n/new".to_owned(), ObjectChange::Created),
                ("Secret n/s".to_owned(), ObjectChange::Changed),
            ]
        );
        assert!(all[0].diff.contains("-  replicas: 1\n"), "{}", all[0].diff);
        assert!(all[0].diff.contains("+  replicas: 2\n"), "{}", all[0].diff);
        assert!(!all[2].diff.contains(&STANDARD.encode("hunter2")), "{}", all[2].diff);
        assert!(all[2].diff.contains("password"), "{}", all[2].diff);
    }
}
