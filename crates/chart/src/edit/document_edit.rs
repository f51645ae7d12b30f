//! Edits of a document that are made twice: in its text, where everything else keeps every byte, and in
//! its parsed value. That the edited text parses to the edited value is the proof that nothing else changed.

use serde_json::{Map, Value, json};

use super::insert;
use crate::path::DocumentPath;

/// One edit of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DocumentEdit {
    /// Adds an item at the front of a list that is not empty.
    Item { list: DocumentPath, item: Value },
    /// Adds a key to a map.
    Key { map: DocumentPath, key: String, value: Value },
    /// Replaces a scalar, or an empty list.
    Scalar { at: DocumentPath, to: Value },
}

impl DocumentEdit {
    /// The edit after which the maps below `base` that `keys` name have `value` at their end. What is not
    /// there yet is made; what is there and is no map is replaced.
    pub(crate) fn set_nested(
        document: &Value,
        base: &DocumentPath,
        keys: &[&str],
        value: Value,
    ) -> Self {
        let mut map = base.clone();
        for (index, key) in keys.iter().enumerate() {
            let nest = |keys: &[&str]| {
                keys.iter().rev().fold(value.clone(), |inner, key| json!({*key: inner}))
            };
            let next = map.key(*key);
            match next.find_value(document) {
                None => {
                    let (key, value) = ((*key).to_owned(), nest(&keys[index + 1..]));
                    return Self::Key { map, key, value };
                }
                // The editor adds keys to maps that have some.
                Some(Value::Object(own)) if !own.is_empty() && index + 1 < keys.len() => map = next,
                Some(_) => return Self::Scalar { at: next, to: nest(&keys[index + 1..]) },
            }
        }
        Self::Scalar { at: map, to: value }
    }

    /// The text of a document after the edit; `None` if the editor cannot make it.
    pub(crate) fn apply_to_text(&self, text: &str) -> Option<String> {
        match self {
            Self::Item { list, item } => insert::insert_item(text, list.steps(), item),
            Self::Key { map, key, value } => insert::insert_key(text, map.steps(), key, value),
            Self::Scalar { at, to } => insert::replace_scalar(text, at.steps(), &to.to_string()),
        }
    }

    /// Makes the edit in the parsed document.
    pub(crate) fn apply_to_value(&self, document: &mut Value) {
        match self {
            Self::Item { list, item } => {
                if let Some(Value::Array(items)) = list.find_value_mut(document) {
                    items.insert(0, item.clone());
                }
            }
            Self::Key { map, key, value } => {
                if let Some(Value::Object(map)) = map.find_value_mut(document) {
                    // The text has the new key first, too, and the order is compared.
                    let mut with = Map::new();
                    with.insert(key.clone(), value.clone());
                    with.extend(std::mem::take(map));
                    *map = with;
                }
            }
            Self::Scalar { at: path, to } => {
                if let Some(value) = path.find_value_mut(document) {
                    *value = to.clone();
                }
            }
        }
    }
}
