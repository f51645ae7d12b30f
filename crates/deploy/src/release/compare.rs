//! Compares the deployed revision of a release with the one that an upgrade would install. Charts
//! that generate passwords or certificates render different ones every time; fields that differ
//! between two renders of the same values therefore do not count as a change.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::Id;
use remote::helm::record::Revision;
use serde::Serialize;
use serde_json::Value;

use super::diff;
use super::error::Result;
use super::objects::{self, Rendered};

/// An object that a deploy would create, change or delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The object.
    pub object: Id,
    /// What would happen to it.
    pub change: Change,
    /// The changed lines as a unified diff, without the values of Secrets.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub diff: String,
}

/// What a deploy does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is created.
    Created,
    /// It is changed.
    Changed,
    /// It is deleted.
    Removed,
}

/// Where two renders differ: the object, the JSON pointer of the field, and in a multi-line string
/// the number of the line.
type Spot = (Id, String, Option<usize>);

/// Lists the objects of a revision, hooks included.
pub(super) fn all(revision: &Revision) -> Result<Vec<Rendered>> {
    let mut all = objects::read(&revision.manifest, &revision.namespace)?;
    for hook in &revision.hooks {
        all.extend(objects::read(&hook.manifest, &revision.namespace)?);
    }
    Ok(all)
}

/// Lists the objects that differ between two revisions.
pub(super) fn differences(before: &[Rendered], after: &[Rendered]) -> Vec<Difference> {
    let (old, new) = (by_id(before), by_id(after));
    let ids: BTreeSet<&Id> = old.keys().chain(new.keys()).copied().collect();
    ids.into_iter()
        .filter_map(|id| {
            let (old, new) = (old.get(id).copied(), new.get(id).copied());
            if old == new {
                return None;
            }
            let change = match (old, new) {
                (None, _) => Change::Created,
                (_, None) => Change::Removed,
                _ => Change::Changed,
            };
            Some(Difference { object: id.clone(), change, diff: diff::unified(old, new) })
        })
        .collect()
}

/// Whether every difference between `before` and `after` is in a field that also differs between
/// two renders of the same input, `after` and `again`.
pub(super) fn is_noise(before: &[Rendered], after: &[Rendered], again: &[Rendered]) -> bool {
    spots(before, after).is_subset(&spots(after, again))
}

fn by_id(objects: &[Rendered]) -> BTreeMap<&Id, &Value> {
    objects.iter().map(|object| (&object.id, &object.value)).collect()
}

fn spots(before: &[Rendered], after: &[Rendered]) -> BTreeSet<Spot> {
    let (old, new) = (by_id(before), by_id(after));
    let mut spots = BTreeSet::new();
    for id in old.keys().chain(new.keys()) {
        let mut note = |path: &str, line| {
            spots.insert(((*id).clone(), path.to_owned(), line));
        };
        match (old.get(id), new.get(id)) {
            (Some(old), Some(new)) => walk(old, new, "", id.kind == "Secret", &mut note),
            // An object that exists on one side only can never be noise of a generated value.
            _ => note("", None),
        }
    }
    spots
}

fn walk(
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
                walk(old, new, &format!("{path}/{key}"), is_secret, note);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (old, new)) in a.iter().zip(b).enumerate() {
                walk(old, new, &format!("{path}/{index}"), is_secret, note);
            }
        }
        (Value::String(a), Value::String(b)) => {
            // A Secret may hold a configuration file in base64 of which one line is a password:
            // compare the lines of the text inside.
            let decoded =
                (is_secret && path.starts_with("/data/")).then(|| plain(a).zip(plain(b))).flatten();
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

fn plain(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(stream: &str) -> Vec<Rendered> {
        objects::read(stream, "n").unwrap()
    }

    fn release(password: &str, replicas: u32) -> Vec<Rendered> {
        read(&format!(
            "kind: Secret\napiVersion: v1\nmetadata: {{name: s}}\ndata: {{password: {}}}\n---\n\
             kind: Deployment\napiVersion: apps/v1\nmetadata: {{name: d}}\nspec: {{replicas: {replicas}, \
             sum: '{password}'}}\n",
            STANDARD.encode(password)
        ))
    }

    #[test]
    fn what_is_made_up_anew_in_each_render_is_no_change() {
        let (before, after, again) = (release("a", 1), release("b", 1), release("c", 1));
        assert!(is_noise(&before, &after, &again));
        let (after, again) = (release("b", 2), release("c", 2));
        assert!(!is_noise(&before, &after, &again));
        assert!(is_noise(&before, &before, &before));
    }

    #[test]
    fn differences_are_told_by_object_without_the_values_of_secrets() {
        let mut after = release("hunter2", 2);
        after.push(read("kind: ConfigMap\napiVersion: v1\nmetadata: {name: new}\n").remove(0));

        let all = differences(&release("swordfish", 1), &after);

        let told: Vec<_> = all.iter().map(|one| (one.object.to_string(), one.change)).collect();
        assert_eq!(
            told,
            [
                ("Deployment n/d".to_owned(), Change::Changed),
                ("ConfigMap n/new".to_owned(), Change::Created),
                ("Secret n/s".to_owned(), Change::Changed),
            ]
        );
        assert!(all[0].diff.contains("-  replicas: 1\n"), "{}", all[0].diff);
        assert!(all[0].diff.contains("+  replicas: 2\n"), "{}", all[0].diff);
        assert!(!all[2].diff.contains(&STANDARD.encode("hunter2")), "{}", all[2].diff);
        assert!(all[2].diff.contains("password"), "{}", all[2].diff);
    }
}
