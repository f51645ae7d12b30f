//! Writes models into PersistentVolumeClaims of a cluster, for `models push` and `load --site`, and
//! holds what all tasks of seeder pods share: opening the cluster, checking rights, deleting the pods.

mod seed_registry;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::ValueEnum;
use cluster::Permission;
use deploy::release::{self, SiteObjects, SupportObjectStatus, list_prepare_rights};
use land::claim::{
    ClaimCreation, ClaimVolume, Seeder, SeederEvent, SeederImage, SeederOrder, SeederTask,
    VolumeUse,
};
use land::models::{self, ModelPlan, ModelSelection, ModelVerifyReport, UnfitModelPolicy};
use net::Credentials;
use store::Source;
use store::progress::{Progress, SilentProgress};
use types::destination::{ClaimFolder, ModelDestination};
use types::site::{ModelTarget, NewClaim, Site};

pub(crate) use self::seed_registry::{SeedRouteChoice, choose_registry};
use crate::clusters::{self, ClusterArgs};
use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::model_targets::{ModelPushReport, PushMode};
use crate::{environment, releases};

/// The default for how long a seeder pod may take to start. A node may have to pull the image and
/// attach the volume first, which takes minutes on some storage.
pub(crate) const POD_TIMEOUT: Duration = Duration::from_mins(5);

/// How the content of models gets to the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeedRoute {
    /// From the depot or the site's registry; what neither has goes through the API server.
    #[default]
    Auto,
    /// From the depot only.
    Depot,
    /// From the site's registry only.
    Registry,
    /// Through the API server only.
    Api,
}

/// Work with seeder pods in one cluster.
pub(crate) struct SeederSession<'a> {
    pub(crate) context: &'a CommandContext,
    pub(crate) cluster: &'a ClusterArgs,
    /// The site, and the folder of its file, to which its paths are relative.
    pub(crate) site: Option<(&'a Site, &'a Path)>,
    pub(crate) image: SeederImage,
    pub(crate) timeout: Duration,
    /// The label of the progress bar.
    pub(crate) verb: &'static str,
}

impl SeederSession<'_> {
    /// Opens the cluster, checks the rights, does the work, and deletes the pods in every case. `doing`
    /// describes the work in questions and errors ("put models into …").
    pub(crate) fn run_with_seeder<T>(
        &self,
        doing: &str,
        rights: impl Fn(&cluster::Cluster) -> Vec<Permission>,
        mode: PushMode,
        work: impl AsyncFnOnce(&Seeder, &cluster::Cluster) -> Result<T>,
    ) -> Result<T> {
        let meter = self.context.ui.start_progress(self.verb);
        let site = self.site.map(|(site, _)| site);
        // The cleanup needs the seeder that the work creates, and has to run also if the work never got so
        // far as to create one.
        let open: OnceLock<Seeder> = OnceLock::new();
        let working = async {
            let cluster = match mode {
                PushMode::DryRun => clusters::open_cluster(self.cluster, site).await?,
                PushMode::Put => {
                    clusters::open_cluster_to_write(self.context, self.cluster, site, doing).await?
                }
            };
            // A missing right is reported before anything is created, with the rule that grants it.
            cluster.require_permissions(doing, &rights(&cluster)).await?;
            let progress: Arc<dyn Progress> = Arc::clone(&meter) as _;
            let seeder = Seeder::new(cluster.clone(), self.image.clone(), self.timeout, progress);
            work(open.get_or_init(|| seeder), &cluster).await
        };
        let outcome = environment::block_on_with_cleanup(working, async || match open.get() {
            // No other process uses these pods, so they are deleted also after an error or Ctrl-C.
            Some(seeder) => Ok(seeder.remove_started().await?),
            None => Ok(()),
        });
        match (&outcome, mode) {
            (Ok(_), PushMode::Put) => meter.finish(),
            _ => meter.clear(),
        }
        outcome
    }

    /// Writes the models that a target selects into claims: `target` says which and how, `claims`
    /// where.
    pub(crate) fn put_models(
        &self,
        source: &Arc<dyn Source>,
        target: &ModelTarget,
        claims: &[ClaimFolder],
        ways: &SeedRouteChoice,
        unfit: UnfitModelPolicy,
        mode: PushMode,
    ) -> Result<Vec<ModelPushReport>> {
        let choice = choose_models(target, unfit);
        let plans = models::plan_models(&**source, &choice)?;
        // The registry is chosen once: the pods of all claims download from the same one.
        let registry = choose_registry(ways, self.site, &**source, &plans)?;
        let order = |claim: &ClaimFolder| SeederOrder {
            folder: claim.folder.clone(),
            task: SeederTask::Put {
                plans: plans.clone(),
                layout: choice.layout,
                keep: target.keep.map(|keep| usize::from(keep.get())),
                registry: registry.clone(),
                over_api: matches!(ways.via, SeedRoute::Auto | SeedRoute::Api),
            },
        };
        let bytes = plans.iter().map(ModelPlan::size).sum();
        let new = self.build_new_claim(target);
        let creates = if new.is_some() { ClaimCreation::WhenMissing } else { ClaimCreation::Never };
        let doing = format!("write models to {}", join_claim_names(claims));
        let rights = |_: &cluster::Cluster| Seeder::required_rights(claims, creates);
        self.run_with_seeder(&doing, rights, mode, async |seeder, cluster| {
            let mut volumes = Vec::new();
            for claim in claims {
                // All claims are checked before the first one is written to.
                volumes
                    .push(ClaimVolume::inspect_claim(cluster, claim, bytes, new.as_ref()).await?);
            }
            if mode == PushMode::Put && !plans.is_empty() {
                self.prepare_namespaces(cluster, &volumes).await?;
            }
            let mut pushed = Vec::new();
            for volume in &volumes {
                let event = match mode {
                    PushMode::Put if !plans.is_empty() => {
                        let order = order(&volume.path);
                        let source = Some(Arc::clone(source));
                        Some(seeder.run_order(volume, VolumeUse::Write, &order, source).await?)
                    }
                    _ => None,
                };
                pushed.push(report_claim_push(target, volume, &plans, event, mode)?);
            }
            Ok(pushed)
        })
    }

    /// Creates the namespaces of the claims and the pull secret in them. Models are loaded before the
    /// first release is deployed, so neither may exist yet, and the pod needs both.
    async fn prepare_namespaces(
        &self,
        cluster: &cluster::Cluster,
        volumes: &[ClaimVolume],
    ) -> Result<()> {
        let Some((site, _)) = self.site else { return Ok(()) };
        let pull_secret = releases::find_pull_secret(site, &Credentials::from_system())?;
        let objects = SiteObjects { pull_secret, ..SiteObjects::default() };
        let namespaces: BTreeSet<&str> =
            volumes.iter().map(|volume| volume.path.namespace.as_str()).collect();
        let mut rights = BTreeSet::new();
        for namespace in &namespaces {
            rights.extend(list_prepare_rights(cluster, namespace, &objects).await?);
        }
        let rights: Vec<Permission> = rights.into_iter().collect();
        cluster.require_permissions("preparing the namespaces of the models", &rights).await?;
        for namespace in namespaces {
            for beside in release::prepare_namespace(cluster, namespace, &objects).await? {
                if beside.outcome == SupportObjectStatus::Created {
                    self.context.ui.print_status(&format!("created {}", beside.object));
                }
            }
        }
        Ok(())
    }

    fn build_new_claim(&self, target: &ModelTarget) -> Option<NewClaim> {
        let mut new = target.create.clone()?;
        let class = self.site.and_then(|(site, _)| site.storage_class.clone());
        new.storage_class = new.storage_class.or(class);
        Some(new)
    }
}

