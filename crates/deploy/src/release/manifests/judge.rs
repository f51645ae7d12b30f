//! Compares one object of a release with the cluster: whose it is, what an apply would change by the
//! API server's own dry run, which fields others own, and what somebody changed by hand.

use std::collections::BTreeSet;

use cluster::{
    ApplyMode, Cluster, Error as Cause, FieldConflict, FieldConflicts, ManifestApply, ObjectId,
    OwnedFields, without_server_fields,
};
use serde_json::Value;

use super::super::deployer::{DeployOptions, ForeignReleases};
use super::super::diff;
use super::super::drift::{DriftOutcome, DriftPolicy, DriftedObject, FieldDrift, is_interactive};
use super::super::objects::RenderedObject;
use super::marks::{FIELD_MANAGER, ObjectOwner, find_owner, is_shared};
use crate::Result;

/// What the API server says of a webhook that cannot judge a dry run
/// (kubernetes/apiserver, `pkg/admission/plugin/webhook`).
const NO_DRY_RUN: &str = "does not support dry run";
/// How often an object is compared that others write to at the same time.
const MOST_TRIES: usize = 4;
/// The manager of autoscalers, and the subresource that they write to.
const AUTOSCALER: (&str, &str) = ("kube-controller-manager", "scale");

/// An object of a release, compared with the cluster.
#[derive(Debug, Clone)]
pub(super) struct JudgedObject {
    pub(super) id: ObjectId,
    /// What is to be applied: the object without the fields that are left to others.
    pub(super) manifest: Value,
    pub(super) change: JudgedChange,
    /// What others changed in it since it was applied.
    pub(super) drifted: Option<DriftedObject>,
    /// Fields that are left to the controllers that own them.
    pub(super) left: Vec<FieldDrift>,
    /// The version of the object in the cluster that it was compared with.
    pub(super) version: Option<String>,
}

/// What an apply does to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JudgedChange {
    /// It is created.
    Created,
    /// It is changed: the changed lines.
    Changed(String),
    /// Nothing.
    Same,
    /// That can only be known when it is applied, since something is missing until then.
    Unknown(String),
}

/// Why an object cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Objection {
    /// It is somebody else's.
    Foreign(String),
    /// Somebody else owns a field of it.
    OwnedField(String),
    /// The API server rejects it.
    Refused(String),
}

/// What judging needs to know beside the object.
pub(super) struct ObjectJudge<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) release: &'a str,
    pub(super) namespace: &'a str,
    pub(super) options: DeployOptions,
    /// Namespaces and kinds (with their API groups) that the release brings itself.
    pub(super) brought: BroughtDefinitions,
}

/// The namespaces and kinds that a release brings itself.
#[derive(Debug, Clone, Default)]
pub(super) struct BroughtDefinitions {
    namespaces: BTreeSet<String>,
    kinds: BTreeSet<(String, String)>,
}

impl BroughtDefinitions {
    /// Reads them in its objects.
    pub(super) fn list(objects: &[RenderedObject]) -> Self {
        let mut all = Self::default();
        for object in objects {
            let text = |pointer: &str| {
                object.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            match object.id.kind.as_str() {
                "Namespace" => all.add_namespace(&object.id.name),
                "CustomResourceDefinition" => {
                    all.kinds.insert((text("/spec/group"), text("/spec/names/kind")));
                }
                _ => {}
            }
        }
        all
    }

    /// Adds a namespace that is made beside the release.
    pub(super) fn add_namespace(&mut self, name: &str) {
        self.namespaces.insert(name.to_owned());
    }

    fn has_kind(&self, id: &ObjectId) -> bool {
        let group = id.api_version.split_once('/').map_or("", |(group, _)| group);
        self.kinds.contains(&(group.to_owned(), id.kind.clone()))
    }

    fn has_namespace_of(&self, id: &ObjectId) -> bool {
        id.namespace.as_ref().is_some_and(|name| self.namespaces.contains(name))
    }
}

impl ObjectJudge<'_> {
    /// Judges an object. `applied` is the object as the release applied it last, if it did.
    pub(super) async fn judge_object(
        &self,
        object: &RenderedObject,
        applied: Option<&Value>,
    ) -> Result<Result<JudgedObject, Objection>> {
        for _ in 1..MOST_TRIES {
            let judged = self.compare_object(object, applied).await?;
            let Ok(JudgedObject { change: JudgedChange::Changed(_), version, .. }) = &judged else {
                return Ok(judged);
            };
            // A controller may have written between the read and the dry run: a Deployment's gets its
            // revision noted. That is no change of the release.
            let live = self.cluster.read_manifest(&object.id).await?;
            if live.as_ref().and_then(read_version) == *version {
                return Ok(judged);
            }
        }
        self.compare_object(object, applied).await
    }

