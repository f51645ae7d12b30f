//! Objects of any kind, as JSON: what a chart renders, what an audit reads. The API server is asked
//! how the kind is called in its API.

use std::fmt;
use std::sync::PoisonError;

use k8s_openapi::serde_json::{self, Map, Value, json};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::discovery::Scope as KindScope;
use kube::core::{DynamicObject, GroupVersionKind};
use serde::Serialize;

use crate::object::post_params;
use crate::resolved_kind::ResolvedKind;
use crate::{ApplyEffect, Cluster, Error, MANAGER, ObjectScope, Result};

/// Objects per page of a list, as kubectl's default (`--chunk-size`).
const PAGE: u32 = 500;

/// Whether an apply changes the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyMode {
    /// It does.
    Apply,
    /// Server-side dry run: the API server returns the result, with defaults and admission, and
    /// stores nothing.
    DryRun,
}

/// What an apply does with fields that another manager owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldConflicts {
    /// It fails with [`Error::Conflict`] if it would change one.
    Refuse,
    /// It takes them.
    TakeOver,
}

/// A manifest that is to be applied (server-side apply).
#[derive(Debug, Clone, Copy)]
pub struct ManifestApply<'a> {
    /// The manifest.
    pub manifest: &'a Value,
    /// The namespace, where the manifest names none.
    pub namespace: &'a str,
    /// The field manager, who owns the manifest's fields afterwards.
    pub manager: &'a str,
    /// Whether it changes the cluster.
    pub mode: ApplyMode,
    /// What happens to fields of other managers.
    pub conflicts: FieldConflicts,
}

/// The identity of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectId {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// The namespace; absent for cluster-scoped objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// The result of an apply, with the object before and after.
#[derive(Debug, Clone)]
pub struct AppliedManifest {
    /// The object's identity.
    pub id: ObjectId,
    /// What was done, or would be done.
    pub applied: ApplyEffect,
    /// The object before; `None` when it did not exist.
    pub before: Option<Value>,
    /// The object after, or as it would be.
    pub after: Value,
}

