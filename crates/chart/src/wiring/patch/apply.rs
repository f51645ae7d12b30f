//! Applies patches to the text of rendered manifests. New list items go to the front of their list,
//! in one line of JSON, which needs no knowledge of the list's indentation; other values are
//! changed in place.

use serde_json::{Map, Value, json};

use super::{ContainerPatch, Patch, Patches};
use crate::find::pods;
use crate::manifest::{Manifests, parse};
use crate::path::Path;
use crate::post_render::insert;
use crate::{Error, Result};

/// One edit of a document.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// Adds an item at the front of a list that is not empty.
    Item { list: Path, item: Value },
    /// Adds a key to a map.
    Key { map: Path, key: String, value: Value },
    /// Replaces a scalar, or an empty list.
    Scalar { at: Path, to: Value },
}

/// Applies all patches to a stream of documents.
pub(super) fn apply(patches: &Patches, stream: &str) -> Result<String> {
    let manifests = Manifests::read(stream);
    if let Some(unread) = manifests.unread.first() {
        return Err(Error::Unread {
            template: unread.template.clone().unwrap_or_else(|| "a rendered document".into()),
            line: unread.line,
            reason: unread.reason.clone(),
        });
    }
    let mut edited = stream.to_owned();
    let mut met = vec![false; patches.patches.len()];
    // From the back, so that what is edited does not move what is still to come.
    for (index, range) in manifests.ranges(stream).into_iter().enumerate().rev() {
        let document = &manifests.documents[index];
        let mut text = document.text.clone();
        let mut value = document.value.clone();
        for (number, patch) in patches.patches.iter().enumerate() {
            let mut object = None;
            pods::objects(&document.value, &Path::default(), &mut |own, path| {
                if is_of(patch, own) {
                    object = Some(path.clone());
                }
            });
            let Some(object) = object else { continue };
            met[number] = true;
            // Edits refer to the document as the edits before left it, so the parsed value is
            // edited along with the text.
            for change in changes(patch, &value, &object)? {
                text = written(&text, &change).ok_or_else(|| refused(patch, &change))?;
                change.make(&mut value);
            }
        }
        if text != document.text {
            // The proof: the edited text parses to what the patches describe, and nothing else.
            if parse(&text).ok().as_ref() != Some(&value) {
                let reason =
                    "the patched text does not parse to what the patches describe; this is a \
                              bug in Gantry, please report it"
                        .to_owned();
                return Err(Error::File { file: document.name().to_owned(), reason });
            }
            edited.replace_range(range, &text);
        }
    }
    let absent = patches.patches.iter().zip(&met).find(|(patch, met)| !**met && !patch.hook);
    match absent {
        Some((patch, _)) => Err(Error::File {
            file: format!("{} {}", patch.kind, patch.name),
            reason: "the patch file changes it, but it is not in the manifests; write the patch \
                     file again for this chart and these values: gantry relocate … --offline --patches FILE"
                .into(),
        }),
        None => Ok(edited),
    }
}

/// Whether a patch is for this object.
fn is_of(patch: &Patch, object: &Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str);
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    kind == Some(patch.kind.as_str()) && name == Some(patch.name.as_str())
}

/// The error where the editor cannot make an edit.
fn refused(patch: &Patch, change: &Change) -> Error {
    let place = match change {
        Change::Item { list, .. } => list,
        Change::Key { map, .. } => map,
        Change::Scalar { at, .. } => at,
    };
    Error::File {
        file: format!("{} {}", patch.kind, patch.name),
        reason: format!(
            "{place} cannot be patched, because its YAML has an anchor or an alias; change the \
             template instead"
        ),
    }
}

/// The edits that a patch makes to the object at the path `object`. What is there already needs no
/// edit.
fn changes(patch: &Patch, document: &Value, object: &Path) -> Result<Vec<Change>> {
    let mut all = Vec::new();
    let below =
        |path: &Path, keys: &[&str]| keys.iter().fold(path.clone(), |path, key| path.key(*key));
    let metadata = below(object, &["metadata"]);
    let mut annotations = document_at(document, &metadata.key("annotations")).cloned();
    for (name, value) in &patch.annotations {
        let map = metadata.key("annotations");
        match annotations.as_ref().and_then(|own| own.get(name)) {
            Some(own) if own == value => {}
            Some(_) => all.push(Change::Scalar { at: map.key(name), to: json!(value) }),
            None if annotations.as_ref().is_some_and(Value::is_object) => {
                all.push(Change::Key { map, key: name.clone(), value: json!(value) });
            }
            // The first annotation makes the map; further ones are added to it.
            None => {
                let value = json!({name: value});
                annotations = Some(value.clone());
                let key = "annotations".to_owned();
                all.push(Change::Key { map: metadata.clone(), key, value });
            }
        }
    }
    if patch.containers.is_empty() && patch.volumes.is_empty() {
        return Ok(all);
    }
    let to_spec = pods::spec_path(&patch.kind).unwrap_or_default();
    let spec = to_spec.steps().iter().fold(object.clone(), |path, step| path.then(step.clone()));
    let Some(pod) = document_at(document, &spec) else { return Err(absent(patch, "pod template")) };
    items(document, &spec, "volumes", &patch.volumes, &mut all);
    for own in &patch.containers {
        let mut found = None;
        pods::containers(pod, &spec, &mut |container, path| {
            if container.get("name").and_then(Value::as_str) == Some(own.name.as_str()) {
                found = Some(path.clone());
            }
        });
        let path = found.ok_or_else(|| absent(patch, &format!("container {}", own.name)))?;
        in_container(own, document, &path, &mut all);
    }
    Ok(all)
}

