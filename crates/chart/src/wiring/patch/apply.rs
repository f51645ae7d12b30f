//! Applies patches to the text of rendered manifests. New list items go to the front of their list,
//! in one line of JSON, which needs no knowledge of the list's indentation; other values are
//! changed in place.

use serde_json::{Value, json};

use super::file::{ContainerPatch, ObjectPatch, PatchFile};
use crate::edit::document_edit::DocumentEdit;
use crate::find::pods;
use crate::manifest::{Manifests, parse_yaml};
use crate::path::DocumentPath;
use crate::{Error, Result};

/// What to do where the patches do not fit the manifests.
const WRITE_AGAIN: &str = "write the patch file again for this chart and these values: gantry \
                           relocate … --offline --patches FILE";

impl PatchFile {
    /// Applies the patches to rendered manifests. Applying them again changes nothing.
    ///
    /// # Errors
    /// An object or a container is missing, or the YAML at a location cannot be edited (an anchor
    /// or alias).
    pub fn apply(&self, stream: &str) -> Result<String> {
        let manifests = Manifests::read(stream);
        if let Some(unread) = manifests.unread.first() {
            return Err(Error::Unread {
                template: unread.template.clone().unwrap_or_else(|| "a rendered document".into()),
                line: unread.line,
                fault: unread.reason.clone(),
            });
        }
        let mut edited = stream.to_owned();
        let mut met = vec![false; self.patches.len()];
        // From the back, so that what is edited does not move what is still to come.
        for (index, range) in manifests.document_ranges(stream).into_iter().enumerate().rev() {
            let document = &manifests.documents[index];
            let mut text = document.text.clone();
            let mut value = document.value.clone();
            for (number, patch) in self.patches.iter().enumerate() {
                let mut object = None;
                pods::visit_objects(&document.value, &DocumentPath::default(), &mut |own, path| {
                    if is_patch_for(patch, own) {
                        object = Some(path.clone());
                    }
                });
                let Some(object) = object else { continue };
                met[number] = true;
                // Edits refer to the document as the edits before left it, so the parsed value is
                // edited along with the text.
                for change in list_edits(patch, &value, &object)? {
                    text = change
                        .apply_to_text(&text)
                        .ok_or_else(|| unpatchable_error(patch, &change))?;
                    change.apply_to_value(&mut value);
                }
            }
            if text != document.text {
                // The proof: the edited text parses to what the patches describe, and nothing else.
                if parse_yaml(&text).ok().as_ref() != Some(&value) {
                    let object = format!("{} {}", document.kind(), document.name());
                    let reason = "the patched text does not parse to what the patches describe; \
                                  this is a bug in Gantry, please report it";
                    return Err(Error::Patch { object, reason: reason.to_owned() });
                }
                edited.replace_range(range, &text);
            }
        }
        let absent = self.patches.iter().zip(&met).find(|(patch, met)| !**met && !patch.hook);
        match absent {
            Some((patch, _)) => {
                Err(patch_error(patch, format!("it is not in the manifests; {WRITE_AGAIN}")))
            }
            None => Ok(edited),
        }
    }
}

/// Whether a patch is for this object.
fn is_patch_for(patch: &ObjectPatch, object: &Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str);
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    // Two objects of one name differ in their namespaces. A patch without one is for the object that
    // names none, or for the only one.
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let is_in_namespace = patch.namespace.is_none() || patch.namespace.as_deref() == namespace;
    kind == Some(patch.kind.as_str()) && name == Some(patch.name.as_str()) && is_in_namespace
}

/// The error where the editor cannot make an edit.
fn unpatchable_error(patch: &ObjectPatch, change: &DocumentEdit) -> Error {
    let place = match change {
        DocumentEdit::Item { list, .. } => list,
        DocumentEdit::Key { map, .. } => map,
        DocumentEdit::Scalar { at, .. } => at,
    };
    let reason =
        format!("its YAML has an anchor or an alias at {place}; change the template instead");
    patch_error(patch, reason)
}

/// The error where a patch cannot be applied to its object.
fn patch_error(patch: &ObjectPatch, reason: String) -> Error {
    Error::Patch { object: format!("{} {}", patch.kind, patch.name), reason }
}

