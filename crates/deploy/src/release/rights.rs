//! The permissions that a deploy needs. They are checked before anything is written, so that it does not
//! stop halfway through for a missing one; `check::rights` asks for them ahead of the deploy.

use std::collections::BTreeSet;

use cluster::{Cluster, DiscoveredKinds, Permission, ResourceKind};

use super::namespace::{SiteObjects, list_prepare_rights};
use super::objects::{self, RenderedObject};
use super::{Deployer, PlannedRelease};
use crate::Result;

/// The verbs that helm uses on a chart's objects.
const OF_OBJECTS: [&str; 4] = ["get", "create", "patch", "delete"];
/// What a deploy needs in a namespace whatever the chart has: helm stores its release records in Secrets,
/// and what is not ready is explained. API group, resource, verbs.
const OF_NAMESPACE: [(&str, &str, &[&str]); 5] = [
    ("", "secrets", &["get", "list", "create", "update", "patch", "delete"]),
    ("", "pods", &["get", "list"]),
    ("", "pods/log", &["get"]),
    ("", "events", &["list"]),
    ("", "persistentvolumeclaims", &["get"]),
];
/// What adding the pull secret to service accounts needs.
const OF_ACCOUNTS: (&str, &str, &[&str]) = ("", "serviceaccounts", &["get", "create", "update"]);

impl Deployer<'_> {
    /// Fails with every permission that is missing to deploy these releases. Kinds that the cluster
    /// does not serve yet are left out, because their resource names are unknown.
    pub async fn require_rights(&self, planned: &[PlannedRelease]) -> Result<()> {
        let mut rights = BTreeSet::new();
        for release in planned {
            let namespace = release.namespace();
            let objects = objects::read_objects(&release.rendered, namespace)?;
            rights.extend(
                list_release_rights(self.cluster, self.kinds, self.site, namespace, &objects)
                    .await?,
            );
        }
        let rights: Vec<Permission> = rights.into_iter().collect();
        Ok(self.cluster.require_permissions("deploying", &rights).await?)
    }
}

/// The permissions that deploying a release with these objects needs. Kinds that the cluster does not
/// serve yet are left out.
pub(super) async fn list_release_rights(
    cluster: &Cluster,
    kinds: &DiscoveredKinds,
    site: &SiteObjects,
    namespace: &str,
    objects: &[RenderedObject],
) -> Result<BTreeSet<Permission>> {
    let mut rights = list_namespace_rights(namespace);
    if site.pull_secret.is_some() {
        rights.extend(expand_rights(namespace, &[OF_ACCOUNTS]));
    }
    rights.extend(list_prepare_rights(cluster, namespace, site).await?);
    for RenderedObject { id, .. } in objects {
        let resource = kinds.find_resource(&id.api_version, &id.kind);
        let namespace = id.namespace.as_deref().unwrap_or(namespace);
        rights.extend(resource.iter().flat_map(|one| list_object_rights(one, namespace)));
    }
    Ok(rights)
}

/// The permissions that a deploy needs in a namespace whatever the chart has.
pub(crate) fn list_namespace_rights(namespace: &str) -> BTreeSet<Permission> {
    expand_rights(namespace, &OF_NAMESPACE)
}

/// The permissions that helm needs on objects of a kind.
pub(crate) fn list_object_rights(
    resource: &ResourceKind,
    namespace: &str,
) -> [Permission; OF_OBJECTS.len()] {
    OF_OBJECTS.map(|verb| resource.permission(verb, namespace))
}

/// A table of API groups, resources and verbs as permissions in a namespace.
pub(crate) fn expand_rights(
    namespace: &str,
    table: &[(&str, &str, &[&str])],
) -> BTreeSet<Permission> {
    let rows = table.iter().flat_map(|(group, resource, verbs)| {
        verbs.iter().map(|verb| Permission::new(verb, group, resource).in_namespace(namespace))
    });
    rows.collect()
}
