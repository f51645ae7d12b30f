//! Uninstalls releases that Gantry installed, and deletes the supporting objects that it created
//! for them. PersistentVolumeClaims are kept with their data unless the user asks for their
//! deletion; objects that others created are never touched.

use std::collections::BTreeMap;

use chart::manifest::Manifests;
use cluster::objects::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Secret};
use cluster::objects::api::networking::v1::NetworkPolicy;
use cluster::{Cluster, ObjectScope, TypedObject, is_own};
use remote::helm::record::{self, ReleaseStatus};
use remote::helm::{HelmClient, HookPolicy};
use serde::Serialize;
use serde_json::Value;

use super::claim_retention::{ClaimRetention, list_own_claims};
use super::labels::LABEL;
use super::manifests::{self, MANIFESTS, OWNER};
use super::objects;
use super::records::ReleaseHistory;
use super::{accounts, helm};
use crate::{Error, Result};

/// What happens to a namespace that Gantry created, once nothing else is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceRetention {
    /// It is kept.
    Kept,
    /// It is deleted.
    Deleted,
}

/// A release to remove, and its namespace if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseToRemove {
    /// The release.
    pub release: String,
    /// Its namespace; all are searched if it is not known.
    pub namespace: Option<String>,
}

/// Where releases are installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocatedReleases {
    /// Those that Gantry installed, by namespace.
    pub by_namespace: BTreeMap<String, Vec<InstalledRelease>>,
    /// Those that are not installed.
    pub missing: Vec<String>,
}

/// What a release consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseKind {
    /// A chart, which helm installed.
    Chart,
    /// Plain manifests, which Gantry applied.
    Manifests,
}

/// A release that Gantry installed in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstalledRelease {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub release: String,
    /// What it consists of.
    pub kind: ReleaseKind,
}

/// What was removed from one namespace.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemovalReport {
    /// The namespace.
    pub namespace: String,
    /// The names of the releases that were uninstalled.
    #[serde(rename = "removedReleases")]
    pub releases: Vec<String>,
    /// Other objects that were deleted, or changed back: `Secret shop/site-pull`.
    #[serde(rename = "removedObjects")]
    pub objects: Vec<String>,
    /// Objects that were kept, each with the reason.
    #[serde(rename = "keptObjects")]
    pub kept: Vec<String>,
}

