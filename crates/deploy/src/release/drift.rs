//! Finds what others changed in the objects of a release since it applied them (`kubectl set image`,
//! `kubectl edit`), by the managers of their fields, and puts it back. What a controller changed by
//! its own job, as an autoscaler the replicas, is told and left alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::{
    Cluster, FieldOperation, FieldPath, ObjectId, OwnedFields, merge_into_applied,
    without_server_fields,
};
use serde::Serialize;
use serde_json::Value;

use super::compare::{ObjectChange, ObjectDifference};
use super::diff;
use crate::Result;

/// Clients through which a person changes objects, by the beginning of their names as field
/// managers. Everything else is a controller that does its work.
const INTERACTIVE: [&str; 6] = ["kubectl", "oc", "k9s", "Lens", "Mozilla", "dashboard"];
/// The manager of `kubectl rollout restart`, whose annotation is no setting: to take it away would
/// restart the pods once more (kubernetes/kubectl, `pkg/cmd/rollout`).
const RESTART: &str = "kubectl-rollout";
/// What the manager is called where `managedFields` do not say who removed something.
const UNKNOWN: &str = "an unknown client";

/// What happens to changes that others made to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftPolicy {
    /// They are put back to what the release applied.
    PutBack,
    /// They are kept.
    Adopt,
}

/// Fields of an object that somebody else changed since the release applied them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldDrift {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectId,
    /// Who changed them, as a field manager: `kubectl-set`.
    pub manager: String,
    /// The fields: `.spec.template.spec.containers[name="web"].image`.
    pub fields: Vec<String>,
    /// What is done about it.
    pub outcome: DriftOutcome,
}

/// What is done about fields that somebody else changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriftOutcome {
    /// They are put back to what the release applied.
    Restored,
    /// They are kept, as asked.
    Adopted,
    /// They are left alone: a controller owns them.
    Left,
}

/// An object of a release that others changed.
#[derive(Debug, Clone)]
pub(super) struct DriftedObject {
    /// Who changed what.
    pub(super) drift: Vec<FieldDrift>,
    /// The object as it is.
    live: Value,
    /// The object as it is to be.
    restored: Value,
    /// What others added to it and is not to stay.
    removed: Vec<FieldPath>,
    /// The field manager of the release.
    manager: String,
}

impl DriftedObject {
    /// Compares an object in the cluster with what its release applied last. `is_own` says which
    /// field managers belong to the release. Returns `None` when nobody changed anything.
    pub(super) fn find(
        id: &ObjectId,
        live: &Value,
        applied: &Value,
        is_own: &dyn Fn(&str) -> bool,
        policy: DriftPolicy,
    ) -> Option<Self> {
        let applied = encode_string_data(applied);
        let mut restored = live.clone();
        let mut drift: Vec<FieldDrift> = Vec::new();
        let mut note = |manager: &str, outcome, field: String| {
            let same = |one: &&mut FieldDrift| one.manager == manager && one.outcome == outcome;
            match drift.iter_mut().find(same) {
                Some(one) => one.fields.push(field),
                None => drift.push(FieldDrift {
                    object: id.clone(),
                    manager: manager.to_owned(),
                    fields: vec![field],
                    outcome,
                }),
            }
        };
        let put_back = match policy {
            DriftPolicy::PutBack => DriftOutcome::Restored,
            DriftPolicy::Adopt => DriftOutcome::Adopted,
        };
        let all = OwnedFields::list(live);
        // What is noted without fields in it may be a value of its own, or a map of which others own the
        // parts.
        let is_divided = |path: &FieldPath| {
            let mut others = all.iter().flat_map(|owned| &owned.fields);
            others.any(|other| other.path != *path && other.path.begins_with(path))
        };
        let mut taken: Vec<FieldPath> = Vec::new();
        for owned in &all {
            if owned.subresource == "status" || is_own(&owned.manager) || owned.manager == RESTART {
                continue;
            }
            let is_interactive = is_interactive(&owned.manager);
            let outcome = if is_interactive { put_back } else { DriftOutcome::Left };
            let mut removed: Vec<&FieldPath> = Vec::new();
            for field in &owned.fields {
                let path = &field.path;
                let Some(now) = path.find_in(live) else { continue };
                let is_leaf = field.is_leaf && !is_divided(path);
                match path.find_in(&applied).filter(|wanted| !wanted.is_null()) {
                    Some(wanted) if is_leaf && !is_same_value(wanted, now) => {
                        note(&owned.manager, outcome, path.to_string());
                        if outcome == DriftOutcome::Restored {
                            path.set_in(&mut restored, wanted.clone());
                        }
                    }
                    Some(_) => {}
                    // Labels and annotations of the object itself configure nothing.
                    None if !is_interactive || path.is_below("metadata") => {}
                    None if removed.iter().any(|above| path.begins_with(above)) => {}
                    None if is_leaf || path.is_item() => {
                        removed.push(path);
                        note(&owned.manager, outcome, path.to_string());
                        if outcome == DriftOutcome::Restored {
                            path.remove_in(&mut restored);
                            taken.push(path.clone());
                        }
                    }
                    None => {}
                }
            }
        }
        for missing in find_missing_entries(live, &applied) {
            note(UNKNOWN, put_back, missing.name.clone());
            if put_back == DriftOutcome::Restored {
                missing.insert_into(&mut restored);
            }
        }
        if drift.is_empty() {
            return None;
        }
        // The release's own manager gets the fields back, by its own name.
        let own = all.iter().find(|owned| owned.subresource.is_empty() && is_own(&owned.manager));
        let manager = own.map_or_else(|| "helm".to_owned(), |owned| owned.manager.clone());
        Some(Self { drift, live: live.clone(), restored, removed: taken, manager })
    }

