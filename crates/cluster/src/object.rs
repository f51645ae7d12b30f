//! Typed objects: get, list, apply with owned fields, create, replace, delete.

use std::fmt::Debug;

use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Cluster, Error, MANAGER, Result, is_own};

/// Objects per page of a list, as kubectl's default (`--chunk-size`).
const PAGE: u32 = 500;

/// Where an object is, or which objects a list covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectScope<'a> {
    /// One namespace.
    Namespace(&'a str),
    /// The cluster itself; for a list, all namespaces.
    Cluster,
}

/// What an apply did to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApplyEffect {
    /// It was created.
    Created,
    /// It was changed.
    Changed,
    /// It was already as it should be.
    Same,
}

/// Any typed object of [`crate::objects`].
pub trait TypedObject:
    kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug + Send + Sync
{
}

impl<K> TypedObject for K where
    K: kube::Resource<DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
{
}

impl Cluster {
    /// Reads an object; `None` when it does not exist.
    pub async fn get_object<K: TypedObject>(
        &self,
        scope: ObjectScope<'_>,
        name: &str,
    ) -> Result<Option<K>> {
        let doing = || format!("reading {}", format_object_name::<K>(scope, name));
        let found = self.typed_api::<K>(scope).get_opt(name).await;
        let found = found.map_err(|error| Error::from_kube(doing(), error))?;
        found.map(|object| parse_object(object, doing)).transpose()
    }

