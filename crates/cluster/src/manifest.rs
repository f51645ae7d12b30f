//! Objects of any kind, as JSON: what a chart renders, what an audit reads. The API server is asked
//! how the kind is called in its API.

use std::fmt;

use k8s_openapi::serde_json::{self, Value};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::discovery::Scope as KindScope;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Serialize;

use crate::object::post_params;
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

/// A kind with its name in the API.
pub(crate) struct ResolvedKind {
    resource: ApiResource,
    is_namespaced: bool,
}

impl Cluster {
    /// Reads an object; `None` when it does not exist. [`Error::NoKind`] when the cluster lacks its
    /// kind.
    pub async fn read_manifest(&self, id: &ObjectId) -> Result<Option<Value>> {
        let kind = self.resolve_kind(&id.api_version, &id.kind).await?;
        let found = self.dynamic_api(&kind.resource, kind.object_scope(id)).get_opt(&id.name).await;
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
        // A manifest alone does not tell whether its kind is cluster-scoped.
        let mut id = ObjectId::from_manifest(manifest, namespace)?;
        let kind = self.resolve_kind(&id.api_version, &id.kind).await?;
        if !kind.is_namespaced {
            id.namespace = None;
        }
        let api = self.dynamic_api(&kind.resource, kind.object_scope(&id));
        let doing = || format!("applying {id}");
        let before =
            api.get_opt(&id.name).await.map_err(|error| Error::from_kube(doing(), error))?;
        let mut params = PatchParams::apply(MANAGER);
        if mode == ApplyMode::DryRun {
            params = params.dry_run();
        }
        let after = api.patch(&id.name, &params, &Patch::Apply(manifest)).await;
        let after = after.map_err(|error| Error::from_kube(doing(), error))?;
        let before_json = before.as_ref().map(to_json).transpose()?;
        let after_json = to_json(&after)?;
        // Not the resource version: a dry run does not change it, and an apply that changes nothing may,
        // since the API server notes it (seen with a ValidatingAdmissionPolicy whose status is new).
        let applied = match &before_json {
            None => ApplyEffect::Created,
            Some(before) if without_server_fields(before) == without_server_fields(&after_json) => {
                ApplyEffect::Same
            }
            Some(_) => ApplyEffect::Changed,
        };
        Ok(AppliedManifest { id, applied, before: before_json, after: after_json })
    }

    /// Creates an object; [`Error::Conflict`] when it exists already.
    pub async fn create_manifest(&self, manifest: &Value) -> Result<Value> {
        let id = ObjectId::from_manifest(manifest, self.namespace())?;
        let kind = self.resolve_kind(&id.api_version, &id.kind).await?;
        let object: DynamicObject = serde_json::from_value(manifest.clone())
            .map_err(|error| Error::NoObject { source: error.into() })?;
        let api = self.dynamic_api(&kind.resource, kind.object_scope(&id));
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
        let api = self.dynamic_api(&kind.resource, kind.object_scope(&id));
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
        let api = self.dynamic_api(&kind.resource, kind.object_scope(id));
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

    /// Looks up a kind in the discovery of its API version.
    async fn resolve_kind(&self, api_version: &str, kind: &str) -> Result<ResolvedKind> {
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

impl ResolvedKind {
    fn object_scope<'a>(&self, id: &'a ObjectId) -> ObjectScope<'a> {
        match &id.namespace {
            Some(namespace) if self.is_namespaced => ObjectScope::Namespace(namespace),
            _ => ObjectScope::Cluster,
        }
    }
}

/// An object without the fields that the API server changes by itself.
fn without_server_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for own in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(own);
        }
    }
    object
}

fn to_json(object: &DynamicObject) -> Result<Value> {
    serde_json::to_value(object).map_err(|error| Error::NoObject { source: error.into() })
}