    /// Compares an object with the cluster's, and with what the API server would make of it.
    async fn compare_object(
        &self,
        object: &RenderedObject,
        applied: Option<&Value>,
    ) -> Result<Result<JudgedObject, Objection>> {
        let id = &object.id;
        let mut version = None;
        let judged = |change, drifted, manifest: &Value, left, version| {
            Ok(Ok(JudgedObject {
                id: id.clone(),
                manifest: manifest.clone(),
                change,
                drifted,
                left,
                version,
            }))
        };
        let unknown = |why: &str| {
            let change = JudgedChange::Unknown(why.to_owned());
            judged(change, None, &object.value, vec![], None)
        };
        let live = match self.cluster.read_manifest(id).await {
            Ok(live) => live,
            Err(Cause::NoKind { .. }) if self.brought.has_kind(id) => {
                return unknown("its kind comes with the release");
            }
            Err(error @ Cause::NoKind { .. }) => {
                return Ok(Err(Objection::Refused(format!("{id}: {error}"))));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(live) = &live {
            version = read_version(live);
            if live.pointer("/metadata/deletionTimestamp").is_some() {
                return unknown("the one that exists is being deleted");
            }
            if let Some(objection) = self.find_other_owner(id, live) {
                return Ok(Err(objection));
            }
        }
        let drifted = live.as_ref().zip(applied).and_then(|(live, applied)| {
            DriftedObject::find(id, live, applied, &is_own_manager, self.options.drift)
        });
        let (manifest, left, after) = match self.try_apply(object, live.as_ref(), applied).await? {
            TriedApply::Done { manifest, left, after } => (manifest, left, after),
            TriedApply::Objection(objection) => return Ok(Err(objection)),
            TriedApply::Unknown(why) => return unknown(&why),
        };
        let change = match &live {
            None => JudgedChange::Created,
            Some(live) => find_change(live, after, drifted.as_ref()),
        };
        judged(change, drifted, &manifest, left, version)
    }

    fn find_other_owner(&self, id: &ObjectId, live: &Value) -> Option<Objection> {
        if is_shared(id) || self.options.foreign == ForeignReleases::TakeOver {
            return None;
        }
        match find_owner(live, self.release, self.namespace) {
            ObjectOwner::ThisRelease => None,
            ObjectOwner::Other(who) => Some(Objection::Foreign(format!("{id} belongs to {who}"))),
            ObjectOwner::Nobody => {
                let managers = list_managers(live);
                Some(Objection::Foreign(format!("{id} was made by {managers}")))
            }
        }
    }

    /// Has the API server try the apply. Fields that others own are left to them, taken, or object.
    async fn try_apply(
        &self,
        object: &RenderedObject,
        live: Option<&Value>,
        applied: Option<&Value>,
    ) -> Result<TriedApply> {
        let id = &object.id;
        let mut manifest = object.value.clone();
        let mut left = Vec::new();
        let tried = self.send_dry_run(&manifest, FieldConflicts::Refuse).await;
        let tried = match (tried, live) {
            (Err(Cause::Conflict { fields, .. }), Some(live)) if !fields.is_empty() => {
                let mut objections = Vec::new();
                for conflict in &fields {
                    match self.decide_conflict(conflict, &object.value, live, applied) {
                        ConflictDecision::Take => {}
                        ConflictDecision::Leave(drift) => {
                            leave_field(&mut manifest, live, conflict);
                            // What a person changed is among the drift of the object already.
                            if drift == DriftOutcome::Left {
                                left.push(FieldDrift {
                                    object: id.clone(),
                                    manager: conflict.manager.clone(),
                                    fields: vec![conflict.field.clone()],
                                    outcome: drift,
                                });
                            }
                        }
                        ConflictDecision::Object => objections.push(format!(
                            "{id}: {} is owned by {}",
                            conflict.field, conflict.manager
                        )),
                    }
                }
                if !objections.is_empty() {
                    return Ok(TriedApply::Objection(Objection::OwnedField(
                        objections.join("\n- "),
                    )));
                }
                self.send_dry_run(&manifest, FieldConflicts::TakeOver).await
            }
            (tried, _) => tried,
        };
        let refused = |reason: String| {
            TriedApply::Objection(Objection::Refused(format!("{id}: {}", advise(id, reason))))
        };
        Ok(match tried {
            Ok(after) => TriedApply::Done { manifest, left, after },
            Err(Cause::Refused { reason, .. } | Cause::Forbidden { reason, .. })
                if reason.contains(NO_DRY_RUN) || reason.contains("not found") =>
            {
                TriedApply::Unknown(reason)
            }
            Err(Cause::Refused { reason, .. } | Cause::Forbidden { reason, .. }) => refused(reason),
            // The API server answers 404 for anything in a namespace that does not exist.
            Err(Cause::Answer { .. }) if self.brought.has_namespace_of(id) => {
                TriedApply::Unknown("its namespace comes with the release".to_owned())
            }
            Err(Cause::Answer { reason, .. }) => refused(reason),
            Err(Cause::Conflict { reason, .. }) => refused(reason),
            Err(error) => return Err(error.into()),
        })
    }

    async fn send_dry_run(
        &self,
        manifest: &Value,
        conflicts: FieldConflicts,
    ) -> cluster::Result<Value> {
        let apply = ManifestApply {
            manifest,
            namespace: self.namespace,
            manager: FIELD_MANAGER,
            mode: ApplyMode::DryRun,
            conflicts,
        };
        self.cluster.send_apply(&apply).await
    }

    /// What happens to a field that the release sets and somebody else owns.
    fn decide_conflict(
        &self,
        conflict: &FieldConflict,
        wanted: &Value,
        live: &Value,
        applied: Option<&Value>,
    ) -> ConflictDecision {
        let manager = conflict.manager.as_str();
        if is_own_manager(manager) || self.options.conflicts == FieldConflicts::TakeOver {
            return ConflictDecision::Take;
        }
        if is_interactive(manager) {
            return match self.options.drift {
                DriftPolicy::PutBack => ConflictDecision::Take,
                DriftPolicy::Adopt => ConflictDecision::Leave(DriftOutcome::Adopted),
            };
        }
        if (manager, conflict.subresource.as_str()) == AUTOSCALER {
            return ConflictDecision::Leave(DriftOutcome::Left);
        }
        // Nothing new is wanted of the field: whoever took it over may have it.
        let path = find_owned_path(live, conflict);
        let unchanged = path.zip(applied).is_some_and(|(path, applied)| {
            let before = path.find_in(applied);
            before.is_some() && before == path.find_in(wanted)
        });
        match unchanged {
            true => ConflictDecision::Leave(DriftOutcome::Left),
            false => ConflictDecision::Object,
        }
    }
}

/// What an apply was found to do.
enum TriedApply {
    Done { manifest: Value, left: Vec<FieldDrift>, after: Value },
    Objection(Objection),
    Unknown(String),
}

enum ConflictDecision {
    /// The release takes the field.
    Take,
    /// It is left to its owner.
    Leave(DriftOutcome),
    /// The user has to decide.
    Object,
}

/// Whether a field manager is Gantry itself.
pub(super) fn is_own_manager(manager: &str) -> bool {
    manager == FIELD_MANAGER || manager == cluster::MANAGER
}

fn find_owned_path(live: &Value, conflict: &FieldConflict) -> Option<cluster::FieldPath> {
    let owned = OwnedFields::list(live);
    let mut fields = owned
        .into_iter()
        .filter(|owned| owned.manager == conflict.manager)
        .flat_map(|owned| owned.fields);
    fields.find(|field| field.path.to_string() == conflict.field).map(|field| field.path)
}

fn leave_field(manifest: &mut Value, live: &Value, conflict: &FieldConflict) {
    if let Some(path) = find_owned_path(live, conflict) {
        path.remove_in(manifest);
    }
}

/// The version of an object in the cluster; it changes with each write.
fn read_version(live: &Value) -> Option<String> {
    live.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned)
}

fn find_change(live: &Value, mut after: Value, drifted: Option<&DriftedObject>) -> JudgedChange {
    let before = drifted.map_or(live, |drifted| drifted.restored());
    if let Some(drifted) = drifted {
        drifted.strip_additions(&mut after);
    }
    let (before, after) = (without_server_fields(before), without_server_fields(&after));
    if before == after {
        return JudgedChange::Same;
    }
    let live = without_server_fields(live);
    JudgedChange::Changed(diff::print_unified_diff(Some(&live), Some(&after)))
}

/// Who made an object, by the managers of its fields.
fn list_managers(live: &Value) -> String {
    let mut managers: Vec<String> = OwnedFields::list(live)
        .into_iter()
        .filter(|owned| owned.subresource.is_empty())
        .map(|owned| owned.manager)
        .collect();
    managers.sort();
    managers.dedup();
    if managers.is_empty() { "somebody else".to_owned() } else { managers.join(", ") }
}

/// A refusal with what helps against it.
fn advise(id: &ObjectId, reason: String) -> String {
    if !reason.contains("immutable") && !reason.contains("Forbidden: updates to") {
        return reason;
    }
    let place = id.namespace.as_ref().map(|name| format!(" -n {name}")).unwrap_or_default();
    format!(
        "{reason}; delete it to have it made anew: kubectl delete {} {}{place}",
        id.kind, id.name
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::super::objects::read_objects;
    use super::*;

    #[test]
    fn what_a_release_brings_is_known_by_its_objects() {
        let stream = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n---\n\
            apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: tenants.example.com}\n\
            spec: {group: example.com, names: {kind: Tenant}}\n";
        let brought = BroughtDefinitions::list(&read_objects(stream, "n").unwrap());
        let id = |version: &str, kind: &str, namespace: &str| ObjectId {
            api_version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: "a".to_owned(),
        };
        assert!(brought.has_kind(&id("example.com/v1", "Tenant", "n")));
        assert!(!brought.has_kind(&id("example.org/v1", "Tenant", "n")));
        assert!(brought.has_namespace_of(&id("v1", "Secret", "shop")));
        assert!(!brought.has_namespace_of(&id("v1", "Secret", "n")));
    }

    #[test]
    fn a_change_is_what_the_api_server_would_make_of_the_object() {
        let live =
            json!({"kind": "ConfigMap", "metadata": {"resourceVersion": "1"}, "data": {"a": "1"}});
        let same =
            json!({"kind": "ConfigMap", "metadata": {"resourceVersion": "2"}, "data": {"a": "1"}});
        assert_eq!(find_change(&live, same, None), JudgedChange::Same);
        let other = json!({"kind": "ConfigMap", "metadata": {}, "data": {"a": "2"}});
        let JudgedChange::Changed(diff) = find_change(&live, other, None) else {
            unreachable!("it is another value")
        };
        assert!(diff.contains("-  a: \"1\"\n+  a: \"2\""), "{diff}");
    }

    #[test]
    fn an_immutable_field_is_told_with_the_way_out() {
        let id = ObjectId {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            namespace: Some("shop".to_owned()),
            name: "setup".to_owned(),
        };
        let text = advise(&id, "spec.template: field is immutable".to_owned());
        assert!(text.ends_with("kubectl delete Job setup -n shop"), "{text}");
        assert_eq!(advise(&id, "no".to_owned()), "no");
    }
}
