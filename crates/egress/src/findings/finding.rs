//! A finding, and how objects are made fit for reports.

use std::collections::BTreeSet;

use chart::FieldLabel;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::pods::Workload;

/// A setting by which something would reach outside, or is allowed to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticFinding {
    /// The object that has the setting.
    pub subject: Workload,
    /// The path of the field in the object; empty where the object as a whole is meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// The same field by its name, for people; not in the JSON.
    #[serde(skip)]
    pub setting: FieldLabel,
    /// What leads outside: addresses, or a variable that is not set.
    pub what: String,
    /// What it is for, where a rule knows; else empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The setting that stops it.
    pub stop: String,
    /// The hosts that it would reach, as far as they are known.
    pub hosts: BTreeSet<String>,
    /// Whether it is in the rendered manifests, in the cluster, or both.
    pub seen: BTreeSet<FindingOrigin>,
}

/// Where a setting was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FindingOrigin {
    /// In rendered manifests.
    Rendered,
    /// In the cluster.
    Live,
}

/// The object; of a Secret only with its keys. So no value of a Secret can get into a report.
pub(super) fn redact_secret(object: &Value) -> Value {
    if object.get("kind").and_then(Value::as_str) != Some("Secret") {
        return object.clone();
    }
    let mut object = object.clone();
    let Some(fields) = object.as_object_mut() else { return Value::Null };
    // The API server turns `stringData` into `data`; manifests may have both.
    let values = [fields.remove("data"), fields.remove("stringData")].into_iter().flatten();
    let keys =
        values.filter_map(|data| Some(data.as_object()?.keys().cloned().collect::<Vec<_>>()));
    let empty = |key: String| (key, Value::String(String::new()));
    let keys: Map<String, Value> = keys.flatten().map(empty).collect();
    fields.insert("data".to_owned(), Value::Object(keys));
    object
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn no_value_of_a_secret_is_left_and_all_of_its_keys_are() {
        let secret = json!({"kind": "Secret", "metadata": {"name": "s"},
            "data": {"a": "dG9rZW4="}, "stringData": {"b": "token", "a": "other"}});
        let redacted = redact_secret(&secret);
        assert_eq!(
            redacted,
            json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "", "b": ""}})
        );
        // An odd one is not passed on as it is either.
        assert_eq!(
            redact_secret(&json!({"kind": "Secret", "data": "text"})),
            json!({"kind": "Secret", "data": {}})
        );
    }

    #[test]
    fn other_objects_stay_as_they_are() {
        let map = json!({"kind": "ConfigMap", "data": {"a": "b"}});
        assert_eq!(redact_secret(&map), map);
    }
}
