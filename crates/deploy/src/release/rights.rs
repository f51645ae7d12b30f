//! Checks the permissions that a deploy needs before anything is written, so that it does not stop
//! halfway through for a missing one.

use std::collections::BTreeSet;

use cluster::Permission;

use super::namespace::list_prepare_rights;
use super::{Deployer, PlannedRelease, objects};
use crate::Result;

/// The verbs that helm uses on a chart's objects.
const OBJECTS: [&str; 4] = ["get", "create", "patch", "delete"];

impl Deployer<'_> {
    /// Fails with every permission that is missing to deploy these releases. Kinds that the cluster
    /// does not serve yet are left out, because their resource names are unknown.
    pub async fn require_rights(&self, planned: &[PlannedRelease]) -> Result<()> {
        let mut rights = BTreeSet::new();
        for release in planned {
            let namespace = release.namespace();
            self.add_support_rights(namespace, &mut rights).await?;
            for object in objects::read_objects(&release.rendered, namespace)? {
                let id = object.id;
                let Some(resource) = self.kinds.find_resource(&id.api_version, &id.kind) else {
                    continue;
                };
                let namespace = id.namespace.as_deref().unwrap_or(namespace);
                rights.extend(OBJECTS.map(|verb| resource.permission(verb, namespace)));
            }
        }
        let rights: Vec<Permission> = rights.into_iter().collect();
        Ok(self.cluster.require_permissions("deploying", &rights).await?)
    }

    async fn add_support_rights(
        &self,
        namespace: &str,
        rights: &mut BTreeSet<Permission>,
    ) -> Result<()> {
        let mut need = |group: &str, resource: &str, verbs: &[&str]| {
            let right =
                |verb: &&str| Permission::new(verb, group, resource).in_namespace(namespace);
            rights.extend(verbs.iter().map(right));
        };
        // helm stores its release records in Secrets.
        need("", "secrets", &["get", "list", "create", "update", "patch", "delete"]);
        need("", "pods", &["get", "list"]);
        need("", "pods/log", &["get"]);
        need("", "events", &["list"]);
        need("", "persistentvolumeclaims", &["get"]);
        if self.site.pull_secret.is_some() {
            need("", "serviceaccounts", &["get", "create", "update"]);
        }
        rights.extend(list_prepare_rights(self.cluster, namespace, self.site).await?);
        Ok(())
    }
}
