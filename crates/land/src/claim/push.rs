//! Writing the models that a target selects through seeder pods: which content, from where, and what was
//! done. The caller opens the cluster and owns the [`Seeder`], whose pods it removes in the end.

use std::path::Path;
use std::sync::Arc;

use cluster::{Cluster, Permission};
use store::Source;
use types::destination::{ClaimFolder, ModelDestination};
use types::site::{ModelTarget, NewClaim, Site};

use super::error::{Error, Result};
use super::order::{ModelRegistry, SeederEvent, SeederOrder, SeederTask};
use super::pod::VolumeUse;
use super::seed_route::{SeedRoute, SeedRouteChoice, choose_registry};
use super::seeder::{ClaimCreation, Seeder};
use super::volume::ClaimVolume;
use crate::models::{
    ModelPlan, ModelPushReport, ModelSelection, PlannedModels, PushMode, UnfitModelPolicy,
    plan_models,
};

/// The models of a source that go to claims or to nodes' disks.
pub struct SeederPush {
    source: Arc<dyn Source>,
    target: ModelTarget,
    planned: PlannedModels,
    registry: Option<ModelRegistry>,
    via: SeedRoute,
    new: Option<NewClaim>,
}

impl SeederPush {
    /// Plans the models that a target selects, and chooses the registry that the pods download from:
    /// the same one for all of them. `site` is the site and the folder of its file.
    pub fn plan(
        source: &Arc<dyn Source>,
        target: &ModelTarget,
        site: Option<(&Site, &Path)>,
        route: &SeedRouteChoice,
        unfit: UnfitModelPolicy,
    ) -> Result<Self> {
        let planned = plan_models(&**source, &ModelSelection::of_target(target, unfit))?;
        let registry = choose_registry(route, site, &**source, &planned.plans)?;
        let class = site.and_then(|(site, _)| site.storage_class.clone());
        let new = target
            .create
            .clone()
            .map(|new| NewClaim { storage_class: new.storage_class.clone().or(class), ..new });
        let (source, target) = (Arc::clone(source), target.clone());
        Ok(Self { source, target, planned, registry, via: route.via, new })
    }

    /// The models, and what the layout cannot hold.
    pub fn planned(&self) -> &PlannedModels {
        &self.planned
    }

    /// The models, with the path of each of their files.
    pub fn plans(&self) -> &[ModelPlan] {
        &self.planned.plans
    }

    /// The source that the pods may ask this process for.
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.source)
    }

    /// The rights that writing to these claims needs.
    pub fn required_rights(&self, claims: &[ClaimFolder]) -> Vec<Permission> {
        let creates =
            if self.new.is_some() { ClaimCreation::WhenMissing } else { ClaimCreation::Never };
        Seeder::required_rights(claims, creates)
    }

    /// Checks all claims before the first one is written to.
    pub async fn inspect_claims(
        &self,
        cluster: &Cluster,
        claims: &[ClaimFolder],
    ) -> Result<Vec<ClaimVolume>> {
        let bytes = self.planned.plans.iter().map(ModelPlan::size).sum();
        let mut volumes = Vec::new();
        for claim in claims {
            volumes
                .push(ClaimVolume::inspect_claim(cluster, claim, bytes, self.new.as_ref()).await?);
        }
        Ok(volumes)
    }

    /// What a pod is to do in this folder of its volume.
    pub fn build_order(&self, folder: &str) -> SeederOrder {
        SeederOrder {
            node_folder: None,
            folder: folder.to_owned(),
            task: SeederTask::Put {
                plans: self.planned.plans.clone(),
                layout: self.target.layout,
                keep: self.target.keep.map(|keep| usize::from(keep.get())),
                registry: self.registry.clone(),
                over_api: matches!(self.via, SeedRoute::Auto | SeedRoute::Api),
            },
        }
    }

    /// What would be written into a claim.
    pub fn preview(&self, volume: &ClaimVolume) -> ModelPushReport {
        let mut report =
            ModelPushReport::new(&self.target_at(volume), &self.planned, None, PushMode::DryRun);
        report.is_made = Some(volume.to_make.is_some());
        report
    }

    /// Writes the models into a claim.
    pub async fn write(&self, seeder: &Seeder, volume: &ClaimVolume) -> Result<ModelPushReport> {
        let target = self.target_at(volume);
        let report = |puts: Option<&[_]>| {
            let mut report = ModelPushReport::new(&target, &self.planned, puts, PushMode::Put);
            report.is_made = Some(volume.to_make.is_some());
            report
        };
        if self.planned.plans.is_empty() {
            return Ok(report(None));
        }
        let order = self.build_order(&volume.path.folder);
        let source = Some(self.source());
        match seeder.run_order(volume, VolumeUse::Write, &order, source).await? {
            SeederEvent::Put { puts, via, collected } => {
                Ok(ModelPushReport { via: Some(via), collected, ..report(Some(puts.as_slice())) })
            }
            _ => Err(Error::UnexpectedEvent),
        }
    }

    fn target_at(&self, volume: &ClaimVolume) -> ModelTarget {
        ModelTarget { to: ModelDestination::Claim(volume.path.clone()), ..self.target.clone() }
    }
}
