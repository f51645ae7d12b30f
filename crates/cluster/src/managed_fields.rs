//! Which manager owns which fields of an object, by its `metadata.managedFields` (kubernetes.io,
//! "Server-Side Apply", "Field management").

use k8s_openapi::serde_json::{Map, Value, json};

use crate::FieldPath;

/// What one manager owns in an object.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedFields {
    /// The manager: `kubectl-set`, `helm`, `kube-controller-manager`.
    pub manager: String,
    /// How it came to own them.
    pub operation: FieldOperation,
    /// The subresource that it wrote to (`status`, `scale`); empty for the object itself.
    pub subresource: String,
    /// The fields.
    pub fields: Vec<OwnedField>,
}

/// How a manager came to own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldOperation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

/// A field that a manager owns.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedField {
    /// Its path.
    pub path: FieldPath,
    /// Whether its whole value is owned, and not only that it exists.
    pub is_leaf: bool,
}

impl OwnedFields {
    /// Reads who owns what in an object. Entries of unknown form are left out.
    pub fn list(object: &Value) -> Vec<Self> {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        entries.into_iter().flatten().filter_map(Self::read).collect()
    }

    fn read(entry: &Value) -> Option<Self> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let mut fields = Vec::new();
        collect_fields(&FieldPath::default(), entry.get("fieldsV1")?.as_object()?, &mut fields);
        Some(Self {
            manager: text("manager")?.to_owned(),
            operation: match text("operation")? {
                "Apply" => FieldOperation::Apply,
                _ => FieldOperation::Update,
            },
            subresource: text("subresource").unwrap_or_default().to_owned(),
            fields,
        })
    }
}

fn collect_fields(path: &FieldPath, fields: &Map<String, Value>, found: &mut Vec<OwnedField>) {
    for (key, inner) in fields {
        // `.` says that the field itself is owned, beside what is in it.
        let (Some(path), Some(inner)) = (path.extend(key), inner.as_object()) else { continue };
        let is_leaf = inner.keys().all(|key| key == ".");
        if is_leaf || inner.contains_key(".") {
            found.push(OwnedField { path: path.clone(), is_leaf });
        }
        collect_fields(&path, inner, found);
    }
}

/// Moves what `manager` owns by other writes to what it applied, so that its next apply owns and may
/// remove all of it. Returns `None` when there is nothing to move. (As client-go's
/// `util/csaupgrade` does.)
pub fn merge_into_applied(object: &Value, manager: &str) -> Option<Value> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let position = |operation: &str| {
        entries.iter().position(|entry| {
            entry.get("manager").and_then(Value::as_str) == Some(manager)
                && entry.get("operation").and_then(Value::as_str) == Some(operation)
                && entry.get("subresource").is_none()
        })
    };
    let (applied, updated) = (position("Apply")?, position("Update")?);
    let mut merged = entries.clone();
    let more = entries[updated].get("fieldsV1")?;
    merge_fields(merged[applied].get_mut("fieldsV1")?, more);
    merged.remove(updated);
    let mut object = object.clone();
    *object.pointer_mut("/metadata/managedFields")? = json!(merged);
    Some(object)
}

fn merge_fields(fields: &mut Value, more: &Value) {
    if let (Value::Object(fields), Value::Object(more)) = (fields, more) {
        for (key, more) in more {
            merge_fields(fields.entry(key.clone()).or_insert_with(|| json!({})), more);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Value {
        json!({"metadata": {"managedFields": [
            {"manager": "gantry-deploy", "operation": "Apply", "fieldsV1":
                {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:name": {}}}}}},
            {"manager": "gantry-deploy", "operation": "Update", "fieldsV1":
                {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}}}}}},
            {"manager": "kubelet", "operation": "Update", "subresource": "status", "fieldsV1":
                {"f:status": {"f:phase": {}}}}]}})
    }

    #[test]
    fn the_owners_of_fields_are_read() {
        let all = OwnedFields::list(&sample());
        let paths = |owned: &OwnedFields| -> Vec<(String, bool)> {
            owned.fields.iter().map(|one| (one.path.to_string(), one.is_leaf)).collect()
        };
        assert_eq!(all[0].operation, FieldOperation::Apply);
        assert_eq!(
            paths(&all[0]),
            [
                (r#".spec.containers[name="web"]"#.to_owned(), false),
                (r#".spec.containers[name="web"].name"#.to_owned(), true)
            ]
        );
        assert_eq!((all[2].manager.as_str(), all[2].subresource.as_str()), ("kubelet", "status"));
    }

    #[test]
    fn what_a_manager_updated_becomes_what_it_applied() {
        let merged = merge_into_applied(&sample(), "gantry-deploy").unwrap();
        let all = OwnedFields::list(&merged);
        assert_eq!(all.len(), 2);
        let mut paths: Vec<String> = all[0].fields.iter().map(|one| one.path.to_string()).collect();
        paths.sort();
        assert_eq!(
            paths[1..],
            [r#".spec.containers[name="web"].image"#, r#".spec.containers[name="web"].name"#]
        );
        assert_eq!(merge_into_applied(&merged, "gantry-deploy"), None);
    }
}
