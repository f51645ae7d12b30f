//! Values of a chart: reading a values file, merging two as helm does, visiting all leaves, and
//! setting one leaf in an overlay.

use serde_json::{Map, Value};

use crate::path::{DEEPEST_NESTING, DocumentPath, PathStep};
use crate::{Error, Result, manifest};

/// Parses a values file; `name` is its name in errors. An empty file is an empty map; any other
/// document that is not a map is an error.
pub fn read_values(name: &str, text: &str) -> Result<Value> {
    let file = || name.to_owned();
    match manifest::parse_yaml(text).map_err(|fault| Error::InvalidYaml { file: file(), fault })? {
        Value::Null => Ok(Value::Object(Map::new())),
        Value::Object(map) => Ok(Value::Object(map)),
        _ => Err(Error::File {
            file: file(),
            reason: "a values file must be a map of keys, such as `image: {tag: \"1.0\"}`".into(),
        }),
    }
}

/// Merges `over` into `under` as helm merges one values file into another: maps are merged key by
/// key, everything else is replaced, and `null` removes a key.
pub fn merge_values(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                match (under.get_mut(key), value) {
                    (_, Value::Null) => {
                        under.shift_remove(key);
                    }
                    (Some(below), Value::Object(_)) if below.is_object() => {
                        merge_values(below, value);
                    }
                    _ => {
                        under.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (under, over) => *under = over.clone(),
    }
}

/// Calls `visit` with each leaf and its path. Leaves are strings, numbers, booleans, nulls, and
/// empty maps and lists.
pub(crate) fn visit_leaves<'a>(
    value: &'a Value,
    path: &DocumentPath,
    visit: &mut impl FnMut(&DocumentPath, &'a Value),
) {
    match value {
        _ if path.steps().len() > DEEPEST_NESTING => {}
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                visit_leaves(value, &path.key(key), visit);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                visit_leaves(item, &path.index(index), visit);
            }
        }
        leaf => visit(path, leaf),
    }
}

/// Calls `visit` with each value that has a key, at any depth: its path, which ends in the key, the
/// value, and the map that it is in.
pub(crate) fn visit_entries<'a>(
    value: &'a Value,
    path: &DocumentPath,
    visit: &mut impl FnMut(&DocumentPath, &'a Value, &'a Map<String, Value>),
) {
    match value {
        _ if path.steps().len() > DEEPEST_NESTING => {}
        Value::Object(map) => {
            for (key, value) in map {
                let path = path.key(key);
                visit(&path, value, map);
                visit_entries(value, &path, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit_entries(item, &path.index(index), visit);
            }
        }
        _ => {}
    }
}

/// Sets the value at `path` of the overlay `root` to `leaf`. Helm replaces lists as a whole, so
/// when the path leads through a list, all of that list is first copied from `effective`, the
/// values that the overlay is merged into.
pub(crate) fn set_value(root: &mut Value, path: &DocumentPath, leaf: Value, effective: &Value) {
    let mut at = root;
    for (depth, step) in path.steps().iter().enumerate() {
        let above: DocumentPath = path.steps()[..depth].iter().cloned().collect();
        at = match step {
            PathStep::Key(key) => {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                let Value::Object(map) = at else { return };
                map.entry(key.clone()).or_insert(Value::Null)
            }
            PathStep::Index(index) => {
                if !at.is_array() {
                    *at = above.find_value(effective).cloned().unwrap_or(Value::Array(vec![]));
                }
                let Some(item) = at.get_mut(index) else { return };
                item
            }
            PathStep::Inside(_) => return,
        };
    }
    *at = leaf;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_merged_as_helm_merges_them() {
        let mut under = json!({"a": {"b": 1, "c": 2}, "l": [1, 2], "n": 1});
        merge_values(&mut under, &json!({"a": {"b": 3}, "l": [9], "n": null, "x": {"y": 1}}));
        assert_eq!(under, json!({"a": {"b": 3, "c": 2}, "l": [9], "x": {"y": 1}}));
    }

    #[test]
    fn a_leaf_in_a_list_restates_the_whole_list() {
        let effective = json!({"a": {"l": [{"x": 1, "y": 2}, {"x": 3}]}});
        let mut overlay = json!({});
        let path = DocumentPath::default().key("a").key("l").index(1).key("x");
        set_value(&mut overlay, &path, json!(9), &effective);
        assert_eq!(overlay, json!({"a": {"l": [{"x": 1, "y": 2}, {"x": 9}]}}));
    }
}