    /// The object as it is to be, before the release changes anything else in it.
    pub(super) fn restored(&self) -> &Value {
        &self.restored
    }

    /// Removes from an object what others added to it and is not to stay.
    pub(super) fn strip_additions(&self, object: &mut Value) {
        for path in &self.removed {
            path.remove_in(object);
        }
    }

    /// Whether something has to be put back.
    pub(super) fn is_to_restore(&self) -> bool {
        self.drift.iter().any(|one| one.outcome == DriftOutcome::Restored)
    }

    /// The change that putting it back makes.
    pub(super) fn difference(&self) -> Option<ObjectDifference> {
        let first = self.drift.first().filter(|_| self.is_to_restore())?;
        let (old, new) = (without_server_fields(&self.live), without_server_fields(&self.restored));
        Some(ObjectDifference {
            object: first.object.clone(),
            change: ObjectChange::Changed,
            diff: diff::print_unified_diff(Some(&old), Some(&new)),
        })
    }

    /// Puts the object back to what the release applied.
    pub(super) async fn restore(&self, cluster: &Cluster) -> Result<()> {
        let written = cluster.write_differences(&self.live, &self.restored, &self.manager).await?;
        // A manager that applies (helm 4, and Gantry) may only remove later what it owns by an apply.
        let applies = |owned: &OwnedFields| {
            owned.manager == self.manager && owned.operation == FieldOperation::Apply
        };
        if OwnedFields::list(&written).iter().any(applies)
            && let Some(merged) = merge_into_applied(&written, &self.manager)
        {
            cluster.write_differences(&written, &merged, &self.manager).await?;
        }
        Ok(())
    }
}

/// Whether a person works through the client with this name as a field manager.
pub(super) fn is_interactive(manager: &str) -> bool {
    manager != RESTART
        && INTERACTIVE.iter().any(|name| {
            let rest = manager.strip_prefix(name);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
        })
}

/// Whether two values mean the same to the API server, as far as a text can tell.
fn is_same_value(wanted: &Value, now: &Value) -> bool {
    match (wanted, now) {
        // The API server adds defaults to a map that is one field for it.
        (Value::Object(wanted), Value::Object(now)) => wanted.iter().all(|(key, wanted)| {
            wanted.is_null() || now.get(key).is_some_and(|now| is_same_value(wanted, now))
        }),
        (Value::Array(wanted), Value::Array(now)) => {
            wanted.len() == now.len()
                && wanted.iter().zip(now).all(|(wanted, now)| is_same_value(wanted, now))
        }
        (wanted, now) => wanted == now,
    }
}

/// A Secret with its `stringData` in `data`, as the API server keeps it.
pub(super) fn encode_string_data(applied: &Value) -> Value {
    let mut applied = applied.clone();
    let Some(fields) = applied.as_object_mut() else { return applied };
    if fields.get("kind").and_then(Value::as_str) != Some("Secret") {
        return applied;
    }
    let Some(Value::Object(texts)) = fields.remove("stringData") else { return applied };
    let data = fields.entry("data").or_insert_with(|| serde_json::json!({}));
    if let Some(data) = data.as_object_mut() {
        for (key, text) in texts {
            let text = text.as_str().unwrap_or_default().to_owned();
            data.insert(key, STANDARD.encode(text).into());
        }
    }
    applied
}

/// Something of a manifest that somebody removed, of which no manager is left to tell.
struct MissingEntry {
    /// Its place, as the API server would call it.
    name: String,
    /// Where it belongs: keys, and names of list items.
    steps: Vec<EntryStep>,
    value: Value,
}

