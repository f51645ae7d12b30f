//! Applying patches to a stream: what is missing is put in at the front of its list, in one line;
//! what is there otherwise is changed in place.

use serde_json::{Map, Value, json};

use super::{ContainerPatch, Patch, Patches};
use crate::find::pods;
use crate::manifest::{Manifests, parse};
use crate::path::Path;
use crate::post_render::insert;
use crate::{Error, Result};

/// One change of a document.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// An item at the front of a list.
    Item { list: Path, item: Value },
    /// A key of a map that is not there.
    Key { map: Path, key: String, value: Value },
    /// Another scalar.
    Scalar { at: Path, to: Value },
}

pub(super) fn apply(patches: &Patches, stream: &str) -> Result<String> {
    let manifests = Manifests::read(stream);
    if let Some(unread) = manifests.unread.first() {
        return Err(Error::Unread {
            template: unread.template.clone().unwrap_or_else(|| "a document".into()),
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
            // Each change is looked for in what the ones before left.
            for change in changes(patch, &value, &object)? {
                text = written(&text, &change).ok_or_else(|| refused(patch, &change))?;
                change.make(&mut value);
            }
        }
        if text != document.text {
            // What is handed on is what the patches say, and nothing else.
            if parse(&text).ok().as_ref() != Some(&value) {
                let reason =
                    "the patched text does not read as the patches say; this is a defect of \
                              Gantry"
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
            reason: "the patches are for it, and it is not in the manifests; write them anew for \
                     this chart and these values: gantry relocate … --offline --patches FILE"
                .into(),
        }),
        None => Ok(edited),
    }
}

fn is_of(patch: &Patch, object: &Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str);
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    kind == Some(patch.kind.as_str()) && name == Some(patch.name.as_str())
}

fn refused(patch: &Patch, change: &Change) -> Error {
    let place = match change {
        Change::Item { list, .. } => list,
        Change::Key { map, .. } => map,
        Change::Scalar { at, .. } => at,
    };
    Error::File {
        file: format!("{} {}", patch.kind, patch.name),
        reason: format!(
            "{place} is written in a way that cannot be patched (an anchor or an alias); set it in \
             the template"
        ),
    }
}

/// What a patch changes of an object that stands at `object`.
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
    let Some(pod) = document_at(document, &spec) else { return Err(absent(patch, "a pod")) };
    items(document, &spec, "volumes", &patch.volumes, &mut all);
    for own in &patch.containers {
        let mut found = None;
        pods::containers(pod, &spec, &mut |container, path| {
            if container.get("name").and_then(Value::as_str) == Some(own.name.as_str()) {
                found = Some(path.clone());
            }
        });
        let path = found.ok_or_else(|| absent(patch, &format!("the container {}", own.name)))?;
        in_container(own, document, &path, &mut all);
    }
    Ok(all)
}

fn absent(patch: &Patch, what: &str) -> Error {
    Error::File {
        file: format!("{} {}", patch.kind, patch.name),
        reason: format!(
            "it has not got {what} that the patches are for; write them anew for this chart and \
             these values: gantry relocate … --offline --patches FILE"
        ),
    }
}

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
    // What is changed in place goes first: what is put in moves the items behind it.
    items(document, path, "env", &fresh, all);
    items(document, path, "volumeMounts", &patch.volume_mounts, all);
}

/// Items of a list that are not there yet, the first in front.
fn items(document: &Value, parent: &Path, key: &str, wanted: &[Value], all: &mut Vec<Change>) {
    let list = parent.key(key);
    let own = document_at(document, &list);
    let has = |item: &&Value| !own.and_then(Value::as_array).is_some_and(|own| own.contains(item));
    let fresh: Vec<&Value> = wanted.iter().filter(has).collect();
    match own {
        Some(Value::Array(own)) if !own.is_empty() => {
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

fn document_at<'a>(document: &'a Value, path: &Path) -> Option<&'a Value> {
    path.find(document)
}

/// The document with a change, as text.
fn written(text: &str, change: &Change) -> Option<String> {
    match change {
        Change::Item { list, item } => insert::item(text, list.steps(), item),
        Change::Key { map, key, value } => insert::key(text, map.steps(), key, value),
        Change::Scalar { at, to } => insert::scalar(text, at.steps(), &to.to_string()),
    }
}

impl Change {
    /// Makes the change to the parsed document.
    fn make(&self, document: &mut Value) {
        match self {
            Self::Item { list, item } => {
                if let Some(Value::Array(items)) = at(document, list) {
                    items.insert(0, item.clone());
                }
            }
            Self::Key { map, key, value } => {
                if let Some(Value::Object(map)) = at(document, map) {
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

fn at<'a>(value: &'a mut Value, path: &Path) -> Option<&'a mut Value> {
    path.steps().iter().try_fold(value, |value, step| match step {
        crate::path::Step::Key(key) => value.get_mut(key),
        crate::path::Step::Index(index) => value.get_mut(index),
        crate::path::Step::Inside(_) => None,
    })
}
