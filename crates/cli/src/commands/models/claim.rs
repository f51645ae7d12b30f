//! `gantry models push`, `verify` and `ls` with `pvc://…`: claims of a cluster, which a seeder pod mounts.

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

/// Options for writing to claims.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ClaimArgs {
    /// Create the claim if it does not exist.
    #[arg(long, help_heading = "Claim options")]
    create: bool,
    /// The size of a created claim (20GiB) [default: the size of the models and a fifth more].
    #[arg(long, value_name = "SIZE", requires = "create", help_heading = "Claim options")]
    size: Option<ByteSize>,
    /// The access mode of a created claim: rwo (pods on one node) or rwx (pods on all nodes).
    #[arg(
        long,
        value_name = "MODE",
        default_value = "rwo",
        ignore_case = true,
        help_heading = "Claim options"
    )]
    access_mode: Access,
    /// The storage class of a created claim [default: storageClass of site.yaml, then the cluster's
    /// default].
    #[arg(long, value_name = "CLASS", requires = "create", help_heading = "Claim options")]
    storage_class: Option<String>,
    /// How the content of models gets to the pod.
    #[arg(long, value_name = "WAY", default_value = "auto", help_heading = "Claim options")]
    via: Via,
    /// The address of a depot (gantry serve) that has the models and that the pod can reach.
    #[arg(long, value_name = "URL", help_heading = "Claim options")]
    from_depot: Option<String>,
}

/// Options for seeder pods, which read and write claims and nodes' disks.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SeederArgs {
    /// The site file (site.yaml): the pod's image comes from its registry, and the models too if they
    /// were loaded there.
    #[arg(long, value_name = "FILE", help_heading = "Claim options")]
    site: Option<PathBuf>,
    /// Gantry's own image as nodes pull it [default: the one in the site's registry].
    #[arg(long, value_name = "REF", help_heading = "Claim options")]
    image: Option<String>,
    /// Run the pod only on nodes with this label; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, help_heading = "Claim options")]
    node_selector: Vec<(String, String)>,
    /// How many seconds the pod may take to start.
    #[arg(long, value_name = "SECONDS", default_value = "300", help_heading = "Claim options")]
    pod_timeout: u64,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Access {
    /// ReadWriteOnce: pods on one node.
    Rwo,
    /// ReadWriteMany: pods on all nodes.
    Rwx,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AllPushed {
    is_dry_run: bool,
    targets: Vec<Pushed>,
}

impl ClaimArgs {
    /// The claim to create if it does not exist; `None` without `--create`.
    pub(super) fn made(&self) -> Option<NewClaim> {
        self.create.then(|| NewClaim {
            size: self.size,
            access_mode: match self.access_mode {
                Access::Rwo => AccessMode::ReadWriteOnce,
                Access::Rwx => AccessMode::ReadWriteMany,
            },
            storage_class: self.storage_class.clone(),
        })
    }

    /// How the content gets to the pod.
    pub(super) fn ways(&self) -> Ways {
        Ways { via: self.via, depot: self.from_depot.clone() }
    }
}

impl SeederArgs {
    /// Reads the site file, if one was given.
    pub(super) fn site(&self) -> Result<Option<Site>> {
        self.site.as_deref().map(world::site).transpose()
    }

    /// The folder of the site file, to which its paths are relative.
    pub(super) fn folder(&self) -> &Path {
        self.site.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new("."))
    }

    /// Prepares work with seeder pods. `verb` is the label of the progress bar.
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
            // Parsed to add the registry and tag that are left out, as docker does.
            (Some(image), _) => {
                let reference = image.parse::<types::Reference>()?.to_string();
                Ok(Image { reference, pull_secret, node_selector })
            }
            (None, Some(site)) => Ok(Image { node_selector, ..claims::site_image(site)? }),
            (None, None) => Err(CommandError::usage(
                "the pod needs Gantry's own image, and it is not known where nodes can pull it",
            )
            .hint("name the site file with --site FILE, or the image with --image REF")
            .hint(
                "the image gets to the registry with tools: [gantry] in gantry.yaml, then lock, fetch, pack and load",
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
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as disktype=ssd")?;
    Ok((key.to_owned(), value.to_owned()))
}