impl ObjectId {
    /// Reads the identity in a manifest. `namespace` is used where the manifest names none.
    pub fn from_manifest(manifest: &Value, namespace: &str) -> Result<Self> {
        let text = |pointer: &str| {
            let value = manifest.pointer(pointer).and_then(Value::as_str);
            value.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let need = |pointer: &str, what: &str| {
            text(pointer)
                .ok_or_else(|| Error::NoObject { source: format!("it has no {what}").into() })
        };
        Ok(Self {
            api_version: need("/apiVersion", "apiVersion")?,
            kind: need("/kind", "kind")?,
            namespace: Some(text("/metadata/namespace").unwrap_or_else(|| namespace.to_owned())),
            name: need("/metadata/name", "metadata.name")?,
        })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Cluster {
    /// Reads an object; `None` when it does not exist. [`Error::NoKind`] when the cluster lacks its
    /// kind.
    pub async fn read_manifest(&self, id: &ObjectId) -> Result<Option<Value>> {
        let kind = self.resolve_kind(&id.api_version, &id.kind).await?;
        let found = self.dynamic_api(&kind.resource, scope_of(&kind, id)).get_opt(&id.name).await;
        let found = found.map_err(|error| Error::from_kube(format!("reading {id}"), error))?;
        found.map(|object| to_json(&object)).transpose()
    }

    /// Applies a manifest (server-side apply): Gantry becomes the manager of its fields, others
    /// stay as they are. `namespace` is used where the manifest names none.
    pub async fn apply_manifest(
        &self,
        manifest: &Value,
        namespace: &str,
        mode: ApplyMode,
    ) -> Result<AppliedManifest> {
        let id = self.identify_manifest(manifest, namespace).await?;
        let before = self.read_manifest(&id).await?;
        let conflicts = FieldConflicts::Refuse;
        let apply = ManifestApply { manifest, namespace, manager: MANAGER, mode, conflicts };
        let after = self.send_apply(&apply).await?;
        // Not the resource version: a dry run does not change it, and an apply that changes nothing may,
        // since the API server notes it (seen with a ValidatingAdmissionPolicy whose status is new).
        let applied = match &before {
            None => ApplyEffect::Created,
            Some(before) if without_server_fields(before) == without_server_fields(&after) => {
                ApplyEffect::Same
            }
            Some(_) => ApplyEffect::Changed,
        };
        Ok(AppliedManifest { id, applied, before, after })
    }

    /// Applies a manifest with any field manager, and returns the object as it is then, or would be.
    /// [`Error::Conflict`] names the fields that others own.
    pub async fn send_apply(&self, apply: &ManifestApply<'_>) -> Result<Value> {
        let id = self.identify_manifest(apply.manifest, apply.namespace).await?;
        let kind = self.resolve_kind(&id.api_version, &id.kind).await?;
        let api = self.dynamic_api(&kind.resource, scope_of(&kind, &id));
        let mut params = PatchParams::apply(apply.manager);
        params.dry_run = apply.mode == ApplyMode::DryRun;
        params.force = apply.conflicts == FieldConflicts::TakeOver;
        let after = api.patch(&id.name, &params, &Patch::Apply(apply.manifest)).await;
        to_json(&after.map_err(|error| Error::from_kube(format!("applying {id}"), error))?)
    }

    /// Writes the differences between an object as it was read and as it is to be, as `manager`.
    /// [`Error::Conflict`] when it has changed since it was read.
    pub async fn write_differences(
        &self,
        before: &Value,
        after: &Value,
        manager: &str,
    ) -> Result<Value> {
        let id = self.identify_manifest(before, self.namespace()).await?;
        let kind = self.resolve_kind(&id.api_version, &id.kind).await?;
        let mut patch = find_merge_patch(before, after).unwrap_or_else(|| json!({}));
        // A patch with a resource version is refused when the object has another one.
        patch["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        let api = self.dynamic_api(&kind.resource, scope_of(&kind, &id));
        let params =
            PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        let after = api.patch(&id.name, &params, &Patch::Merge(&patch)).await;
        to_json(&after.map_err(|error| Error::from_kube(format!("changing {id}"), error))?)
    }

    /// The identity of a manifest in this cluster: a manifest alone does not tell whether its kind
    /// is cluster-scoped. `namespace` is used where it names none.
    pub async fn identify_manifest(&self, manifest: &Value, namespace: &str) -> Result<ObjectId> {
        let mut id = ObjectId::from_manifest(manifest, namespace)?;
        if !self.resolve_kind(&id.api_version, &id.kind).await?.is_namespaced {
            id.namespace = None;
        }
        Ok(id)
    }

    /// Creates an object; [`Error::Conflict`] when it exists already.
    pub async fn create_manifest(&self, manifest: &Value) -> Result<Value> {
        let id = ObjectId::from_manifest(manifest, self.namespace())?;
        let kind = self.resolve_kind(&id.api_version, &id.kind).await?;
        let object: DynamicObject = serde_json::from_value(manifest.clone())
            .map_err(|error| Error::NoObject { source: error.into() })?;
        let api = self.dynamic_api(&kind.resource, scope_of(&kind, &id));
        let made = api.create(&post_params(), &object).await;
        to_json(&made.map_err(|error| Error::from_kube(format!("creating {id}"), error))?)
    }

    /// Replaces a whole object. Its `resourceVersion` says which version was read;
    /// [`Error::Conflict`] when it has changed since.
    pub async fn replace_manifest(&self, manifest: &Value) -> Result<Value> {
        let id = ObjectId::from_manifest(manifest, self.namespace())?;
        let kind = self.resolve_kind(&id.api_version, &id.kind).await?;
        let object: DynamicObject = serde_json::from_value(manifest.clone())
            .map_err(|error| Error::NoObject { source: error.into() })?;
        let api = self.dynamic_api(&kind.resource, scope_of(&kind, &id));
        let put = api.replace(&id.name, &post_params(), &object).await;
        to_json(&put.map_err(|error| Error::from_kube(format!("replacing {id}"), error))?)
    }

    /// Deletes an object and everything that it owns. Returns `false` when it or its kind does not
    /// exist.
    pub async fn delete_manifest(&self, id: &ObjectId) -> Result<bool> {
        let kind = match self.resolve_kind(&id.api_version, &id.kind).await {
            Err(Error::NoKind { .. }) => return Ok(false),
            kind => kind?,
        };
        let api = self.dynamic_api(&kind.resource, scope_of(&kind, id));
        match api.delete(&id.name, &DeleteParams::background()).await {
            Ok(_) => Ok(true),
            Err(error) if Error::is_not_found(&error) => Ok(false),
            Err(error) => Err(Error::from_kube(format!("deleting {id}"), error)),
        }
    }

    /// Lists the objects of a kind that match a label selector; all when it is empty.
    pub async fn list_manifests(
        &self,
        api_version: &str,
        kind: &str,
        scope: ObjectScope<'_>,
        selector: &str,
    ) -> Result<Vec<Value>> {
        let known = self.resolve_kind(api_version, kind).await?;
        let scope = if known.is_namespaced { scope } else { ObjectScope::Cluster };
        let api = self.dynamic_api(&known.resource, scope);
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = api.list(&params).await;
            let page = page.map_err(|error| Error::from_kube(format!("listing {kind}s"), error))?;
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            for mut object in page.items {
                // The API server leaves `apiVersion` and `kind` out of the items of a list.
                object.types.get_or_insert_with(|| kube::core::TypeMeta {
                    api_version: api_version.to_owned(),
                    kind: kind.to_owned(),
                });
                all.push(to_json(&object)?);
            }
            match next {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// Looks up a kind in the discovery of its API version, once for each kind: an API version
    /// always serves a kind in the same way.
    async fn resolve_kind(&self, api_version: &str, kind: &str) -> Result<ResolvedKind> {
        let key = (api_version.to_owned(), kind.to_owned());
        let known = self.resolved.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = self.discover_kind(api_version, kind).await?;
        let mut all = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, found.clone());
        Ok(found)
    }

    async fn discover_kind(&self, api_version: &str, kind: &str) -> Result<ResolvedKind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        match kube::discovery::pinned_kind(&self.client, &wanted).await {
            Ok((resource, capabilities)) => Ok(ResolvedKind {
                resource,
                is_namespaced: capabilities.scope == KindScope::Namespaced,
            }),
            Err(kube::Error::Discovery(_)) => {
                Err(Error::NoKind { version: api_version.to_owned(), kind: kind.to_owned() })
            }
            Err(error) if Error::is_not_found(&error) => {
                Err(Error::NoKind { version: api_version.to_owned(), kind: kind.to_owned() })
            }
            Err(error) => Err(Error::from_kube(format!("looking up the kind {kind}"), error)),
        }
    }
}

/// Where an object of a kind is: cluster-scoped kinds have no namespace.
fn scope_of<'a>(kind: &ResolvedKind, id: &'a ObjectId) -> ObjectScope<'a> {
    match &id.namespace {
        Some(namespace) if kind.is_namespaced => ObjectScope::Namespace(namespace),
        _ => ObjectScope::Cluster,
    }
}

/// An object without the fields that the API server changes by itself.
pub fn without_server_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for own in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(own);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(DEPLOYMENT_REVISION);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

/// Where the controller of Deployments notes their revision (kubernetes.io, "Deployments").
const DEPLOYMENT_REVISION: &str = "deployment.kubernetes.io/revision";

/// The JSON merge patch (RFC 7396) that makes `after` of `before`; `None` when they are the same.
fn find_merge_patch(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return Some(after.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, new) in new {
        let difference = match old.get(key) {
            Some(old) => find_merge_patch(old, new),
            None => Some(new.clone()),
        };
        if let Some(difference) = difference {
            patch.insert(key.clone(), difference);
        }
    }
    Some(Value::Object(patch))
}

fn to_json(object: &DynamicObject) -> Result<Value> {
    serde_json::to_value(object).map_err(|error| Error::NoObject { source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_has_what_differs_and_null_for_what_goes() {
        let before = json!({"a": {"b": 1, "c": 2}, "list": [1, 2], "same": {"x": 1}});
        let after = json!({"a": {"b": 1}, "list": [1], "same": {"x": 1}, "new": "y"});
        let patch = json!({"a": {"c": null}, "list": [1], "new": "y"});
        assert_eq!(find_merge_patch(&before, &after), Some(patch));
        assert_eq!(find_merge_patch(&before, &before), None);
    }
}
