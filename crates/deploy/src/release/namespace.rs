//! What a namespace needs before a release runs in it: the namespace itself, the pull secret, and the
//! site's authority. What is there already and was made by somebody else stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::objects::ByteString;
use cluster::objects::api::core::v1::{ConfigMap, Namespace, Secret};
use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use cluster::{Applied, Cluster, Right, Scope, is_own, own};
use net::Credential;
use serde::Serialize;
use serde_json::json;

use super::error::{Error, Result};
use super::{CA, PART};

/// The key of a pull secret, and its type (kubernetes.io, "Docker config Secrets").
const DOCKER_KEY: &str = ".dockerconfigjson";
const DOCKER_TYPE: &str = "kubernetes.io/dockerconfigjson";
/// The key that programs expect an authority under.
const CA_KEY: &str = "ca.crt";
/// The label of pod security admission that says what is enforced.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// What the namespaces of a site need.
#[derive(Debug, Clone, Default)]
pub struct SiteObjects {
    /// The pull secret.
    pub pull_secret: Option<PullSecret>,
    /// The registry's authority: PEM.
    pub ca: Option<String>,
    /// The level of pod security that is to be enforced (`restricted`).
    pub pod_security: Option<String>,
    /// What becomes of a namespace that is not there.
    pub missing: Missing,
}

/// What becomes of a namespace that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// It is made.
    #[default]
    Made,
    /// Somebody else makes it: it is an error.
    Refused,
}

/// A pull secret, and what is in it.
#[derive(Debug, Clone)]
pub struct PullSecret {
    /// The secret's name.
    pub name: String,
    /// The registry's host and port.
    pub host: String,
    /// The credential; absent where none is known here.
    pub credential: Option<Credential>,
}

/// An object beside the release, and what was done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Beside {
    /// `Secret shop/site-pull`.
    pub object: String,
    /// What was done, or would be.
    pub outcome: Outcome,
}

/// What was done to an object beside the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was made.
    Created,
    /// It was changed.
    Changed,
    /// It is as it should be.
    Same,
    /// Somebody else made it: it was left as it is.
    Kept,
}

impl From<Applied> for Outcome {
    fn from(applied: Applied) -> Self {
        match applied {
            Applied::Created => Self::Created,
            Applied::Changed => Self::Changed,
            Applied::Same => Self::Same,
        }
    }
}

impl Beside {
    pub(super) fn new(kind: &str, place: &str, outcome: impl Into<Outcome>) -> Self {
        Self { object: format!("{kind} {place}"), outcome: outcome.into() }
    }
}