    /// Lists the objects that match a label selector; all when it is empty.
    pub async fn list_objects<K: TypedObject>(
        &self,
        scope: ObjectScope<'_>,
        selector: &str,
    ) -> Result<Vec<K>> {
        let doing = || format!("listing {}", format_object_name::<K>(scope, ""));
        let api = self.typed_api::<K>(scope);
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = api.list(&params).await.map_err(|error| Error::from_kube(doing(), error))?;
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            for object in page.items {
                all.push(parse_object(object, doing)?);
            }
            match next {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// Applies an object (server-side apply): Gantry becomes the manager of the fields that are
    /// set, the others stay as they are. [`Error::Conflict`] when another manager owns a field.
    pub async fn apply_object<K: TypedObject>(
        &self,
        scope: ObjectScope<'_>,
        object: &K,
    ) -> Result<ApplyEffect> {
        let name = object.meta().name.clone().unwrap_or_default();
        let doing = || format!("applying {}", format_object_name::<K>(scope, &name));
        let api = self.typed_api::<K>(scope);
        // An apply does not say whether it changed anything: compare the versions before and after.
        let before = api.get_opt(&name).await.map_err(|error| Error::from_kube(doing(), error))?;
        let body = to_json_with_type(object)?;
        let after = api.patch(&name, &PatchParams::apply(MANAGER), &Patch::Apply(&body)).await;
        let after = after.map_err(|error| Error::from_kube(doing(), error))?;
        Ok(compare_versions(before.as_ref().map(|object| &object.metadata), &after.metadata))
    }

    /// Creates an object; [`Error::Conflict`] when it exists already.
    pub async fn create_object<K: TypedObject>(
        &self,
        scope: ObjectScope<'_>,
        object: &K,
    ) -> Result<K> {
        let name = object.meta().name.clone().unwrap_or_default();
        let doing = || format!("creating {}", format_object_name::<K>(scope, &name));
        let body = to_dynamic_object(object)?;
        let made = self.typed_api::<K>(scope).create(&post_params(), &body).await;
        parse_object(made.map_err(|error| Error::from_kube(doing(), error))?, doing)
    }

    /// Replaces a whole object. Its `resourceVersion` says which version was read;
    /// [`Error::Conflict`] when it has changed since.
    pub async fn replace_object<K: TypedObject>(
        &self,
        scope: ObjectScope<'_>,
        object: &K,
    ) -> Result<K> {
        let name = object.meta().name.clone().unwrap_or_default();
        let doing = || format!("replacing {}", format_object_name::<K>(scope, &name));
        let body = to_dynamic_object(object)?;
        let put = self.typed_api::<K>(scope).replace(&name, &post_params(), &body).await;
        parse_object(put.map_err(|error| Error::from_kube(doing(), error))?, doing)
    }

    /// Deletes an object and everything that it owns, whoever created it; [`Cluster::delete_own_object`]
    /// deletes only Gantry's own. Returns `false` when it does not exist. Deletion goes on in the
    /// background after this returns.
    pub async fn delete_object<K: TypedObject>(
        &self,
        scope: ObjectScope<'_>,
        name: &str,
    ) -> Result<bool> {
        match self.typed_api::<K>(scope).delete(name, &DeleteParams::background()).await {
            Ok(_) => Ok(true),
            Err(error) if Error::is_not_found(&error) => Ok(false),
            Err(error) => Err(Error::from_kube(
                format!("deleting {}", format_object_name::<K>(scope, name)),
                error,
            )),
        }
    }

    /// Deletes an object that Gantry created; [`Error::NotOurs`] when somebody else did.
    pub async fn delete_own_object<K: TypedObject>(
        &self,
        scope: ObjectScope<'_>,
        name: &str,
    ) -> Result<bool> {
        match self.get_object::<K>(scope, name).await? {
            None => Ok(false),
            Some(object) if is_own(object.meta()) => self.delete_object::<K>(scope, name).await,
            Some(_) => Err(Error::NotOurs {
                what: format_object_name::<K>(scope, name),
                next: "it is left as it is; delete it yourself if it is not needed".to_owned(),
            }),
        }
    }

    /// The API of a type, with objects as JSON: the API server may know fields that the Rust type
    /// does not, and reading and writing them must not lose those.
    fn typed_api<K: TypedObject>(&self, scope: ObjectScope<'_>) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<K>(&());
        self.dynamic_api(&resource, scope)
    }

    pub(crate) fn dynamic_api(
        &self,
        resource: &ApiResource,
        scope: ObjectScope<'_>,
    ) -> Api<DynamicObject> {
        match scope {
            ObjectScope::Namespace(namespace) => {
                Api::namespaced_with(self.client.clone(), namespace, resource)
            }
            ObjectScope::Cluster => Api::all_with(self.client.clone(), resource),
        }
    }
}

/// What an apply did, by the object's resource version before and after.
pub(crate) fn compare_versions(before: Option<&ObjectMeta>, after: &ObjectMeta) -> ApplyEffect {
    match before {
        None => ApplyEffect::Created,
        Some(before) if before.resource_version == after.resource_version => ApplyEffect::Same,
        Some(_) => ApplyEffect::Changed,
    }
}

pub(crate) fn post_params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

fn to_dynamic_object<K: TypedObject>(object: &K) -> Result<DynamicObject> {
    serde_json::from_value(to_json_with_type(object)?).map_err(encoding_error)
}

/// What an object or a list is called in messages: `Pod seeds/loader`, `Node node1`, `Pods in
/// seeds`.
fn format_object_name<K: TypedObject>(scope: ObjectScope<'_>, name: &str) -> String {
    let kind = K::kind(&());
    match (scope, name) {
        (ObjectScope::Cluster, "") => format!("{kind}s"),
        (ObjectScope::Namespace(namespace), "") => format!("{kind}s in {namespace}"),
        (ObjectScope::Cluster, name) => format!("{kind} {name}"),
        (ObjectScope::Namespace(namespace), name) => format!("{kind} {namespace}/{name}"),
    }
}

/// The object as JSON, certainly with `apiVersion` and `kind`, which an apply needs.
fn to_json_with_type<K: TypedObject>(object: &K) -> Result<serde_json::Value> {
    let mut body = serde_json::to_value(object).map_err(encoding_error)?;
    if let Some(fields) = body.as_object_mut() {
        fields.insert("apiVersion".to_owned(), K::api_version(&()).into_owned().into());
        fields.insert("kind".to_owned(), K::kind(&()).into_owned().into());
    }
    Ok(body)
}

fn parse_object<K: TypedObject>(object: DynamicObject, doing: impl Fn() -> String) -> Result<K> {
    object.try_parse().map_err(|source| Error::Parsing { doing: doing(), source })
}

fn encoding_error(source: serde_json::Error) -> Error {
    Error::Encoding { doing: "writing an object as JSON".to_owned(), source }
}
