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
pub enum Scope<'a> {
    /// One namespace.
    Namespace(&'a str),
    /// The cluster itself; for a list, all namespaces.
    Cluster,
}

/// What an apply did to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// It was created.
    Created,
    /// It was changed.
    Changed,
    /// It was already as it should be.
    Same,
}

/// Any typed object of [`crate::objects`].
pub trait Object:
    kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug + Send + Sync
{
}

impl<K> Object for K where
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
    pub async fn get<K: Object>(&self, scope: Scope<'_>, name: &str) -> Result<Option<K>> {
        let doing = || format!("reading {}", called::<K>(scope, name));
        let found = self.typed::<K>(scope).get_opt(name).await;
        let found = found.map_err(|error| Error::of(doing(), error))?;
        found.map(|object| parse(object, doing)).transpose()
    }

    /// Lists the objects that match a label selector; all when it is empty.
    pub async fn list<K: Object>(&self, scope: Scope<'_>, selector: &str) -> Result<Vec<K>> {
        let doing = || format!("listing {}", called::<K>(scope, ""));
        let api = self.typed::<K>(scope);
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = api.list(&params).await.map_err(|error| Error::of(doing(), error))?;
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            for object in page.items {
                all.push(parse(object, doing)?);
            }
            match next {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// Applies an object (server-side apply): Gantry becomes the manager of the fields that are
    /// set, the others stay as they are. [`Error::Conflict`] when another manager owns a field.
    pub async fn apply<K: Object>(&self, scope: Scope<'_>, object: &K) -> Result<Applied> {
        let name = object.meta().name.clone().unwrap_or_default();
        let doing = || format!("applying {}", called::<K>(scope, &name));
        let api = self.typed::<K>(scope);
        // An apply does not say whether it changed anything: compare the versions before and after.
        let before = api.get_opt(&name).await.map_err(|error| Error::of(doing(), error))?;
        let body = with_type(object)?;
        let after = api.patch(&name, &PatchParams::apply(MANAGER), &Patch::Apply(&body)).await;
        let after = after.map_err(|error| Error::of(doing(), error))?;
        Ok(compare(before.as_ref().map(|object| &object.metadata), &after.metadata))
    }

    /// Creates an object; [`Error::Conflict`] when it exists already.
    pub async fn create<K: Object>(&self, scope: Scope<'_>, object: &K) -> Result<K> {
        let name = object.meta().name.clone().unwrap_or_default();
        let doing = || format!("creating {}", called::<K>(scope, &name));
        let body = dynamic(object)?;
        let made = self.typed::<K>(scope).create(&posting(), &body).await;
        parse(made.map_err(|error| Error::of(doing(), error))?, doing)
    }

    /// Replaces a whole object. Its `resourceVersion` says which version was read;
    /// [`Error::Conflict`] when it has changed since.
    pub async fn replace<K: Object>(&self, scope: Scope<'_>, object: &K) -> Result<K> {
        let name = object.meta().name.clone().unwrap_or_default();
        let doing = || format!("replacing {}", called::<K>(scope, &name));
        let body = dynamic(object)?;
        let put = self.typed::<K>(scope).replace(&name, &posting(), &body).await;
        parse(put.map_err(|error| Error::of(doing(), error))?, doing)
    }

    /// Deletes an object and everything that it owns, whoever created it; [`Cluster::delete_own`]
    /// deletes only Gantry's own. Returns `false` when it does not exist. Deletion goes on in the
    /// background after this returns.
    pub async fn delete<K: Object>(&self, scope: Scope<'_>, name: &str) -> Result<bool> {
        match self.typed::<K>(scope).delete(name, &DeleteParams::background()).await {
            Ok(_) => Ok(true),
            Err(error) if Error::is_not_found(&error) => Ok(false),
            Err(error) => Err(Error::of(format!("deleting {}", called::<K>(scope, name)), error)),
        }
    }

    /// Deletes an object that Gantry created; [`Error::NotOurs`] when somebody else did.
    pub async fn delete_own<K: Object>(&self, scope: Scope<'_>, name: &str) -> Result<bool> {
        match self.get::<K>(scope, name).await? {
            None => Ok(false),
            Some(object) if is_own(object.meta()) => self.delete::<K>(scope, name).await,
            Some(_) => Err(Error::NotOurs {
                what: called::<K>(scope, name),
                next: "it is left as it is; delete it yourself if it is not needed".to_owned(),
            }),
        }
    }

    /// The API of a type, with objects as JSON: the API server may know fields that the Rust type
    /// does not, and reading and writing them must not lose those.
    fn typed<K: Object>(&self, scope: Scope<'_>) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<K>(&());
        self.api(&resource, scope)
    }

    pub(crate) fn api(&self, resource: &ApiResource, scope: Scope<'_>) -> Api<DynamicObject> {
        match scope {
            Scope::Namespace(namespace) => {
                Api::namespaced_with(self.client.clone(), namespace, resource)
            }
            Scope::Cluster => Api::all_with(self.client.clone(), resource),
        }
    }
}

/// What an apply did, by the object's resource version before and after.
pub(crate) fn compare(before: Option<&ObjectMeta>, after: &ObjectMeta) -> Applied {
    match before {
        None => Applied::Created,
        Some(before) if before.resource_version == after.resource_version => Applied::Same,
        Some(_) => Applied::Changed,
    }
}

pub(crate) fn posting() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

fn dynamic<K: Object>(object: &K) -> Result<DynamicObject> {
    serde_json::from_value(with_type(object)?).map_err(|cause| unread(&cause))
}

/// What an object or a list is called in messages: `Pod seeds/loader`, `Node node1`, `Pods in
/// seeds`.
fn called<K: Object>(scope: Scope<'_>, name: &str) -> String {
    let kind = K::kind(&());
    match (scope, name) {
        (Scope::Cluster, "") => format!("{kind}s"),
        (Scope::Namespace(namespace), "") => format!("{kind}s in {namespace}"),
        (Scope::Cluster, name) => format!("{kind} {name}"),
        (Scope::Namespace(namespace), name) => format!("{kind} {namespace}/{name}"),
    }
}

/// The object as JSON, certainly with `apiVersion` and `kind`, which an apply needs.
fn with_type<K: Object>(object: &K) -> Result<serde_json::Value> {
    let mut body = serde_json::to_value(object).map_err(|cause| unread(&cause))?;
    if let Some(fields) = body.as_object_mut() {
        fields.insert("apiVersion".to_owned(), K::api_version(&()).into_owned().into());
        fields.insert("kind".to_owned(), K::kind(&()).into_owned().into());
    }
    Ok(body)
}

fn parse<K: Object>(object: DynamicObject, doing: impl Fn() -> String) -> Result<K> {
    object.try_parse().map_err(|cause| Error::Other { doing: doing(), cause: cause.to_string() })
}

fn unread(cause: &serde_json::Error) -> Error {
    Error::Other { doing: "writing an object as JSON".to_owned(), cause: cause.to_string() }
}