/// Whether the namespace is there. Who may not look has it: somebody gave him rights in it.
pub(super) async fn exists(cluster: &Cluster, name: &str) -> Result<bool> {
    match cluster.get::<Namespace>(Scope::Cluster, name).await {
        Ok(found) => Ok(found.is_some()),
        Err(cluster::Error::Forbidden { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// [`cluster::Error::Missing`] when it is not there and is not to be made.
pub(super) async fn need_namespace(
    cluster: &Cluster,
    name: &str,
    site: &SiteObjects,
) -> Result<bool> {
    let is_there = exists(cluster, name).await?;
    if !is_there && site.missing == Missing::Refused {
        return Err(cluster::Error::Missing {
            what: format!("namespace {name}"),
            next: "let it be made: --create-namespace true, or ask an administrator".to_owned(),
        }
        .into());
    }
    Ok(is_there)
}

/// The rights that [`prepare`] needs.
///
/// # Errors
/// A namespace that is not there and is not to be made, and what the cluster answers.
pub async fn rights_to_prepare(
    cluster: &Cluster,
    name: &str,
    site: &SiteObjects,
) -> Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    let mut need = |resource: &str| {
        let right = |verb| Right::new(verb, "", resource).in_namespace(name);
        rights.extend(["get", "create", "patch"].map(right));
    };
    if site.pull_secret.is_some() {
        need("secrets");
    }
    if site.ca.is_some() {
        need("secrets");
        need("configmaps");
    }
    if !need_namespace(cluster, name, site).await? {
        rights.extend(["get", "create", "patch"].map(|verb| Right::new(verb, "", "namespaces")));
    } else if site.pod_security.is_some() {
        rights.insert(Right::new("patch", "", "namespaces"));
    }
    Ok(rights)
}

/// Makes the namespace where it is not there, and in it the pull secret and the authority's objects.
///
/// # Errors
/// A pull secret whose credential nobody has, and what the cluster answers.
pub async fn prepare(cluster: &Cluster, name: &str, site: &SiteObjects) -> Result<Vec<Beside>> {
    let mut beside = vec![Beside::new("Namespace", name, namespace(cluster, name, site).await?)];
    let scope = Scope::Namespace(name);
    if let Some(pull) = &site.pull_secret {
        let outcome = pull_secret(cluster, scope, pull).await?;
        beside.push(Beside::new("Secret", &format!("{name}/{}", pull.name), outcome));
    }
    if let Some(ca) = &site.ca {
        let place = format!("{name}/{CA}");
        let map = ConfigMap {
            metadata: metadata(CA),
            data: Some(BTreeMap::from([(CA_KEY.to_owned(), ca.clone())])),
            ..ConfigMap::default()
        };
        beside.push(Beside::new("ConfigMap", &place, kept_or_applied(cluster, scope, &map).await?));
        let secret = Secret {
            metadata: metadata(CA),
            data: Some(data(CA_KEY, ca.clone().into_bytes())),
            ..Secret::default()
        };
        beside.push(Beside::new("Secret", &place, kept_or_applied(cluster, scope, &secret).await?));
    }
    Ok(beside)
}

/// What [`prepare`] would make, without making it.
pub(super) async fn plan(cluster: &Cluster, name: &str, site: &SiteObjects) -> Result<Vec<Beside>> {
    let is_there = need_namespace(cluster, name, site).await?;
    let namespace = if is_there { Outcome::Same } else { Outcome::Created };
    let mut beside = vec![Beside::new("Namespace", name, namespace)];
    let scope = Scope::Namespace(name);
    let outcome = |found: Option<&ObjectMeta>| match found {
        None => Outcome::Created,
        Some(metadata) if is_own(metadata) => Outcome::Same,
        Some(_) => Outcome::Kept,
    };
    if let Some(pull) = &site.pull_secret {
        let found = cluster.get::<Secret>(scope, &pull.name).await?;
        let outcome = match (&found, pull.contents()) {
            (Some(found), Some(wanted)) if is_own(&found.metadata) => {
                let is = found.data.as_ref().and_then(|data| data.get(DOCKER_KEY));
                if is.is_some_and(|is| is.0 == wanted) { Outcome::Same } else { Outcome::Changed }
            }
            (Some(_), None) => Outcome::Kept,
            (None, None) => return Err(pull.missing()),
            (found, Some(_)) => outcome(found.as_ref().map(|secret| &secret.metadata)),
        };
        beside.push(Beside::new("Secret", &format!("{name}/{}", pull.name), outcome));
    }
    if site.ca.is_some() {
        let map = cluster.get::<ConfigMap>(scope, CA).await?;
        let secret = cluster.get::<Secret>(scope, CA).await?;
        let place = format!("{name}/{CA}");
        let map = outcome(map.as_ref().map(|map| &map.metadata));
        let secret = outcome(secret.as_ref().map(|secret| &secret.metadata));
        beside.push(Beside::new("ConfigMap", &place, map));
        beside.push(Beside::new("Secret", &place, secret));
    }
    Ok(beside)
}

async fn namespace(cluster: &Cluster, name: &str, site: &SiteObjects) -> Result<Outcome> {
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
    match cluster.get::<Namespace>(Scope::Cluster, name).await {
        Ok(None) => {}
        // Without a level it keeps the labels that it has, Gantry's own earlier one among them.
        Ok(Some(found)) if is_own(&found.metadata) && level.is_none() => return Ok(Outcome::Same),
        Ok(Some(found)) if is_own(&found.metadata) => {}
        Err(cluster::Error::Forbidden { .. }) if level.is_none() => return Ok(Outcome::Kept),
        // Of a foreign one only the label that was asked for is set.
        Ok(Some(_)) if level.is_some() => {
            return Ok(cluster.apply(Scope::Cluster, &wanted).await?.into());
        }
        Ok(Some(_)) => return Ok(Outcome::Kept),
        Err(error) => return Err(error.into()),
    }
    own(&mut wanted.metadata, PART);
    Ok(cluster.apply(Scope::Cluster, &wanted).await?.into())
}

async fn pull_secret(cluster: &Cluster, scope: Scope<'_>, pull: &PullSecret) -> Result<Outcome> {
    let found = cluster.get::<Secret>(scope, &pull.name).await?;
    let is_foreign = found.as_ref().is_some_and(|secret| !is_own(&secret.metadata));
    let Some(contents) = pull.contents().filter(|_| !is_foreign) else {
        return match found {
            // Somebody put a credential there: it serves as it is.
            Some(found) if found.type_.as_deref() == Some(DOCKER_TYPE) => Ok(Outcome::Kept),
            Some(_) => Err(cluster::Error::NotOurs {
                what: format!("Secret {} (no {DOCKER_TYPE})", pull.name),
                next: "delete it, or name another pullSecret in site.yaml".to_owned(),
            }
            .into()),
            None => Err(pull.missing()),
        };
    };
    let secret = Secret {
        metadata: metadata(&pull.name),
        type_: Some(DOCKER_TYPE.to_owned()),
        data: Some(data(DOCKER_KEY, contents)),
        ..Secret::default()
    };
    Ok(cluster.apply(scope, &secret).await?.into())
}

impl PullSecret {
    /// docker's `config.json` with this one credential.
    fn contents(&self) -> Option<Vec<u8>> {
        let Credential::Password { user, password } = self.credential.as_ref()? else {
            return None;
        };
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let entry = json!({"username": user, "password": password, "auth": auth});
        Some(json!({"auths": {&self.host: entry}}).to_string().into_bytes())
    }

    fn missing(&self) -> Error {
        Error::NoCredential { name: self.name.clone(), host: self.host.clone() }
    }
}

/// Applies an object, unless somebody else made it.
async fn kept_or_applied<K: cluster::Object>(
    cluster: &Cluster,
    scope: Scope<'_>,
    object: &K,
) -> Result<Outcome> {
    let name = object.meta().name.clone().unwrap_or_default();
    let found = cluster.get::<K>(scope, &name).await?;
    if found.is_some_and(|found| !is_own(found.meta())) {
        return Ok(Outcome::Kept);
    }
    Ok(cluster.apply(scope, object).await?.into())
}

fn metadata(name: &str) -> ObjectMeta {
    let mut metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    own(&mut metadata, PART);
    metadata
}

fn data(key: &str, value: Vec<u8>) -> BTreeMap<String, ByteString> {
    BTreeMap::from([(key.to_owned(), ByteString(value))])
}
