//! Prepares a namespace before a release is installed into it: creates the namespace, the pull
//! secret and the objects with the site's CA certificate. Objects that somebody else created stay
//! unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::objects::ByteString;
use cluster::objects::api::core::v1::{ConfigMap, Namespace, Secret};
use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use cluster::{ApplyEffect, Cluster, ObjectScope, Permission, is_own, mark_as_own};
use net::{Credential, Credentials};
use remote::site_registry::read_ca;
use serde::Serialize;
use serde_json::json;
use types::site::{RegistryTarget, Site};
use types::site_namespaces::SiteCaObject;

use super::labels::{CA, PART};
use crate::{Error, Result};

/// The key of a pull secret, and its type (kubernetes.io, "Docker config Secrets").
const DOCKER_KEY: &str = ".dockerconfigjson";
const DOCKER_TYPE: &str = "kubernetes.io/dockerconfigjson";
/// The label with which pod security admission enforces a level (kubernetes.io, "Pod Security
/// Admission").
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// What every namespace of a site gets.
#[derive(Debug, Clone, Default)]
pub struct SiteObjects {
    /// The pull secret for the site's registry, if it needs one.
    pub pull_secret: Option<PullSecret>,
    /// The CA certificate of the registry, as PEM.
    pub ca: Option<String>,
    /// More objects with it in each namespace, beside those called `gantry-ca`.
    pub ca_objects: Vec<SiteCaObject>,
    /// The pod security level that is to be enforced, such as `restricted`.
    pub pod_security: Option<String>,
    /// What to do if the namespace does not exist.
    pub missing: MissingNamespace,
}

/// What to do with a namespace that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingNamespace {
    /// Create it.
    #[default]
    Create,
    /// Fail: somebody else has to create it.
    Refuse,
}

/// A pull secret and its content.
#[derive(Debug, Clone)]
pub struct PullSecret {
    /// The name of the Secret.
    pub name: String,
    /// The registry's host and port.
    pub host: String,
    /// The credential; absent if none is known on this machine.
    pub credential: Option<Credential>,
}

/// An object outside the chart that Gantry manages for a release, and what was done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SupportObject {
    /// Kind, namespace and name: `Secret shop/site-pull`.
    pub object: String,
    /// What was done to it, or in a dry run what would be done.
    pub outcome: SupportObjectStatus,
}

/// What was done to an object outside the chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SupportObjectStatus {
    /// It was created.
    Created,
    /// It was changed.
    Changed,
    /// It was already up to date.
    Same,
    /// Somebody else created it, so it was left unchanged.
    Kept,
}

impl From<ApplyEffect> for SupportObjectStatus {
    fn from(applied: ApplyEffect) -> Self {
        match applied {
            ApplyEffect::Created => Self::Created,
            ApplyEffect::Changed => Self::Changed,
            ApplyEffect::Same => Self::Same,
        }
    }
}

impl SupportObject {
    pub(super) fn new(kind: &str, place: &str, outcome: impl Into<SupportObjectStatus>) -> Self {
        Self { object: format!("{kind} {place}"), outcome: outcome.into() }
    }
}

impl SiteObjects {
    /// What a site gives to its namespaces: the pull secret with the credential for its registry, and the
    /// registry's CA. `folder` is that of the site file, to which its paths are relative.
    pub fn of_site(site: &Site, folder: &Path, credentials: &Credentials) -> Result<Self> {
        let registry = site.registry.with_paths_below(folder);
        Self::with_pull_secret(site, &registry, PullSecret::of_site(site, credentials)?)
    }

    /// As [`Self::of_site`], with a pull secret whose credential is known. The paths in `registry` are as
    /// the process reads them.
    pub fn with_pull_secret(
        site: &Site,
        registry: &RegistryTarget,
        pull_secret: Option<PullSecret>,
    ) -> Result<Self> {
        let (ca, ca_objects) = (read_ca(registry)?, site.ca_objects.clone());
        Ok(Self { pull_secret, ca, ca_objects, ..Self::default() })
    }

    /// The ConfigMaps and the Secrets with the CA. Both are called `gantry-ca`, since charts differ in
    /// which of them they mount; others have the names that the site gives them.
    pub(super) fn build_ca_objects(&self) -> (Vec<ConfigMap>, Vec<Secret>) {
        let Some(ca) = &self.ca else { return (vec![], vec![]) };
        let (mut maps, mut secrets) = (Vec::new(), Vec::new());
        let own = [SiteCaObject::of_config_map(CA), SiteCaObject::of_secret(CA)];
        for object in own.iter().chain(&self.ca_objects) {
            if let Some(name) = &object.config_map {
                maps.push(ConfigMap {
                    metadata: own_metadata(name),
                    data: Some(BTreeMap::from([(object.key.clone(), ca.clone())])),
                    ..ConfigMap::default()
                });
            }
            if let Some(name) = &object.secret {
                secrets.push(Secret {
                    metadata: own_metadata(name),
                    data: Some(build_data(&object.key, ca.clone().into_bytes())),
                    ..Secret::default()
                });
            }
        }
        (maps, secrets)
    }
}

