//! The releases that `gantry deploy` deploys: charts by helm, plain manifests by Gantry itself.

use deploy::release::{
    DeployPlan, DeployedRelease, Deployer, ManifestDeployer, PlannedManifests, PlannedRelease,
};

use crate::live_view::ReleaseProgressView;

/// A release with what deploys it.
pub(super) enum Deployment<'a> {
    Chart(&'a Deployer<'a>, &'a PlannedRelease),
    Manifests(&'a ManifestDeployer<'a>, &'a PlannedManifests),
}

impl Deployment<'_> {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Chart(_, planned) => planned.name(),
            Self::Manifests(_, planned) => planned.name(),
        }
    }

    pub(super) async fn require_rights(&self) -> deploy::Result<()> {
        match self {
            Self::Chart(deployer, planned) => {
                deployer.require_rights(std::slice::from_ref(*planned)).await
            }
            Self::Manifests(deployer, planned) => {
                deployer.require_rights(std::slice::from_ref(*planned)).await
            }
        }
    }

    pub(super) async fn plan(&self) -> deploy::Result<DeployPlan> {
        match self {
            Self::Chart(deployer, planned) => deployer.plan(planned).await,
            Self::Manifests(deployer, planned) => deployer.plan(planned).await,
        }
    }

    pub(super) async fn deploy(
        &self,
        watch: &ReleaseProgressView,
    ) -> deploy::Result<DeployedRelease> {
        match self {
            Self::Chart(deployer, planned) => deployer.deploy(planned, watch).await,
            Self::Manifests(deployer, planned) => deployer.deploy(planned, watch).await,
        }
    }
}