/// The error where an object does not have the pod or container that a patch changes.
fn absent(patch: &Patch, what: &str) -> Error {
    Error::File {
        file: format!("{} {}", patch.kind, patch.name),
        reason: format!(
            "it has no {what}, which the patch file changes; write the patch file again for this \
             chart and these values: gantry relocate … --offline --patches FILE"
        ),
    }
}

/// Adds the edits of one container, at `path`.
fn in_container(patch: &ContainerPatch, document: &Value, path: &Path, all: &mut Vec<Change>) {
    let env = path.key("env");
    let own = document_at(document, &env).and_then(Value::as_array);
    let mut fresh = Vec::new();
    for (name, value) in &patch.env {
        let has_name = |item: &Value| item.get("name").and_then(Value::as_str) == Some(name);
        match own.and_then(|own| own.iter().position(has_name)) {
            Some(index) => {
                let at = env.index(index).key("value");
                let current = document_at(document, &at).and_then(Value::as_str);
                if current != Some(value) {
                    all.push(Change::Scalar { at, to: json!(value) });
                }
            }
            None => fresh.push(json!({"name": name, "value": value})),
        }
    }
    // Changes in place come before additions, since each addition moves the items behind it.
    items(document, path, "env", &fresh, all);
    items(document, path, "volumeMounts", &patch.volume_mounts, all);
}

/// Adds the edits for the wanted items that a list does not have yet.
fn items(document: &Value, parent: &Path, key: &str, wanted: &[Value], all: &mut Vec<Change>) {
    let list = parent.key(key);
    let own = document_at(document, &list);
    let has = |item: &&Value| !own.and_then(Value::as_array).is_some_and(|own| own.contains(item));
    let fresh: Vec<&Value> = wanted.iter().filter(has).collect();
    match own {
        Some(Value::Array(own)) if !own.is_empty() => {
            // Each goes to the front, so the last one is added first.
            let changes = fresh.into_iter().rev();
            all.extend(changes.map(|item| Change::Item { list: list.clone(), item: item.clone() }));
        }
        Some(_) if !fresh.is_empty() => {
            all.push(Change::Scalar { at: list, to: json!(fresh) });
        }
        None if !fresh.is_empty() => {
            let (map, key) = (parent.clone(), key.to_owned());
            all.push(Change::Key { map, key, value: json!(fresh) });
        }
        _ => {}
    }
}

/// The value at a path of a document.
fn document_at<'a>(document: &'a Value, path: &Path) -> Option<&'a Value> {
    path.find(document)
}

/// The text of a document after an edit; `None` if the editor cannot make it.
fn written(text: &str, change: &Change) -> Option<String> {
    match change {
        Change::Item { list, item } => insert::item(text, list.steps(), item),
        Change::Key { map, key, value } => insert::key(text, map.steps(), key, value),
        Change::Scalar { at, to } => insert::scalar(text, at.steps(), &to.to_string()),
    }
}

impl Change {
    /// Makes the edit in the parsed document.
    fn make(&self, document: &mut Value) {
        match self {
            Self::Item { list, item } => {
                if let Some(Value::Array(items)) = at(document, list) {
                    items.insert(0, item.clone());
                }
            }
            Self::Key { map, key, value } => {
                if let Some(Value::Object(map)) = at(document, map) {
                    // The text has the new key first, too, and the order is compared.
                    let mut with = Map::new();
                    with.insert(key.clone(), value.clone());
                    with.extend(std::mem::take(map));
                    *map = with;
                }
            }
            Self::Scalar { at: path, to } => {
                if let Some(value) = at(document, path) {
                    *value = to.clone();
                }
            }
        }
    }
}

/// The value at a path, to be changed.
fn at<'a>(value: &'a mut Value, path: &Path) -> Option<&'a mut Value> {
    path.steps().iter().try_fold(value, |value, step| match step {
        crate::path::Step::Key(key) => value.get_mut(key),
        crate::path::Step::Index(index) => value.get_mut(index),
        crate::path::Step::Inside(_) => None,
    })
}