impl PullSecret {
    /// The credential for one registry in a pull secret of the cluster, which may have more of them;
    /// `None` when it has none that nodes can use.
    pub fn select_credential(secret: &Secret, host: &str) -> Result<Option<Self>> {
        let data = secret.data.as_ref().and_then(|data| data.get(DOCKER_KEY));
        let Some(data) = data else { return Ok(None) };
        let credential = Credential::from_docker_config(&data.0, host)?;
        let name = secret.metadata.name.clone().unwrap_or_default();
        Ok(credential.map(|credential| Self {
            name,
            host: host.to_owned(),
            credential: Some(credential),
        }))
    }

    /// The Secret with this one credential and `metadata`, whose name is set; `None` without a password.
    pub fn to_secret(&self, metadata: ObjectMeta) -> Option<Secret> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..metadata };
        Some(build_docker_secret(metadata, self.docker_config()?))
    }

    /// The site's pull secret with the credential for its registry, if the site names one.
    pub fn of_site(site: &Site, credentials: &Credentials) -> Result<Option<Self>> {
        let Some(name) = site.registry.pull_secret.clone() else { return Ok(None) };
        let host = site.registry.parse_prefix()?.registry().to_owned();
        let credential = credentials.find_credential(&host)?;
        Ok(Some(Self { name, host, credential }))
    }
}

