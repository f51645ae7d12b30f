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
use types::site::Site;

use super::labels::{CA, PART};
use crate::{Error, Result};

/// The key of a pull secret, and its type (kubernetes.io, "Docker config Secrets").
const DOCKER_KEY: &str = ".dockerconfigjson";
const DOCKER_TYPE: &str = "kubernetes.io/dockerconfigjson";
/// The key under which programs expect a CA certificate (as in `kube-root-ca.crt`).
const CA_KEY: &str = "ca.crt";
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
        let ca = read_ca(&site.registry.with_paths_below(folder))?;
        Ok(Self { pull_secret: PullSecret::of_site(site, credentials)?, ca, ..Self::default() })
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
    let scope = ObjectScope::Namespace(name);
    if let Some(pull) = &site.pull_secret {
        let outcome = apply_pull_secret(cluster, scope, pull).await?;
        beside.push(SupportObject::new("Secret", &format!("{name}/{}", pull.name), outcome));
    }
    if let Some(ca) = &site.ca {
        // Both kinds, since charts differ in whether they mount a CA from a ConfigMap or a Secret.
        let place = format!("{name}/{CA}");
        let map = ConfigMap {
            metadata: own_metadata(CA),
            data: Some(BTreeMap::from([(CA_KEY.to_owned(), ca.clone())])),
            ..ConfigMap::default()
        };
        beside.push(SupportObject::new(
            "ConfigMap",
            &place,
            apply_unless_foreign(cluster, scope, &map).await?,
        ));
        let secret = Secret {
            metadata: own_metadata(CA),
            data: Some(build_data(CA_KEY, ca.clone().into_bytes())),
            ..Secret::default()
        };
        beside.push(SupportObject::new(
            "Secret",
            &place,
            apply_unless_foreign(cluster, scope, &secret).await?,
        ));
    }
    Ok(beside)
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
    let outcome = |found: Option<&ObjectMeta>| match found {
        None => SupportObjectStatus::Created,
        Some(metadata) if is_own(metadata) => SupportObjectStatus::Same,
        Some(_) => SupportObjectStatus::Kept,
    };
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
            (found, Some(_)) => outcome(found.as_ref().map(|secret| &secret.metadata)),
        };
        beside.push(SupportObject::new("Secret", &format!("{name}/{}", pull.name), outcome));
    }
    if site.ca.is_some() {
        let map = cluster.get_object::<ConfigMap>(scope, CA).await?;
        let secret = cluster.get_object::<Secret>(scope, CA).await?;
        let place = format!("{name}/{CA}");
        let map = outcome(map.as_ref().map(|map| &map.metadata));
        let secret = outcome(secret.as_ref().map(|secret| &secret.metadata));
        beside.push(SupportObject::new("ConfigMap", &place, map));
        beside.push(SupportObject::new("Secret", &place, secret));
    }
    Ok(beside)
}

async fn apply_namespace(
    cluster: &Cluster,
    name: &str,
    site: &SiteObjects,
) -> Result<SupportObjectStatus> {
    let level = site.pod_security.as_ref();
    let label = level.map(|level| BTreeMap::from([(ENFORCE.to_owned(), level.clone())]));
    let mut wanted = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: label,
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
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

    fn missing_credential(&self) -> Error {
        Error::NoCredential { name: self.name.clone(), host: self.host.clone() }
    }
}

/// Applies an object, unless one of its name exists that somebody else created.
async fn apply_unless_foreign<K: cluster::TypedObject>(
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
