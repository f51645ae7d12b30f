//! Models into claims of a cluster, as `models push` and `load --site` put them, and what every work
//! with seeder pods does alike: the cluster is opened, rights are asked for, pods are taken away.

mod from;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::ValueEnum;
use cluster::Right;
use deploy::release::{self, Outcome, SiteObjects, rights_to_prepare};
use land::claim::{Creates, Event, Image, Order, Seeder, Task, Use, Volume};
use land::models::{self, Checked, Choice, Plan, Unfit};
use net::Credentials;
use store::Source;
use store::progress::{Progress, Silent};
use types::destination::{Claim, Destination};
use types::site::{ModelTarget, NewClaim, Site};

pub(crate) use self::from::{Ways, registry};
use crate::clusters::{self, ClusterArgs};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::place::{Mode, Pushed};
use crate::{releases, world};

/// How long a pod may take to run, where nothing else is said.
pub(crate) const POD_TIMEOUT: Duration = Duration::from_mins(5);

/// Which way the bytes come to the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// From the depot or the site's registry; over the API server what neither gives.
    #[default]
    Auto,
    /// From the depot alone.
    Depot,
    /// From the site's registry alone.
    Registry,
    /// Over the API server alone.
    Api,
}

/// Seeder pods of one cluster.
pub(crate) struct Seeding<'a> {
    pub(crate) context: &'a Context,
    pub(crate) cluster: &'a ClusterArgs,
    /// The site, and the folder of its file.
    pub(crate) site: Option<(&'a Site, &'a Path)>,
    pub(crate) image: Image,
    pub(crate) timeout: Duration,
    /// What the bar says.
    pub(crate) verb: &'static str,
}

impl Seeding<'_> {
    /// Opens the cluster, asks for the rights, works, and takes the pods away in every case. `doing` is
    /// what a person is asked and told.
    pub(crate) fn run<T>(
        &self,
        doing: &str,
        rights: impl Fn(&cluster::Cluster) -> Vec<Right>,
        mode: Mode,
        work: impl AsyncFnOnce(&Seeder, &cluster::Cluster) -> Result<T>,
    ) -> Result<T> {
        let meter = self.context.ui.progress(self.verb);
        let site = self.site.map(|(site, _)| site);
        let open: OnceLock<Seeder> = OnceLock::new();
        let working = async {
            let cluster = match mode {
                Mode::DryRun => clusters::open(self.cluster, site).await?,
                Mode::Put => {
                    clusters::open_to_write(self.context, self.cluster, site, doing).await?
                }
            };
            cluster.need_rights(doing, &rights(&cluster)).await?;
            let progress: Arc<dyn Progress> = Arc::clone(&meter) as _;
            let seeder = Seeder::new(cluster.clone(), self.image.clone(), self.timeout, progress);
            work(open.get_or_init(|| seeder), &cluster).await
        };
        let outcome = world::block_on_then(working, async || match open.get() {
            // The pods are this process's: they go, whatever happened.
            Some(seeder) => Ok(seeder.release().await?),
            None => Ok(()),
        });
        match (&outcome, mode) {
            (Ok(_), Mode::Put) => meter.finish(),
            _ => meter.clear(),
        }
        outcome
    }

    /// Puts the models that a target wants into claims: `target` says how, `claims` where.
    pub(crate) fn put(
        &self,
        source: &Arc<dyn Source>,
        target: &ModelTarget,
        claims: &[Claim],
        ways: &Ways,
        unfit: Unfit,
        mode: Mode,
    ) -> Result<Vec<Pushed>> {
        let choice = choice(target, unfit);
        let plans = models::plan(&**source, &choice)?;
        let registry = registry(ways, self.site, &**source, &plans)?;
        let order = |claim: &Claim| Order {
            folder: claim.folder.clone(),
            task: Task::Put {
                plans: plans.clone(),
                layout: choice.layout,
                keep: target.keep.map(|keep| usize::from(keep.get())),
                registry: registry.clone(),
                over_api: matches!(ways.via, Via::Auto | Via::Api),
            },
        };
        let bytes = plans.iter().map(Plan::size).sum();
        let new = self.made(target);
        let creates = if new.is_some() { Creates::Claims } else { Creates::Nothing };
        let doing = format!("put models into {}", list(claims));
        let rights = |_: &cluster::Cluster| Seeder::rights(claims, creates);
        self.run(&doing, rights, mode, async |seeder, cluster| {
            let mut volumes = Vec::new();
            for claim in claims {
                // All are looked at before the first is written to.
                volumes.push(Volume::find(cluster, claim, bytes, new.as_ref()).await?);
            }
            if mode == Mode::Put && !plans.is_empty() {
                self.prepare(cluster, &volumes).await?;
            }
            let mut pushed = Vec::new();
            for volume in &volumes {
                let event = match mode {
                    Mode::Put if !plans.is_empty() => {
                        let order = order(&volume.path);
                        let source = Some(Arc::clone(source));
                        Some(seeder.work(volume, Use::Write, &order, source).await?)
                    }
                    _ => None,
                };
                pushed.push(done(target, volume, &plans, event, mode)?);
            }
            Ok(pushed)
        })
    }

    /// Models come before the first release: where a claim is made, its namespace is made as well, and
    /// the seeder's image is pulled with the site's secret.
    async fn prepare(&self, cluster: &cluster::Cluster, volumes: &[Volume]) -> Result<()> {
        let Some((site, _)) = self.site else { return Ok(()) };
        let pull_secret = releases::pull_secret(site, &Credentials::system())?;
        let objects = SiteObjects { pull_secret, ..SiteObjects::default() };
        let namespaces: BTreeSet<&str> =
            volumes.iter().map(|volume| volume.path.namespace.as_str()).collect();
        let mut rights = BTreeSet::new();
        for namespace in &namespaces {
            rights.extend(rights_to_prepare(cluster, namespace, &objects).await?);
        }
        let rights: Vec<Right> = rights.into_iter().collect();
        cluster.need_rights("preparing the models' namespaces", &rights).await?;
        for namespace in namespaces {
            for beside in release::prepare(cluster, namespace, &objects).await? {
                if beside.outcome == Outcome::Created {
                    self.context.ui.status(&format!("made {}", beside.object));
                }
            }
        }
        Ok(())
    }

    fn made(&self, target: &ModelTarget) -> Option<NewClaim> {
        let mut new = target.create.clone()?;
        let class = self.site.and_then(|(site, _)| site.storage_class.clone());
        new.storage_class = new.storage_class.or(class);
        Some(new)
    }
}

