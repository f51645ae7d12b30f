//! Objects of any kind, as JSON: what a chart renders, what an audit reads. Their kinds are learned
//! from the API server.

use std::fmt;

use k8s_openapi::serde_json::{self, Value};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::discovery::Scope as KindScope;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Serialize;

use crate::object::{compare, posting};
use crate::{Applied, Cluster, Error, MANAGER, Result, Scope};

/// Objects that come in one answer; more are asked for page by page.
const PAGE: u32 = 500;

/// Whether an apply is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Apply,
    /// The API server only says what would come of it (defaults and admission included).
    DryRun,
}

/// Which object a manifest is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Id {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// The namespace; absent for objects of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// What an apply did, with the object before and after.
#[derive(Debug, Clone)]
pub struct Written {
    /// Which object.
    pub id: Id,
    /// What was done, or would be in a dry run.
    pub applied: Applied,
    /// As it was; `None` when it was not there.
    pub before: Option<Value>,
    /// As it is now, or would be.
    pub after: Value,
}

impl Id {
    /// The object that a manifest is about. `namespace` is the one of those that name none.
    pub fn of(manifest: &Value, namespace: &str) -> Result<Self> {
        let text = |pointer: &str| {
            let value = manifest.pointer(pointer).and_then(Value::as_str);
            value.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let need = |pointer: &str, what: &str| {
            text(pointer).ok_or_else(|| Error::NoObject { reason: format!("it has no {what}") })
        };
        Ok(Self {
            api_version: need("/apiVersion", "apiVersion")?,
            kind: need("/kind", "kind")?,
            namespace: Some(text("/metadata/namespace").unwrap_or_else(|| namespace.to_owned())),
            name: need("/metadata/name", "metadata.name")?,
        })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A kind as the API server has it.
pub(crate) struct Kind {
    resource: ApiResource,
    is_namespaced: bool,
}

impl Cluster {
    /// The object as it is, or `None`. Its kind may be unknown too: [`Error::NoKind`].
    pub async fn read_manifest(&self, id: &Id) -> Result<Option<Value>> {
        let kind = self.kind(&id.api_version, &id.kind).await?;
        let found = self.api(&kind.resource, kind.scope(id)).get_opt(&id.name).await;
        let found = found.map_err(|error| Error::of(format!("reading {id}"), error))?;
        found.map(|object| json(&object)).transpose()
    }

    /// Makes an object what a manifest says: its fields become Gantry's, others stay. `namespace` is
    /// the one of manifests that name none.
    pub async fn apply_manifest(
        &self,
        manifest: &Value,
        namespace: &str,
        mode: Mode,
    ) -> Result<Written> {
        let mut id = Id::of(manifest, namespace)?;
        let kind = self.kind(&id.api_version, &id.kind).await?;
        if !kind.is_namespaced {
            id.namespace = None;
        }
        let api = self.api(&kind.resource, kind.scope(&id));
        let doing = || format!("applying {id}");
        let before = api.get_opt(&id.name).await.map_err(|error| Error::of(doing(), error))?;
        let mut params = PatchParams::apply(MANAGER);
        if mode == Mode::DryRun {
            params = params.dry_run();
        }
        let after = api.patch(&id.name, &params, &Patch::Apply(manifest)).await;
        let after = after.map_err(|error| Error::of(doing(), error))?;
        let before_json = before.as_ref().map(json).transpose()?;
        let after_json = json(&after)?;
        let applied = match (&before_json, mode) {
            // A dry run gives no new version to compare.
            (Some(before), Mode::DryRun) if stable(before) == stable(&after_json) => Applied::Same,
            (Some(_), Mode::DryRun) => Applied::Changed,
            _ => compare(before.as_ref().map(|object| &object.metadata), &after.metadata),
        };
        Ok(Written { id, applied, before: before_json, after: after_json })
    }

    /// Puts a whole object in the place of the one that was read: its `resourceVersion` says which.
    pub async fn replace_manifest(&self, manifest: &Value) -> Result<Value> {
        let id = Id::of(manifest, self.namespace())?;
        let kind = self.kind(&id.api_version, &id.kind).await?;
        let object: DynamicObject = serde_json::from_value(manifest.clone())
            .map_err(|cause| Error::NoObject { reason: cause.to_string() })?;
        let api = self.api(&kind.resource, kind.scope(&id));
        let put = api.replace(&id.name, &posting(), &object).await;
        json(&put.map_err(|error| Error::of(format!("replacing {id}"), error))?)
    }

    /// Deletes an object with all that it owns. `false`: it, or its kind, was not there.
    pub async fn delete_manifest(&self, id: &Id) -> Result<bool> {
        let kind = match self.kind(&id.api_version, &id.kind).await {
            Err(Error::NoKind { .. }) => return Ok(false),
            kind => kind?,
        };
        let api = self.api(&kind.resource, kind.scope(id));
        match api.delete(&id.name, &DeleteParams::background()).await {
            Ok(_) => Ok(true),
            Err(error) if Error::is_not_found(&error) => Ok(false),
            Err(error) => Err(Error::of(format!("deleting {id}"), error)),
        }
    }

    /// The objects of a kind that a label selector names; all when it is empty.
    pub async fn list_manifests(
        &self,
        api_version: &str,
        kind: &str,
        scope: Scope<'_>,
        selector: &str,
    ) -> Result<Vec<Value>> {
        let known = self.kind(api_version, kind).await?;
        let scope = if known.is_namespaced { scope } else { Scope::Cluster };
        let api = self.api(&known.resource, scope);
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = api.list(&params).await;
            let page = page.map_err(|error| Error::of(format!("listing {kind}s"), error))?;
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            for mut object in page.items {
                // Items of a list come without their type.
                object.types.get_or_insert_with(|| kube::core::TypeMeta {
                    api_version: api_version.to_owned(),
                    kind: kind.to_owned(),
                });
                all.push(json(&object)?);
            }
            match next {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    async fn kind(&self, api_version: &str, kind: &str) -> Result<Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        match kube::discovery::pinned_kind(&self.client, &wanted).await {
            Ok((resource, capabilities)) => {
                Ok(Kind { resource, is_namespaced: capabilities.scope == KindScope::Namespaced })
            }
            Err(kube::Error::Discovery(_)) => {
                Err(Error::NoKind { version: api_version.to_owned(), kind: kind.to_owned() })
            }
            Err(error) if Error::is_not_found(&error) => {
                Err(Error::NoKind { version: api_version.to_owned(), kind: kind.to_owned() })
            }
            Err(error) => Err(Error::of(format!("asking for the kind {kind}"), error)),
        }
    }
}

impl Kind {
    fn scope<'a>(&self, id: &'a Id) -> Scope<'a> {
        match &id.namespace {
            Some(namespace) if self.is_namespaced => Scope::Namespace(namespace),
            _ => Scope::Cluster,
        }
    }
}

/// An object without what changes by itself.
fn stable(object: &Value) -> Value {
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

fn json(object: &DynamicObject) -> Result<Value> {
    serde_json::to_value(object).map_err(|cause| Error::NoObject { reason: cause.to_string() })
}