/// Whether a namespace exists and is not being deleted, which is an error. Without the right to read it, it is assumed to exist: whoever has
/// rights in one namespace only was given them in that one.
pub(super) async fn has_namespace(cluster: &Cluster, name: &str) -> Result<bool> {
    match cluster.get_object::<Namespace>(ObjectScope::Cluster, name).await {
        Ok(Some(found)) if found.metadata.deletion_timestamp.is_some() => {
            Err(cluster::Error::BeingDeleted {
                doing: "preparing the namespace".to_owned(),
                what: format!("namespace {name}"),
            }
            .into())
        }
        Ok(found) => Ok(found.is_some()),
        Err(cluster::Error::Forbidden { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether the namespace exists.
///
/// # Errors
/// [`cluster::Error::MissingNamespace`] if it does not exist and Gantry may not create it.
pub(super) async fn require_namespace(
    cluster: &Cluster,
    name: &str,
    site: &SiteObjects,
) -> Result<bool> {
    let is_there = has_namespace(cluster, name).await?;
    if !is_there && site.missing == MissingNamespace::Refuse {
        return Err(cluster::Error::Missing {
            what: format!("namespace {name}"),
            next:
                "let Gantry create it with --create-namespace true, or ask an administrator for it"
                    .to_owned(),
        }
        .into());
    }
    Ok(is_there)
}

/// Lists the permissions that [`prepare_namespace`] needs.
///
/// # Errors
/// A namespace that does not exist and may not be created, and any error of the API server.
pub(super) async fn list_prepare_rights(
    cluster: &Cluster,
    name: &str,
    site: &SiteObjects,
) -> Result<BTreeSet<Permission>> {
    let mut rights = BTreeSet::new();
    let mut need = |resource: &str| {
        let right = |verb| Permission::new(verb, "", resource).in_namespace(name);
        rights.extend(["get", "create", "patch"].map(right));
    };
    if site.pull_secret.is_some() {
        need("secrets");
    }
    if site.ca.is_some() {
        need("secrets");
        need("configmaps");
    }
    // An existing namespace is only changed for its pod security label; creating one is a right of
    // the cluster, which users of one namespace rarely have.
    if !require_namespace(cluster, name, site).await? {
        rights
            .extend(["get", "create", "patch"].map(|verb| Permission::new(verb, "", "namespaces")));
    } else if site.pod_security.is_some() {
        rights.insert(Permission::new("patch", "", "namespaces"));
    }
    Ok(rights)
}

/// Creates the namespace if needed, and in it the pull secret and the objects with the CA
/// certificate.
///
/// # Errors
/// A pull secret for which no credential is known, and any error of the API server.
pub(super) async fn prepare_namespace(
    cluster: &Cluster,
    name: &str,
    site: &SiteObjects,
) -> Result<Vec<SupportObject>> {
    let mut beside =
        vec![SupportObject::new("Namespace", name, apply_namespace(cluster, name, site).await?)];
    beside.extend(apply_site_objects(cluster, name, site).await?);
    Ok(beside)
}

/// Creates the pull secret and the objects with the CA certificate in a namespace that exists.
///
/// # Errors
/// A pull secret for which no credential is known, and any error of the API server.
pub(super) async fn apply_site_objects(
    cluster: &Cluster,
    name: &str,
    site: &SiteObjects,
) -> Result<Vec<SupportObject>> {
    let mut beside = Vec::new();
    let scope = ObjectScope::Namespace(name);
    if let Some(pull) = &site.pull_secret {
        let outcome = apply_pull_secret(cluster, scope, pull).await?;
        beside.push(SupportObject::new("Secret", &format!("{name}/{}", pull.name), outcome));
    }
    let (maps, secrets) = site.build_ca_objects();
    for map in &maps {
        let outcome = apply_unless_foreign(cluster, scope, map).await?;
        beside.push(SupportObject::new("ConfigMap", &describe_place(name, map), outcome));
    }
    for secret in &secrets {
        let outcome = apply_unless_foreign(cluster, scope, secret).await?;
        beside.push(SupportObject::new("Secret", &describe_place(name, secret), outcome));
    }
    Ok(beside)
}

fn describe_place<K: cluster::TypedObject>(namespace: &str, object: &K) -> String {
    format!("{namespace}/{}", object.meta().name.as_deref().unwrap_or_default())
}

/// As [`prepare_namespace`], for several namespaces. A right that is missing for any of them is an error
/// before the first one is changed; `doing` is what it is missing for.
pub async fn prepare_namespaces(
    cluster: &Cluster,
    names: &BTreeSet<&str>,
    site: &SiteObjects,
    doing: &str,
) -> Result<Vec<SupportObject>> {
    let mut rights = BTreeSet::new();
    for name in names {
        rights.extend(list_prepare_rights(cluster, name, site).await?);
    }
    let rights: Vec<Permission> = rights.into_iter().collect();
    cluster.require_permissions(doing, &rights).await?;
    let mut beside = Vec::new();
    for name in names {
        beside.extend(prepare_namespace(cluster, name, site).await?);
    }
    Ok(beside)
}

/// Reports what [`prepare_namespace`] would do, without doing it.
pub(super) async fn plan_namespace(
    cluster: &Cluster,
    name: &str,
    site: &SiteObjects,
) -> Result<Vec<SupportObject>> {
    let is_there = require_namespace(cluster, name, site).await?;
    let namespace = if is_there { SupportObjectStatus::Same } else { SupportObjectStatus::Created };
    let mut beside = vec![SupportObject::new("Namespace", name, namespace)];
    let scope = ObjectScope::Namespace(name);
    if let Some(pull) = &site.pull_secret {
        let found = cluster.get_object::<Secret>(scope, &pull.name).await?;
        let outcome = match (&found, pull.docker_config()) {
            (Some(found), Some(wanted)) if is_own(&found.metadata) => {
                let is = found.data.as_ref().and_then(|data| data.get(DOCKER_KEY));
                if is.is_some_and(|is| is.0 == wanted) {
                    SupportObjectStatus::Same
                } else {
                    SupportObjectStatus::Changed
                }
            }
            // Nothing to replace it with; whoever created it presumably knew the credential.
            (Some(_), None) => SupportObjectStatus::Kept,
            (None, None) => return Err(pull.missing_credential()),
            (found, Some(_)) => plan_object(found.as_ref().map(|secret| &secret.metadata)),
        };
        beside.push(SupportObject::new("Secret", &format!("{name}/{}", pull.name), outcome));
    }
    let (maps, secrets) = site.build_ca_objects();
    for map in &maps {
        let object = map.metadata.name.as_deref().unwrap_or_default();
        let found = cluster.get_object::<ConfigMap>(scope, object).await?;
        let outcome = plan_object(found.as_ref().map(|found| &found.metadata));
        beside.push(SupportObject::new("ConfigMap", &describe_place(name, map), outcome));
    }
    for secret in &secrets {
        let object = secret.metadata.name.as_deref().unwrap_or_default();
        let found = cluster.get_object::<Secret>(scope, object).await?;
        let outcome = plan_object(found.as_ref().map(|found| &found.metadata));
        beside.push(SupportObject::new("Secret", &describe_place(name, secret), outcome));
    }
    Ok(beside)
}

/// What applying an object would do, by the object that is there.
pub(super) fn plan_object(found: Option<&ObjectMeta>) -> SupportObjectStatus {
    match found {
        None => SupportObjectStatus::Created,
        Some(metadata) if is_own(metadata) => SupportObjectStatus::Same,
        Some(_) => SupportObjectStatus::Kept,
    }
}

/// The namespace with the label of its pod security level, as anybody may apply it: it is not marked as
/// Gantry's own.
pub(super) fn build_namespace(name: &str, site: &SiteObjects) -> Namespace {
    let level = site.pod_security.as_ref();
    let labels = level.map(|level| BTreeMap::from([(ENFORCE.to_owned(), level.clone())]));
    Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), labels, ..ObjectMeta::default() },
        ..Namespace::default()
    }
}

async fn apply_namespace(
    cluster: &Cluster,
    name: &str,
    site: &SiteObjects,
) -> Result<SupportObjectStatus> {
    let level = site.pod_security.as_ref();
    let mut wanted = build_namespace(name, site);
    match cluster.get_object::<Namespace>(ObjectScope::Cluster, name).await {
        Ok(None) => {}
        // Applying it without a level would remove the label of an earlier run with one.
        Ok(Some(found)) if is_own(&found.metadata) && level.is_none() => {
            return Ok(SupportObjectStatus::Same);
        }
        Ok(Some(found)) if is_own(&found.metadata) => {}
        // No right to read it and nothing to change: take it as it is.
        Err(cluster::Error::Forbidden { .. }) if level.is_none() => {
            return Ok(SupportObjectStatus::Kept);
        }
        // Somebody else's namespace gets the requested label only, and no mark of ownership.
        Ok(Some(_)) if level.is_some() => {
            return Ok(cluster.apply_object(ObjectScope::Cluster, &wanted).await?.into());
        }
        Ok(Some(_)) => return Ok(SupportObjectStatus::Kept),
        Err(error) => return Err(error.into()),
    }
    mark_as_own(&mut wanted.metadata, PART);
    Ok(cluster.apply_object(ObjectScope::Cluster, &wanted).await?.into())
}

async fn apply_pull_secret(
    cluster: &Cluster,
    scope: ObjectScope<'_>,
    pull: &PullSecret,
) -> Result<SupportObjectStatus> {
    let found = cluster.get_object::<Secret>(scope, &pull.name).await?;
    let is_foreign = found.as_ref().is_some_and(|secret| !is_own(&secret.metadata));
    let Some(contents) = pull.docker_config().filter(|_| !is_foreign) else {
        return match found {
            // An administrator may have put the credential there: use it as it is.
            Some(found) if found.type_.as_deref() == Some(DOCKER_TYPE) => {
                Ok(SupportObjectStatus::Kept)
            }
            Some(_) => Err(cluster::Error::NotOurs {
                what: format!("Secret {} (its type is not {DOCKER_TYPE})", pull.name),
                next: "delete it, or choose another name for registry.pullSecret in site.yaml"
                    .to_owned(),
            }
            .into()),
            None => Err(pull.missing_credential()),
        };
    };
    let secret = build_docker_secret(own_metadata(&pull.name), contents);
    Ok(cluster.apply_object(scope, &secret).await?.into())
}

fn build_docker_secret(metadata: ObjectMeta, contents: Vec<u8>) -> Secret {
    Secret {
        metadata,
        type_: Some(DOCKER_TYPE.to_owned()),
        data: Some(build_data(DOCKER_KEY, contents)),
        ..Secret::default()
    }
}

impl PullSecret {
    /// The content of docker's `config.json` with this one credential; `None` without a password.
    fn docker_config(&self) -> Option<Vec<u8>> {
        let Credential::Password { user, password } = self.credential.as_ref()? else {
            return None;
        };
        // The kubelet reads `auth`; other tools that mount the secret read user and password.
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let entry = json!({"username": user, "password": password, "auth": auth});
        Some(json!({"auths": {&self.host: entry}}).to_string().into_bytes())
    }

    pub(super) fn missing_credential(&self) -> Error {
        Error::NoCredential { name: self.name.clone(), host: self.host.clone() }
    }
}

/// Applies an object, unless one of its name exists that somebody else created.
pub(super) async fn apply_unless_foreign<K: cluster::TypedObject>(
    cluster: &Cluster,
    scope: ObjectScope<'_>,
    object: &K,
) -> Result<SupportObjectStatus> {
    let name = object.meta().name.clone().unwrap_or_default();
    let found = cluster.get_object::<K>(scope, &name).await?;
    if found.is_some_and(|found| !is_own(found.meta())) {
        return Ok(SupportObjectStatus::Kept);
    }
    Ok(cluster.apply_object(scope, object).await?.into())
}

fn own_metadata(name: &str) -> ObjectMeta {
    let mut metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    mark_as_own(&mut metadata, PART);
    metadata
}

fn build_data(key: &str, value: Vec<u8>) -> BTreeMap<String, ByteString> {
    BTreeMap::from([(key.to_owned(), ByteString(value))])
}