/// Gantry's own image by its name at a site.
pub(crate) fn site_image(site: &Site) -> Result<Image> {
    let prefix = site.registry.prefix()?;
    let reference = prefix.target(site.registry.naming, &types::own_image::reference()?)?;
    Ok(Image {
        reference: reference.to_string(),
        pull_secret: site.registry.pull_secret.clone(),
        node_selector: Vec::new(),
    })
}

/// Reads every file of a claim by a pod of its own, for a check among others.
pub(crate) async fn verify(
    cluster: cluster::Cluster,
    image: Image,
    claim: &Claim,
) -> Result<Checked> {
    let volume = Volume::find(&cluster, claim, 0, None).await?;
    let order = Order { folder: claim.folder.clone(), task: Task::Verify };
    let seeder = Seeder::new(cluster, image, POD_TIMEOUT, Arc::new(Silent));
    let event = seeder.work(&volume, Use::Read, &order, None).await;
    seeder.release().await?;
    match event? {
        Event::Checked { checked } => Ok(checked),
        _ => Err(unexpected()),
    }
}

/// Which models a target wants, and how.
pub(crate) fn choice(target: &ModelTarget, unfit: Unfit) -> Choice {
    Choice {
        names: target.models.clone(),
        layout: target.layout,
        files: target.files.unwrap_or_default(),
        unfit,
    }
}

/// What the pod did something else than it was told means.
pub(crate) fn unexpected() -> CommandError {
    CommandError::failed("the pod did something else than it was told")
        .hint("is its image of this version of Gantry? Name it with --image")
}

fn done(
    target: &ModelTarget,
    volume: &Volume,
    plans: &[Plan],
    event: Option<Event>,
    mode: Mode,
) -> Result<Pushed> {
    let (puts, via, collected) = match event {
        None => (None, None, Vec::new()),
        Some(Event::Put { puts, via, collected }) => (Some(puts), Some(via), collected),
        Some(_) => return Err(unexpected()),
    };
    let target = ModelTarget { to: Destination::Claim(volume.path.clone()), ..target.clone() };
    let mut pushed = Pushed::new(&target, plans, puts.as_deref(), mode);
    pushed.via = via;
    pushed.is_made = Some(volume.to_make.is_some());
    pushed.collected = collected;
    Ok(pushed)
}

fn list(claims: &[Claim]) -> String {
    claims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