/// Lists the releases that Gantry installed, in one namespace or in all of them.
pub async fn find_releases(
    cluster: &Cluster,
    namespace: Option<&str>,
) -> Result<Vec<InstalledRelease>> {
    let scope = namespace.map_or(ObjectScope::Cluster, ObjectScope::Namespace);
    let (key, value) = LABEL;
    let selector = format!("owner in (helm,{OWNER}),{key} in ({value},{MANIFESTS})");
    let records = cluster.list_objects::<Secret>(scope, &selector).await?;
    let mut all: Vec<InstalledRelease> = records
        .iter()
        .filter_map(|record| {
            let labels = record.metadata.labels.as_ref()?;
            let release = labels.get("name")?.clone();
            let kind = match labels.get("owner")?.as_str() {
                OWNER => ReleaseKind::Manifests,
                _ => ReleaseKind::Chart,
            };
            Some(InstalledRelease { namespace: record.metadata.namespace.clone()?, release, kind })
        })
        .collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// Finds the releases in the cluster. One that is not installed is no error: the same command can be run
/// again after an interruption.
///
/// # Errors
/// [`Error::SeveralNamespaces`] if a release of unknown namespace is in several.
pub async fn locate_releases(
    cluster: &Cluster,
    wanted: &[ReleaseToRemove],
) -> Result<LocatedReleases> {
    let mut located = LocatedReleases::default();
    for one in wanted {
        let mut found = find_releases(cluster, one.namespace.as_deref()).await?;
        found.retain(|found| found.release == one.release);
        match found.as_slice() {
            [] => located.missing.push(one.release.clone()),
            [found] => {
                let names = located.by_namespace.entry(found.namespace.clone()).or_default();
                names.push(found.clone());
            }
            several => {
                let namespaces = several.iter().map(|found| found.namespace.clone()).collect();
                return Err(Error::SeveralNamespaces { release: one.release.clone(), namespaces });
            }
        }
    }
    Ok(located)
}

/// Removes releases of one namespace; helm is needed for those that are charts. With the last one the
/// pull secret and the CA objects go, too.
///
/// # Errors
/// A release that Gantry did not install, a failure of helm, and any error of the API server.
pub async fn undeploy_releases(
    cluster: &Cluster,
    with: Option<&HelmClient>,
    namespace: &str,
    releases: &[InstalledRelease],
    claims: ClaimRetention,
    whole: NamespaceRetention,
    hooks: HookPolicy,
) -> Result<RemovalReport> {
    let mut removed = RemovalReport {
        namespace: namespace.to_owned(),
        releases: vec![],
        objects: vec![],
        kept: vec![],
    };
    for InstalledRelease { release: name, kind, .. } in releases {
        let kept = match (kind, with) {
            (ReleaseKind::Manifests, _) => {
                manifests::undeploy_manifests(cluster, namespace, name, claims).await?
            }
            (ReleaseKind::Chart, Some(helm)) => {
                undeploy_release(cluster, helm, namespace, name, claims, hooks).await?
            }
            (ReleaseKind::Chart, None) => {
                return Err(Error::NeedsHelm { release: name.clone() });
            }
        };
        removed.kept.extend(kept);
        removed.releases.push(name.clone());
    }
    // Other releases in the namespace still need the pull secret and the CA.
    if !find_releases(cluster, Some(namespace)).await?.is_empty() {
        return Ok(removed);
    }
    removed.objects.extend(remove_site_objects(cluster, namespace).await?);
    if whole == NamespaceRetention::Deleted {
        delete_namespace(cluster, namespace, &mut removed).await?;
    }
    Ok(removed)
}

/// Removes from a namespace what the site gave to it: the pull secret, also from service accounts, the CA
/// and network policies. Returns what was removed.
pub(super) async fn remove_site_objects(cluster: &Cluster, namespace: &str) -> Result<Vec<String>> {
    let mut removed = accounts::take_back_pull_secret(cluster, namespace).await?;
    removed.extend(delete_labelled::<Secret>(cluster, namespace).await?);
    removed.extend(delete_labelled::<ConfigMap>(cluster, namespace).await?);
    // Without the right to list them there are none of Gantry's.
    match delete_labelled::<NetworkPolicy>(cluster, namespace).await {
        Ok(policies) => removed.extend(policies),
        Err(Error::Cluster(cluster::Error::Forbidden { .. })) => {}
        Err(error) => return Err(error),
    }
    Ok(removed)
}

/// Deletes Gantry's own objects of a kind in a namespace, those of helm's records excepted.
async fn delete_labelled<K: TypedObject>(
    cluster: &Cluster,
    namespace: &str,
) -> Result<Vec<String>> {
    let scope = ObjectScope::Namespace(namespace);
    let selector =
        format!("app.kubernetes.io/managed-by={},{}={}", cluster::MANAGER, LABEL.0, LABEL.1);
    let mut removed = Vec::new();
    for object in cluster.list_objects::<K>(scope, &selector).await? {
        let name = object.meta().name.clone().unwrap_or_default();
        if cluster.delete_own_object::<K>(scope, &name).await? {
            removed.push(format!("{} {namespace}/{name}", K::kind(&())));
        }
    }
    Ok(removed)
}

/// Uninstalls one release. Returns the claims that were kept, each with the reason.
pub(super) async fn undeploy_release(
    cluster: &Cluster,
    with: &HelmClient,
    namespace: &str,
    name: &str,
    claims: ClaimRetention,
    hooks: HookPolicy,
) -> Result<Vec<String>> {
    let state = ReleaseHistory::read(cluster, namespace, name).await?;
    let Some(last) = state.newest() else { return Ok(vec![]) };
    if !last.is_own {
        return Err(Error::NotOurs {
            release: name.to_owned(),
            namespace: namespace.to_owned(),
            chart: last.revision.chart.clone(),
        });
    }
    // Looked up first: after the uninstall the record with the manifest is gone.
    let objects = objects::read_objects(&last.revision.manifest, namespace)?;
    let names = list_own_claims(cluster, namespace, &objects).await?;
    if claims == ClaimRetention::Kept {
        keep_claims(cluster, namespace, &last.secret).await?;
    }
    // The hooks of a half-installed release may wait for objects that were never created.
    let is_half =
        last.revision.status.is_unfinished() || last.revision.status == ReleaseStatus::Failed;
    let hooks = if is_half { HookPolicy::Skip } else { hooks };
    let (place, called) = (namespace.to_owned(), name.to_owned());
    helm::run_helm(with, move |with, stop| with.uninstall_release(&place, &called, hooks, stop))
        .await?;
    let mut kept = Vec::new();
    for claim in names {
        match claims {
            ClaimRetention::Kept => {
                kept.push(format!("PersistentVolumeClaim {namespace}/{claim}: its data is kept"));
            }
            // helm deletes a chart's own claims, but never those of StatefulSets. Deleting again
            // one that is already gone does no harm.
            ClaimRetention::Deleted => {
                cluster
                    .delete_object::<PersistentVolumeClaim>(
                        ObjectScope::Namespace(namespace),
                        &claim,
                    )
                    .await?;
            }
        }
    }
    Ok(kept)
}

/// Makes helm keep the claims of a release. helm reads `helm.sh/resource-policy: keep` from the
/// manifest in its release record and not from the object in the cluster, so the record is edited.
async fn keep_claims(cluster: &Cluster, namespace: &str, record: &str) -> Result<()> {
    let scope = ObjectScope::Namespace(namespace);
    let Some(mut secret) = cluster.get_object::<Secret>(scope, record).await? else {
        return Ok(());
    };
    let data = secret.data.as_mut().and_then(|data| data.get_mut(record::KEY));
    let Some(data) = data else { return Ok(()) };
    let what = format!("Secret {namespace}/{record}");
    if let Some(changed) = record::replace_documents(&what, &data.0, &mark_claim_as_kept)? {
        data.0 = changed;
        cluster.replace_object(scope, &secret).await?;
    }
    Ok(())
}

/// Returns a claim's document with the annotation; `None` for other kinds, and if it is there
/// already.
fn mark_claim_as_kept(document: &str) -> Option<String> {
    const POLICY: &str = "helm.sh/resource-policy";
    let mut value = Manifests::read(document).documents.into_iter().next()?.value;
    if value.get("kind").and_then(Value::as_str) != Some("PersistentVolumeClaim") {
        return None;
    }
    let metadata = value.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.entry("annotations").or_insert_with(|| serde_json::json!({}));
    if annotations.is_null() {
        *annotations = serde_json::json!({});
    }
    let annotations = annotations.as_object_mut()?;
    if annotations.get(POLICY).and_then(Value::as_str) == Some("keep") {
        return None;
    }
    annotations.insert(POLICY.to_owned(), "keep".into());
    // Every JSON document is a valid YAML document.
    Some(format!("{value}\n"))
}

/// Deletes a namespace if Gantry created it and nothing that somebody might need is left in it.
async fn delete_namespace(
    cluster: &Cluster,
    name: &str,
    removed: &mut RemovalReport,
) -> Result<()> {
    let found = cluster.get_object::<Namespace>(ObjectScope::Cluster, name).await?;
    let Some(found) = found else { return Ok(()) };
    let place = format!("Namespace {name}");
    if !is_own(&found.metadata) {
        removed.kept.push(format!("{place}: it was not created by Gantry"));
        return Ok(());
    }
    if let Some(left) = find_remaining_object(cluster, name).await? {
        removed.kept.push(format!("{place}: it still contains {left}"));
        return Ok(());
    }
    cluster.delete_object::<Namespace>(ObjectScope::Cluster, name).await?;
    removed.objects.push(place);
    Ok(())
}

/// Finds an object in a namespace that Kubernetes did not create there by itself. Only common kinds
/// are looked for: a list of all kinds would take a request for each of them.
async fn find_remaining_object(cluster: &Cluster, namespace: &str) -> Result<Option<String>> {
    const KINDS: [(&str, &str); 10] = [
        ("v1", "PersistentVolumeClaim"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
        ("v1", "Service"),
        ("v1", "ConfigMap"),
        ("v1", "Secret"),
        ("v1", "Pod"),
    ];
    for (version, kind) in KINDS {
        for object in
            cluster.list_manifests(version, kind, ObjectScope::Namespace(namespace), "").await?
        {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
            let name = text("/metadata/name").unwrap_or_default();
            let is_going = object.pointer("/metadata/deletionTimestamp").is_some();
            // Its owner is gone or going: the garbage collector has not come to it yet.
            let is_owned = object.pointer("/metadata/ownerReferences").is_some();
            if name != "kube-root-ca.crt" && !is_going && !is_owned {
                return Ok(Some(format!("{kind} {name}")));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_claims_are_marked_to_be_kept_and_only_once() {
        let claim = "# Source: a\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n";
        let marked = mark_claim_as_kept(claim).unwrap();
        assert!(marked.contains(r#""helm.sh/resource-policy":"keep""#), "{marked}");
        assert_eq!(mark_claim_as_kept(&marked), None);
        assert_eq!(mark_claim_as_kept("kind: Service\nmetadata: {name: data}\n"), None);
    }
}
