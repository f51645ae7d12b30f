//! Paths of fields as server-side apply names them: keys of maps, items of lists by their keys or
//! values. They are printed as the API server prints them in its messages
//! (kubernetes-sigs/structured-merge-diff, `fieldpath/element.go`).

use std::fmt;

use k8s_openapi::serde_json::{Map, Value};

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum FieldStep {
    /// `f:image`: the value under a key.
    Key(String),
    /// `k:{"name":"web"}`: the item of a list with these values.
    Item(Map<String, Value>),
    /// `v:"http"`: this item of a list that is a set.
    Element(Value),
    /// `i:0`: the item of a list at this position.
    Index(usize),
}

/// The path of a field in an object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldPath(Vec<FieldStep>);

impl FieldPath {
    /// The path one step further, by a key of `managedFields` (`f:`, `k:`, `v:`, `i:`); `None` for a
    /// key of another form.
    pub(crate) fn extend(&self, key: &str) -> Option<Self> {
        let (form, text) = key.split_once(':')?;
        let parse = || k8s_openapi::serde_json::from_str::<Value>(text).ok();
        let step = match form {
            "f" => FieldStep::Key(text.to_owned()),
            "k" => FieldStep::Item(parse()?.as_object()?.clone()),
            "v" => FieldStep::Element(parse()?),
            "i" => FieldStep::Index(text.parse().ok()?),
            _ => return None,
        };
        let mut steps = self.0.clone();
        steps.push(step);
        Some(Self(steps))
    }

    /// Whether the first key of the path is this one.
    pub fn is_below(&self, key: &str) -> bool {
        matches!(self.0.first(), Some(FieldStep::Key(first)) if first == key)
    }

    /// Whether the path names an item of a list.
    pub fn is_item(&self) -> bool {
        !matches!(self.0.last(), None | Some(FieldStep::Key(_)))
    }

    /// Whether this path begins with another one, or is the same.
    pub fn begins_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The value at the path; `None` when the object has none.
    pub fn find_in<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(object, |value, step| step.find_in(value))
    }

    /// Sets the value at the path. Maps that are missing on the way are made, items of lists are not;
    /// returns whether it was set.
    pub fn set_in(&self, object: &mut Value, new: Value) -> bool {
        let Some((last, before)) = self.0.split_last() else { return false };
        let mut value = object;
        for step in before {
            if let (FieldStep::Key(key), Value::Object(fields)) = (step, &mut *value) {
                fields.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
            }
            match step.find_in_mut(value) {
                Some(found) => value = found,
                None => return false,
            }
        }
        match (last, value) {
            (FieldStep::Key(key), Value::Object(fields)) => {
                fields.insert(key.clone(), new);
                true
            }
            (step, value) => step.find_in_mut(value).map(|found| *found = new).is_some(),
        }
    }

    /// Removes the value at the path, and the maps and lists that are empty then.
    pub fn remove_in(&self, object: &mut Value) {
        remove_steps(&self.0, object);
    }
}

impl FieldStep {
    fn find_in<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Key(key) => value.get(key),
            _ => value.as_array()?.get(self.position(value)?),
        }
    }

    fn find_in_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        if let Self::Key(key) = self {
            return value.get_mut(key);
        }
        let position = self.position(value)?;
        value.as_array_mut()?.get_mut(position)
    }

    fn position(&self, value: &Value) -> Option<usize> {
        let items = value.as_array()?;
        match self {
            Self::Key(_) => None,
            Self::Index(index) => (*index < items.len()).then_some(*index),
            Self::Element(element) => items.iter().position(|item| item == element),
            // A manifest may leave out a key that has a default, as `protocol` of a port.
            Self::Item(keys) => items.iter().position(|item| {
                let is_like = |(key, value): (&String, &Value)| {
                    item.get(key).map_or(keys.len() > 1, |own| own == value)
                };
                item.is_object() && keys.iter().all(is_like)
            }),
        }
    }
}

/// Removes the value at the end of these steps. Returns whether `value` is empty by that.
fn remove_steps(steps: &[FieldStep], value: &mut Value) -> bool {
    let Some((step, rest)) = steps.split_first() else { return true };
    let Some(inner) = step.find_in_mut(value) else { return false };
    if !remove_steps(rest, inner) {
        return false;
    }
    let position = step.position(value);
    match (step, value) {
        (FieldStep::Key(key), Value::Object(fields)) => {
            fields.remove(key);
            fields.is_empty()
        }
        (_, Value::Array(items)) => {
            if let Some(position) = position {
                items.remove(position);
            }
            items.is_empty()
        }
        _ => false,
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            match step {
                FieldStep::Key(key) => write!(f, ".{key}")?,
                FieldStep::Item(keys) => {
                    let pairs: Vec<String> =
                        keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                    write!(f, "[{}]", pairs.join(","))?;
                }
                FieldStep::Element(value) => write!(f, "[={value}]")?,
                FieldStep::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::serde_json::json;

    use super::*;

    fn path(keys: &[&str]) -> FieldPath {
        keys.iter().fold(FieldPath::default(), |path, key| path.extend(key).unwrap())
    }

    #[test]
    fn a_field_is_found_set_and_removed_by_the_path_that_the_api_server_prints() {
        let mut object = json!({"spec": {"containers": [
            {"name": "a", "image": "x"},
            {"name": "b", "image": "y", "env": [{"name": "FOO", "value": "1"}]}]}});
        let image = path(&["f:spec", "f:containers", r#"k:{"name":"b"}"#, "f:image"]);
        let variable =
            path(&["f:spec", "f:containers", r#"k:{"name":"b"}"#, "f:env", r#"k:{"name":"FOO"}"#]);

        assert_eq!(image.to_string(), r#".spec.containers[name="b"].image"#);
        assert_eq!(image.find_in(&object), Some(&json!("y")));
        assert!(image.set_in(&mut object, json!("z")));
        assert!(variable.is_item() && variable.is_below("spec"));
        variable.remove_in(&mut object);

        let after = json!({"spec": {"containers": [
            {"name": "a", "image": "x"}, {"name": "b", "image": "z"}]}});
        assert_eq!(object, after, "the empty list is gone as well");
        variable.remove_in(&mut object);
        assert_eq!(object, after);
    }

    #[test]
    fn an_item_is_found_although_the_manifest_leaves_out_a_key_with_a_default() {
        let port = path(&["f:ports", r#"k:{"port":80,"protocol":"TCP"}"#]);
        let object = json!({"ports": [{"port": 81}, {"port": 80, "name": "http"}]});
        assert_eq!(port.find_in(&object).unwrap()["name"], "http");
        assert_eq!(port.to_string(), r#"[port=80,protocol="TCP"]"#.replacen('[', ".ports[", 1));
        assert_eq!(path(&["f:ports", r#"k:{"name":"x"}"#]).find_in(&object), None);
    }
}