/// The edits that a patch makes to the object at the path `object`. What is there already needs no
/// edit.
fn list_edits(
    patch: &ObjectPatch,
    document: &Value,
    object: &DocumentPath,
) -> Result<Vec<DocumentEdit>> {
    let mut all = Vec::new();
    let metadata = object.key("metadata");
    let mut annotations = metadata.key("annotations").find_value(document).cloned();
    for (name, value) in &patch.annotations {
        let map = metadata.key("annotations");
        match annotations.as_ref().and_then(|own| own.get(name)) {
            Some(own) if own == value => {}
            Some(_) => all.push(DocumentEdit::Scalar { at: map.key(name), to: json!(value) }),
            None if annotations.as_ref().is_some_and(Value::is_object) => {
                all.push(DocumentEdit::Key { map, key: name.clone(), value: json!(value) });
            }
            // The first annotation makes the map; further ones are added to it.
            None => {
                let value = json!({name: value});
                annotations = Some(value.clone());
                let key = "annotations".to_owned();
                all.push(DocumentEdit::Key { map: metadata.clone(), key, value });
            }
        }
    }
    if patch.containers.is_empty() && patch.volumes.is_empty() {
        return Ok(all);
    }
    let to_spec = pods::pod_spec_path(&patch.kind).unwrap_or_default();
    let spec = object.join(&to_spec);
    let Some(pod) = spec.find_value(document) else {
        return Err(absent_error(patch, "pod template"));
    };
    add_list_edits(document, &spec, "volumes", &patch.volumes, &mut all);
    for own in &patch.containers {
        let mut found = None;
        pods::visit_containers(pod, &spec, &mut |container, path| {
            if container.get("name").and_then(Value::as_str) == Some(own.name.as_str()) {
                found = Some(path.clone());
            }
        });
        let path = found.ok_or_else(|| absent_error(patch, &format!("container {}", own.name)))?;
        add_container_edits(own, document, &path, &mut all);
    }
    Ok(all)
}

/// The error where an object does not have the pod or container that a patch changes.
fn absent_error(patch: &ObjectPatch, what: &str) -> Error {
    patch_error(patch, format!("it has no {what}; {WRITE_AGAIN}"))
}

/// Adds the edits of one container, at `path`.
fn add_container_edits(
    patch: &ContainerPatch,
    document: &Value,
    path: &DocumentPath,
    all: &mut Vec<DocumentEdit>,
) {
    let env = path.key("env");
    let own = env.find_value(document).and_then(Value::as_array);
    let mut fresh = Vec::new();
    for (name, value) in &patch.env {
        let has_name = |item: &Value| item.get("name").and_then(Value::as_str) == Some(name);
        match own.and_then(|own| own.iter().position(has_name)) {
            Some(index) => {
                let at = env.index(index).key("value");
                let current = at.find_value(document).and_then(Value::as_str);
                if current != Some(value) {
                    all.push(DocumentEdit::Scalar { at, to: json!(value) });
                }
            }
            None => fresh.push(json!({"name": name, "value": value})),
        }
    }
    // Changes in place come before additions, since each addition moves the items behind it.
    add_list_edits(document, path, "env", &fresh, all);
    add_list_edits(document, path, "volumeMounts", &patch.volume_mounts, all);
}

/// Adds the edits for the wanted items that a list does not have yet.
fn add_list_edits(
    document: &Value,
    parent: &DocumentPath,
    key: &str,
    wanted: &[Value],
    all: &mut Vec<DocumentEdit>,
) {
    let list = parent.key(key);
    let own = list.find_value(document);
    let has = |item: &&Value| !own.and_then(Value::as_array).is_some_and(|own| own.contains(item));
    let fresh: Vec<&Value> = wanted.iter().filter(has).collect();
    match own {
        Some(Value::Array(own)) if !own.is_empty() => {
            // Each goes to the front, so the last one is added first.
            let changes = fresh.into_iter().rev();
            all.extend(
                changes.map(|item| DocumentEdit::Item { list: list.clone(), item: item.clone() }),
            );
        }
        Some(_) if !fresh.is_empty() => {
            all.push(DocumentEdit::Scalar { at: list, to: json!(fresh) });
        }
        None if !fresh.is_empty() => {
            let (map, key) = (parent.clone(), key.to_owned());
            all.push(DocumentEdit::Key { map, key, value: json!(fresh) });
        }
        _ => {}
    }
}