/// A step to a missing entry.
#[derive(Clone)]
enum EntryStep {
    Key(String),
    Named(String),
}

impl MissingEntry {
    fn insert_into(&self, object: &mut Value) {
        let Some((last, before)) = self.steps.split_last() else { return };
        let mut value = object;
        for step in before {
            let inner = match step {
                EntryStep::Key(key) => value
                    .as_object_mut()
                    .map(|fields| fields.entry(key.clone()).or_insert(Value::Null)),
                EntryStep::Named(name) => value.as_array_mut().and_then(|items| {
                    items.iter_mut().find(|item| item["name"].as_str() == Some(name))
                }),
            };
            let Some(inner) = inner else { return };
            value = inner;
        }
        match last {
            EntryStep::Key(key) => {
                if value.is_null() {
                    *value = serde_json::json!({});
                }
                if let Some(fields) = value.as_object_mut() {
                    fields.insert(key.clone(), self.value.clone());
                }
            }
            EntryStep::Named(_) => {
                if value.is_null() {
                    *value = serde_json::json!([]);
                }
                if let Some(items) = value.as_array_mut() {
                    items.push(self.value.clone());
                }
            }
        }
    }
}

/// Finds what nobody but a person leaves out of an object that was applied with it: named items of a
/// list in `spec` (containers, variables, volumes), and keys of a Secret or ConfigMap.
fn find_missing_entries(live: &Value, applied: &Value) -> Vec<MissingEntry> {
    let mut found = Vec::new();
    if let (Some(now), Some(wanted)) = (live.get("spec"), applied.get("spec")) {
        let steps = vec![EntryStep::Key("spec".to_owned())];
        collect_missing_items(now, wanted, ".spec", &steps, &mut found);
    }
    let kind = applied.get("kind").and_then(Value::as_str);
    if matches!(kind, Some("ConfigMap" | "Secret"))
        && let Some(wanted) = applied.get("data").and_then(Value::as_object)
    {
        for (key, value) in wanted {
            if !value.is_null() && live.pointer("/data").is_none_or(|data| data.get(key).is_none())
            {
                found.push(MissingEntry {
                    name: format!(".data.{key}"),
                    steps: vec![EntryStep::Key("data".to_owned()), EntryStep::Key(key.clone())],
                    value: value.clone(),
                });
            }
        }
    }
    found
}

