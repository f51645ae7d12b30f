//! Writes models into PersistentVolumeClaims of a cluster, for `models push` and `load --site`, and
//! holds what all tasks of seeder pods share: opening the cluster, checking rights, deleting the pods.

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

/// The default for how long a seeder pod may take to start. A node may have to pull the image and
/// attach the volume first, which takes minutes on some storage.
pub(crate) const POD_TIMEOUT: Duration = Duration::from_mins(5);

/// How the content of models gets to the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
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
pub(crate) struct Seeding<'a> {
    pub(crate) context: &'a Context,
    pub(crate) cluster: &'a ClusterArgs,
    /// The site, and the folder of its file, to which its paths are relative.
    pub(crate) site: Option<(&'a Site, &'a Path)>,
    pub(crate) image: Image,
    pub(crate) timeout: Duration,
    /// The label of the progress bar.
    pub(crate) verb: &'static str,
}

impl Seeding<'_> {
    /// Opens the cluster, checks the rights, does the work, and deletes the pods in every case. `doing`
    /// describes the work in questions and errors ("put models into …").
    pub(crate) fn run<T>(
        &self,
        doing: &str,
        rights: impl Fn(&cluster::Cluster) -> Vec<Right>,
        mode: Mode,
        work: impl AsyncFnOnce(&Seeder, &cluster::Cluster) -> Result<T>,
    ) -> Result<T> {
        let meter = self.context.ui.progress(self.verb);
        let site = self.site.map(|(site, _)| site);
        // The cleanup needs the seeder that the work creates, and has to run also if the work never got so
        // far as to create one.
        let open: OnceLock<Seeder> = OnceLock::new();
        let working = async {
            let cluster = match mode {
                Mode::DryRun => clusters::open(self.cluster, site).await?,
                Mode::Put => {
                    clusters::open_to_write(self.context, self.cluster, site, doing).await?
                }
            };
            // A missing right is reported before anything is created, with the rule that grants it.
            cluster.need_rights(doing, &rights(&cluster)).await?;
            let progress: Arc<dyn Progress> = Arc::clone(&meter) as _;
            let seeder = Seeder::new(cluster.clone(), self.image.clone(), self.timeout, progress);
            work(open.get_or_init(|| seeder), &cluster).await
        };
        let outcome = world::block_on_then(working, async || match open.get() {
            // No other process uses these pods, so they are deleted also after an error or Ctrl-C.
            Some(seeder) => Ok(seeder.release().await?),
            None => Ok(()),
        });
        match (&outcome, mode) {
            (Ok(_), Mode::Put) => meter.finish(),
            _ => meter.clear(),
        }
        outcome
    }

    /// Writes the models that a target selects into claims: `target` says which and how, `claims`
    /// where.
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
        // The registry is chosen once: the pods of all claims download from the same one.
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
        let doing = format!("write models to {}", list(claims));
        let rights = |_: &cluster::Cluster| Seeder::rights(claims, creates);
        self.run(&doing, rights, mode, async |seeder, cluster| {
            let mut volumes = Vec::new();
            for claim in claims {
                // All claims are checked before the first one is written to.
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

    /// Creates the namespaces of the claims and the pull secret in them. Models are loaded before the
    /// first release is deployed, so neither may exist yet, and the pod needs both.
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
        cluster.need_rights("preparing the namespaces of the models", &rights).await?;
        for namespace in namespaces {
            for beside in release::prepare(cluster, namespace, &objects).await? {
                if beside.outcome == Outcome::Created {
                    self.context.ui.status(&format!("created {}", beside.object));
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

/// Gantry's own image, under its name in the site's registry.
pub(crate) fn site_image(site: &Site) -> Result<Image> {
    let prefix = site.registry.prefix()?;
    let reference = prefix.target(site.registry.naming, &types::own_image::reference()?)?;
    Ok(Image {
        reference: reference.to_string(),
        pull_secret: site.registry.pull_secret.clone(),
        node_selector: Vec::new(),
    })
}

/// Reads and hashes every model file of a claim in a pod of its own, for `gantry check`.
pub(crate) async fn verify(
    cluster: cluster::Cluster,
    image: Image,
    claim: &Claim,
) -> Result<Checked> {
    // Nothing is written, so no free space is needed and no claim is created.
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

/// The models that a target selects and their layout. `unfit` says what to do with models that the
/// layout cannot hold.
pub(crate) fn choice(target: &ModelTarget, unfit: Unfit) -> Choice {
    Choice {
        names: target.models.clone(),
        layout: target.layout,
        files: target.files.unwrap_or_default(),
        unfit,
    }
}

/// The error for a pod that answered with another event than its task has.
pub(crate) fn unexpected() -> CommandError {
    CommandError::failed("the seeder pod did not do what it was asked")
        .hint("its image may be of another version of Gantry; name the right one with --image")
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
