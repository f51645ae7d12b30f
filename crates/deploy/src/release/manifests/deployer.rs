//! What deploying releases of manifests needs that is the same for all of them, and the permissions for
//! it. `plan` and `apply` add its methods.

use std::collections::BTreeSet;

use chart::relocate::RelocationTarget;
use cluster::{Cluster, DiscoveredKinds, Permission};

use super::super::accounts::{self, PullAccount};
use super::super::deployer::DeployOptions;
use super::super::namespace::{SiteObjects, SupportObject, SupportObjectStatus};
use super::super::objects::{self, RenderedObject};
use super::super::rights::list_release_rights;
use super::desired;
use super::planned::PlannedManifests;
use crate::Result;

/// Deploys releases of plain manifests into one cluster.
pub struct ManifestDeployer<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The API resources that the cluster serves.
    pub kinds: &'a DiscoveredKinds,
    /// The site's registry, to which images were moved.
    pub target: &'a RelocationTarget,
    /// What each namespace gets: pull secret, CA certificate, labels.
    pub site: &'a SiteObjects,
    /// The settings.
    pub options: DeployOptions,
}

impl ManifestDeployer<'_> {
    /// Fails with every permission that is missing to deploy these releases. Kinds that the cluster
    /// does not serve yet are left out, because their resource names are unknown.
    pub async fn require_rights(&self, planned: &[PlannedManifests]) -> Result<()> {
        let mut rights: BTreeSet<Permission> = BTreeSet::new();
        for release in planned {
            let objects = objects::read_objects(release.stream(), release.namespace())?;
            let namespace = release.namespace();
            rights.extend(
                list_release_rights(self.cluster, self.kinds, self.site, namespace, &objects)
                    .await?,
            );
        }
        let rights: Vec<Permission> = rights.into_iter().collect();
        Ok(self.cluster.require_permissions("deploying", &rights).await?)
    }

    /// Gives the pull secret to the service accounts of the release among `objects`. Returns the
    /// accounts outside of it that need the secret too.
    pub(super) fn add_pull_secret(&self, objects: &mut [RenderedObject]) -> BTreeSet<PullAccount> {
        let Some(pull) = &self.site.pull_secret else { return BTreeSet::new() };
        let registry = self.target.prefix.registry();
        let needed = accounts::find_accounts_without_secret(objects, registry, &pull.name);
        let is_of_release = |account: &PullAccount| {
            objects.iter().any(|object| {
                object.id.kind == "ServiceAccount"
                    && object.id.name == account.name
                    && object.id.namespace.as_ref() == Some(&account.namespace)
            })
        };
        let (own, others): (Vec<_>, Vec<_>) = needed.iter().partition(|one| is_of_release(one));
        desired::add_pull_secret(objects, &own, &pull.name);
        others.into_iter().cloned().collect()
    }

    /// Gives the pull secret to accounts outside of the release.
    pub(super) async fn give_pull_secret(
        &self,
        planned: &PlannedManifests,
        accounts: &BTreeSet<PullAccount>,
    ) -> Result<Vec<SupportObject>> {
        let Some(pull) = &self.site.pull_secret else { return Ok(vec![]) };
        let release = (planned.name(), planned.namespace());
        accounts::give_pull_secret(self.cluster, accounts, &pull.name, &[], release).await
    }

    /// What giving the pull secret to these accounts would change.
    pub(super) fn preview_pull_secret(accounts: &BTreeSet<PullAccount>) -> Vec<SupportObject> {
        let changed = |account: &PullAccount| {
            let place = format!("{}/{}", account.namespace, account.name);
            SupportObject::new("ServiceAccount", &place, SupportObjectStatus::Changed)
        };
        accounts.iter().map(changed).collect()
    }
}
