//! Work with seeder pods in a cluster, for `models` and `load --site`: opens the cluster, checks the
//! rights, and deletes the pods in every case. The crate `land` does the work.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cluster::{Cluster, Permission};
use deploy::release::{self, PullSecret, SiteObjects, SupportObjectStatus};
use land::claim::{ClaimVolume, SeedRouteChoice, Seeder, SeederImage, SeederPush};
use land::models::{ModelPushReport, PushMode, UnfitModelPolicy};
use net::{BandwidthLimit, Credentials};
use store::Source;
use store::progress::Progress;
use types::destination::ClaimFolder;
use types::site::{ModelTarget, Site};

use crate::clusters::{self, ClusterArgs};
use crate::context::CommandContext;
use crate::environment;
use crate::error::Result;

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
        rights: impl Fn(&Cluster) -> Vec<Permission>,
        mode: PushMode,
        work: impl AsyncFnOnce(&Seeder, &Cluster) -> Result<T>,
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
            let mut seeder =
                Seeder::new(cluster.clone(), self.image.clone(), self.timeout, progress);
            if let Some(limit) = self.context.config.bandwidth {
                seeder = seeder.limit_bandwidth(BandwidthLimit::new(limit.0));
            }
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
    pub(crate) fn push_models(
        &self,
        source: &Arc<dyn Source>,
        target: &ModelTarget,
        claims: &[ClaimFolder],
        route: &SeedRouteChoice,
        unfit: UnfitModelPolicy,
        mode: PushMode,
    ) -> Result<Vec<ModelPushReport>> {
        let push = SeederPush::plan(source, target, self.site, route, unfit)?;
        let names: Vec<String> = claims.iter().map(ToString::to_string).collect();
        let doing = format!("write models to {}", names.join(", "));
        let rights = |_: &Cluster| push.required_rights(claims);
        self.run_with_seeder(&doing, rights, mode, async |seeder, cluster| {
            let volumes = push.inspect_claims(cluster, claims).await?;
            if mode == PushMode::DryRun {
                return Ok(volumes.iter().map(|volume| push.preview(volume)).collect());
            }
            if !push.plans().is_empty() {
                self.prepare_namespaces(cluster, &volumes).await?;
            }
            let mut reports = Vec::new();
            for volume in &volumes {
                reports.push(push.write(seeder, volume).await?);
            }
            Ok(reports)
        })
    }

    /// Creates the namespaces of the claims and the pull secret in them. Models are loaded before the
    /// first release is deployed, so neither may exist yet, and the pod needs both.
    async fn prepare_namespaces(&self, cluster: &Cluster, volumes: &[ClaimVolume]) -> Result<()> {
        let Some((site, _)) = self.site else { return Ok(()) };
        let pull_secret = PullSecret::of_site(site, &Credentials::from_system())?;
        let objects = SiteObjects { pull_secret, ..SiteObjects::default() };
        let namespaces: BTreeSet<&str> =
            volumes.iter().map(|volume| volume.path.namespace.as_str()).collect();
        let doing = "preparing the namespaces of the models";
        for object in release::prepare_namespaces(cluster, &namespaces, &objects, doing).await? {
            if object.outcome == SupportObjectStatus::Created {
                self.context.ui.print_status(&format!("created {}", object.object));
            }
        }
        Ok(())
    }
}
