//! `gantry models push | verify | ls` with `pvc://…`: volumes of a cluster, worked on by a seeder pod.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use land::claim::{Creates, Event, Image, Order, Seeder, Task, Use, Volume};
use land::models::Unfit;
use serde::Serialize;
use store::Source;
use types::ByteSize;
use types::destination::Claim;
use types::site::{AccessMode, ModelTarget, NewClaim, Site};

use super::{judged, nothing, print_checked, print_records};
use crate::claims::{self, Seeding, Via, Ways, unexpected};
use crate::clusters::ClusterArgs;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::place::{self, Mode, Pushed};
use crate::world;

/// How a claim is made where there is none.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ClaimArgs {
    /// Make the claim if it is not there.
    #[arg(long, help_heading = "Claim options")]
    create: bool,
    /// Its size (20GiB) [default: that of the models and a fifth more].
    #[arg(long, value_name = "SIZE", requires = "create", help_heading = "Claim options")]
    size: Option<ByteSize>,
    /// Who may mount it: RWO (pods of one node) or RWX (pods of all).
    #[arg(
        long,
        value_name = "MODE",
        default_value = "rwo",
        ignore_case = true,
        help_heading = "Claim options"
    )]
    access_mode: Access,
    /// Its storage class [default: site.yaml's storageClass, then the cluster's default].
    #[arg(long, value_name = "CLASS", requires = "create", help_heading = "Claim options")]
    storage_class: Option<String>,
    /// Which way the bytes come to a pod.
    #[arg(long, value_name = "WAY", default_value = "auto", help_heading = "Claim options")]
    via: Via,
    /// A depot (gantry serve) that the pod reaches and that has the models.
    #[arg(long, value_name = "URL", help_heading = "Claim options")]
    from_depot: Option<String>,
}

/// What a seeder pod runs from.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SeederArgs {
    /// The site's description: its registry has Gantry's image, and the models for the pod to read.
    #[arg(long, value_name = "FILE", help_heading = "Claim options")]
    site: Option<PathBuf>,
    /// Gantry's own image, as the nodes pull it [default: by its name at the site's registry].
    #[arg(long, value_name = "REF", help_heading = "Claim options")]
    image: Option<String>,
    /// Nodes that may run the pod.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, help_heading = "Claim options")]
    node_selector: Vec<(String, String)>,
    /// Seconds that the pod may take to run.
    #[arg(long, value_name = "SECONDS", default_value = "300", help_heading = "Claim options")]
    pod_timeout: u64,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Access {
    /// ReadWriteOnce.
    Rwo,
    /// ReadWriteMany.
    Rwx,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AllPushed {
    is_dry_run: bool,
    targets: Vec<Pushed>,
}

impl ClaimArgs {
    /// How a claim is made, where that is asked for.
    pub(super) fn new(&self) -> Option<NewClaim> {
        self.create.then(|| NewClaim {
            size: self.size,
            access_mode: match self.access_mode {
                Access::Rwo => AccessMode::ReadWriteOnce,
                Access::Rwx => AccessMode::ReadWriteMany,
            },
            storage_class: self.storage_class.clone(),
        })
    }

    /// The ways that bytes may take.
    pub(super) fn ways(&self) -> Ways {
        Ways { via: self.via, depot: self.from_depot.clone() }
    }
}

impl SeederArgs {
    /// The site.
    pub(super) fn site(&self) -> Result<Option<Site>> {
        self.site.as_deref().map(world::site).transpose()
    }

    /// The folder of the site's file.
    pub(super) fn folder(&self) -> &Path {
        self.site.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new("."))
    }

    /// Pods of this image in this cluster.
    pub(super) fn seeding<'a>(
        &'a self,
        context: &'a Context,
        site: Option<&'a Site>,
        verb: &'static str,
    ) -> Result<Seeding<'a>> {
        Ok(Seeding {
            context,
            cluster: &self.cluster,
            site: site.map(|site| (site, self.folder())),
            image: self.image(site)?,
            timeout: Duration::from_secs(self.pod_timeout),
            verb,
        })
    }

    fn image(&self, site: Option<&Site>) -> Result<Image> {
        let node_selector = self.node_selector.clone();
        let pull_secret = site.and_then(|site| site.registry.pull_secret.clone());
        match (&self.image, site) {
            (Some(image), _) => {
                let reference = image.parse::<types::Reference>()?.to_string();
                Ok(Image { reference, pull_secret, node_selector })
            }
            (None, Some(site)) => Ok(Image { node_selector, ..claims::site_image(site)? }),
            (None, None) => Err(CommandError::usage(
                "it is not known where nodes pull Gantry's own image from",
            )
            .hint("name the site's description with --site, or the image with --image")
            .hint(
                "tools: [gantry] in gantry.yaml takes it into the bundle, gantry load into the registry",
            )),
        }
    }
}

pub(super) fn push(
    context: &Context,
    source: &Arc<dyn Source>,
    target: &ModelTarget,
    claims: &[Claim],
    (claim, seeder): (&ClaimArgs, &SeederArgs),
    mode: Mode,
) -> Result<()> {
    let site = seeder.site()?;
    let seeding = seeder.seeding(context, site.as_ref(), "push")?;
    let targets = seeding.put(source, target, claims, &claim.ways(), Unfit::Refused, mode)?;
    let pushed = AllPushed { is_dry_run: mode == Mode::DryRun, targets };
    context.ui.result(&pushed, |pushed| {
        pushed.targets.iter().map(place::print_named).collect::<Vec<_>>().join("\n")
    })
}

pub(super) fn verify(context: &Context, args: &SeederArgs, claim: &Claim) -> Result<()> {
    let event = read(context, args, claim, Task::Verify, "verify")?;
    let Event::Checked { checked } = event else { return Err(unexpected()) };
    if checked.models.is_empty() {
        return Err(nothing(&claim.to_string()));
    }
    context.ui.result(&checked, print_checked)?;
    let to = claim.to_string();
    judged(&to, |file| format!("{to}/{}", file.display()), &checked)
}

pub(super) fn ls(context: &Context, args: &SeederArgs, claim: &Claim) -> Result<()> {
    let event = read(context, args, claim, Task::List, "ls")?;
    let Event::Listed { records } = event else { return Err(unexpected()) };
    context.ui.result(&records, |records| print_records(records))
}

fn read(
    context: &Context,
    args: &SeederArgs,
    claim: &Claim,
    task: Task,
    verb: &'static str,
) -> Result<Event> {
    let site = args.site()?;
    let order = Order { folder: claim.folder.clone(), task };
    let seeding = args.seeding(context, site.as_ref(), verb)?;
    let doing = format!("{verb} the models in {claim}");
    let rights =
        |_: &cluster::Cluster| Seeder::rights(std::slice::from_ref(claim), Creates::Nothing);
    seeding.run(&doing, rights, Mode::Put, async |seeder, cluster| {
        let volume = Volume::find(cluster, claim, 0, None).await?;
        Ok(seeder.work(&volume, Use::Read, &order, None).await?)
    })
}

fn label(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