fn collect_missing_items(
    now: &Value,
    wanted: &Value,
    place: &str,
    steps: &[EntryStep],
    found: &mut Vec<MissingEntry>,
) {
    let with = |step: EntryStep| [steps, &[step]].concat();
    match wanted {
        Value::Object(fields) => {
            for (key, wanted) in fields {
                let place = format!("{place}.{key}");
                let inner = now.get(key).unwrap_or(&Value::Null);
                collect_missing_items(
                    inner,
                    wanted,
                    &place,
                    &with(EntryStep::Key(key.clone())),
                    found,
                );
            }
        }
        Value::Array(items) => {
            let mut names: Vec<&str> =
                items.iter().filter_map(|item| item["name"].as_str()).collect();
            names.sort_unstable();
            names.dedup();
            // Only a list whose items are known by their names: others have no identity.
            if names.len() != items.len() || !(now.is_array() || now.is_null()) {
                return;
            }
            for item in items {
                let name = item["name"].as_str().unwrap_or_default();
                let place = format!("{place}[name={name:?}]");
                let steps = with(EntryStep::Named(name.to_owned()));
                let own = now.as_array().into_iter().flatten();
                match own.into_iter().find(|own| own["name"].as_str() == Some(name)) {
                    Some(own) => collect_missing_items(own, item, &place, &steps, found),
                    None => {
                        found.push(MissingEntry { name: place, steps, value: item.clone() });
                    }
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn applied() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "replicas": 2,
            "template": {"spec": {"containers": [{"name": "web", "image": "site/web:1",
                "env": [{"name": "MODE", "value": "prod"}]}]}}}})
    }

    /// The object after these managers changed it with `edit`.
    fn live(edit: impl FnOnce(&mut Value), managers: &Value) -> Value {
        let mut live = applied();
        live["status"] = json!({"replicas": 2});
        edit(&mut live);
        let own = json!({"manager": "helm", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        let mut all = vec![own];
        all.extend(managers.as_array().unwrap().clone());
        live["metadata"]["managedFields"] = json!(all);
        live
    }

    fn find(live: &Value, policy: DriftPolicy) -> Option<DriftedObject> {
        let id = ObjectId::from_manifest(&applied(), "shop").unwrap();
        DriftedObject::find(&id, live, &applied(), &|name| name.starts_with("helm"), policy)
    }

    fn container(fields: &Value) -> Value {
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": fields}}}}})
    }

    #[test]
    fn an_image_and_a_variable_set_by_hand_are_put_back() {
        let fields = container(&json!({"f:image": {}, "f:env": {
            "k:{\"name\":\"DEBUG\"}": {".": {}, "f:name": {}, "f:value": {}}}}));
        let live = live(
            |live| {
                let container = &mut live["spec"]["template"]["spec"]["containers"][0];
                container["image"] = json!("elsewhere/web:2");
                container["env"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "DEBUG", "value": "1"}));
            },
            &json!([{"manager": "kubectl-set", "operation": "Update", "fieldsV1": fields}]),
        );

        let found = find(&live, DriftPolicy::PutBack).unwrap();

        assert_eq!(found.drift.len(), 1);
        assert_eq!(found.drift[0].manager, "kubectl-set");
        let mut fields = found.drift[0].fields.clone();
        fields.sort();
        assert_eq!(
            fields,
            [
                r#".spec.template.spec.containers[name="web"].env[name="DEBUG"]"#,
                r#".spec.template.spec.containers[name="web"].image"#
            ]
        );
        assert_eq!(found.restored["spec"], applied()["spec"]);
        let diff = found.difference().unwrap().diff;
        assert!(
            diff.contains("image: elsewhere/web:2") && diff.contains("image: site/web:1"),
            "{diff}"
        );

        let kept = find(&live, DriftPolicy::Adopt).unwrap();
        assert!(!kept.is_to_restore() && kept.difference().is_none());
        assert_eq!(kept.drift[0].outcome, DriftOutcome::Adopted);
    }

    #[test]
    fn what_a_controller_scales_is_told_and_left() {
        let live = live(
            |live| live["spec"]["replicas"] = json!(5),
            &json!([{"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale",
                "fieldsV1": {"f:spec": {"f:replicas": {}}}}]),
        );
        let found = find(&live, DriftPolicy::PutBack).unwrap();
        assert_eq!(found.drift[0].outcome, DriftOutcome::Left);
        assert_eq!(found.drift[0].fields, [".spec.replicas"]);
        assert!(!found.is_to_restore());
    }

    #[test]
    fn a_map_of_which_others_own_the_parts_is_no_value_of_its_own() {
        let live = live(
            |live| live["spec"]["replicas"] = json!(5),
            &json!([
                {"manager": "kubectl-create", "operation": "Update", "fieldsV1": {"f:spec": {}}},
                {"manager": "some-controller", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
            ]),
        );
        let found = find(&live, DriftPolicy::PutBack).unwrap();
        assert_eq!(found.drift.len(), 1);
        assert_eq!(found.drift[0].manager, "some-controller");
    }

    #[test]
    fn a_variable_that_somebody_removed_comes_back() {
        let live = live(
            |live| {
                let container = &mut live["spec"]["template"]["spec"]["containers"][0];
                container.as_object_mut().unwrap().remove("env");
            },
            &json!([]),
        );
        let found = find(&live, DriftPolicy::PutBack).unwrap();
        assert_eq!(found.drift[0].manager, UNKNOWN);
        assert_eq!(found.restored["spec"], applied()["spec"]);
    }

    #[test]
    fn labels_restarts_status_and_equal_values_are_no_drift() {
        let live = live(
            |live| {
                live["metadata"]["labels"] = json!({"team": "x"});
                live["spec"]["template"]["metadata"] =
                    json!({"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}});
            },
            &json!([
                {"manager": "kubectl-label", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:team": {}}}}},
                {"manager": "kubectl-rollout", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}}}}},
                {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
            ]),
        );
        assert!(find(&live, DriftPolicy::PutBack).is_none());
    }

    #[test]
    fn a_secret_is_compared_as_the_api_server_keeps_it() {
        let applied = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "x"}});
        let mut live = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "eA=="}});
        let id = ObjectId::from_manifest(&applied, "shop").unwrap();
        let find = |live: &Value| {
            DriftedObject::find(&id, live, &applied, &|_| false, DriftPolicy::PutBack)
        };
        assert!(find(&live).is_none());
        live["data"] = json!({});
        assert_eq!(find(&live).unwrap().restored["data"]["a"], "eA==");
    }

    #[test]
    fn people_are_told_from_controllers() {
        for name in ["kubectl", "kubectl-set", "kubectl-edit", "oc", "k9s"] {
            assert!(is_interactive(name), "{name}");
        }
        for name in ["kubectl-rollout", "ocean-controller", "kube-controller-manager", "helm"] {
            assert!(!is_interactive(name), "{name}");
        }
    }
}