/// Gantry's own image, under its name in the site's registry.
pub(crate) fn build_site_image(site: &Site) -> Result<SeederImage> {
    Ok(SeederImage {
        reference: site.registry.own_image()?.to_string(),
        pull_secret: site.registry.pull_secret.clone(),
        node_selector: Vec::new(),
    })
}

/// Reads and hashes every model file of a claim in a pod of its own, for `gantry check`.
pub(crate) async fn verify_claim(
    cluster: cluster::Cluster,
    image: SeederImage,
    claim: &ClaimFolder,
) -> Result<ModelVerifyReport> {
    // Nothing is written, so no free space is needed and no claim is created.
    let volume = ClaimVolume::inspect_claim(&cluster, claim, 0, None).await?;
    let order = SeederOrder { folder: claim.folder.clone(), task: SeederTask::Verify };
    let seeder = Seeder::new(cluster, image, POD_TIMEOUT, Arc::new(SilentProgress));
    let event = seeder.run_order(&volume, VolumeUse::Read, &order, None).await;
    seeder.remove_started().await?;
    match event? {
        SeederEvent::Checked { checked } => Ok(checked),
        _ => Err(build_unexpected_event_error()),
    }
}

/// The models that a target selects and their layout. `unfit` says what to do with models that the
/// layout cannot hold.
pub(crate) fn choose_models(target: &ModelTarget, unfit: UnfitModelPolicy) -> ModelSelection {
    ModelSelection {
        names: target.models.clone(),
        layout: target.layout,
        files: target.files.unwrap_or_default(),
        unfit,
    }
}

/// The error for a pod that answered with another event than its task has.
pub(crate) fn build_unexpected_event_error() -> CommandError {
    CommandError::failure("the seeder pod did not do what it was asked")
        .with_hint("its image may be of another version of Gantry; name the right one with --image")
}

fn report_claim_push(
    target: &ModelTarget,
    volume: &ClaimVolume,
    plans: &[ModelPlan],
    event: Option<SeederEvent>,
    mode: PushMode,
) -> Result<ModelPushReport> {
    let (puts, via, collected) = match event {
        None => (None, None, Vec::new()),
        Some(SeederEvent::Put { puts, via, collected }) => (Some(puts), Some(via), collected),
        Some(_) => return Err(build_unexpected_event_error()),
    };
    let target = ModelTarget { to: ModelDestination::Claim(volume.path.clone()), ..target.clone() };
    let mut pushed = ModelPushReport::new(&target, plans, puts.as_deref(), mode);
    pushed.via = via;
    pushed.is_made = Some(volume.to_make.is_some());
    pushed.collected = collected;
    Ok(pushed)
}

fn join_claim_names(claims: &[ClaimFolder]) -> String {
    claims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
