//! `gantry models push`, `verify` and `ls` with `pvc://…`: claims of a cluster, which a seeder pod mounts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use land::claim::{
    ClaimCreation, ClaimVolume, SeedRoute, SeedRouteChoice, Seeder, SeederEvent, SeederImage,
    SeederOrder, SeederTask, VolumeUse,
};
use land::models::{PushMode, UnfitModelPolicy};
use store::Source;
use types::ByteSize;
use types::destination::ClaimFolder;
use types::site::{AccessMode, ModelTarget, NewClaim, Site, site_folder};

use super::report::{
    build_no_models_error, print_left_out, print_records, print_verified, require_undamaged,
};
use super::summary::ModelsPushSummary;
use crate::clusters::ClusterArgs;
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::model_targets;
use crate::seeder_session::SeederSession;
use crate::value_parsers::{WEEK, duration_within};

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
    access_mode: AccessModeOption,
    /// The storage class of a created claim [default: storageClass of site.yaml, then the cluster's
    /// default].
    #[arg(long, value_name = "CLASS", requires = "create", help_heading = "Claim options")]
    storage_class: Option<String>,
    /// How the content of models gets to the pod.
    #[arg(long, value_name = "WAY", default_value = "auto", help_heading = "Claim options")]
    via: SeedRouteOption,
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
    pub(in crate::commands) site: Option<PathBuf>,
    /// Gantry's own image as nodes pull it [default: the one in the site's registry].
    #[arg(long, value_name = "REF", help_heading = "Claim options")]
    image: Option<String>,
    /// Run the pod only on nodes with this label; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label, help_heading = "Claim options")]
    node_selector: Vec<(String, String)>,
    /// How long the pod may take to start (90s, 5m).
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration_within(Duration::ZERO..=WEEK), help_heading = "Claim options")]
    pod_timeout: Duration,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AccessModeOption {
    /// ReadWriteOnce: pods on one node.
    Rwo,
    /// ReadWriteMany: pods on all nodes.
    Rwx,
}

/// How the content of models gets to the pod, as on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SeedRouteOption {
    /// From the depot or the site's registry; what neither has goes through the API server.
    Auto,
    /// From the depot only.
    Depot,
    /// From the site's registry only.
    Registry,
    /// Through the API server only.
    Api,
}

impl From<SeedRouteOption> for SeedRoute {
    fn from(option: SeedRouteOption) -> Self {
        match option {
            SeedRouteOption::Auto => Self::Auto,
            SeedRouteOption::Depot => Self::Depot,
            SeedRouteOption::Registry => Self::Registry,
            SeedRouteOption::Api => Self::Api,
        }
    }
}

impl ClaimArgs {
    /// The claim to create if it does not exist; `None` without `--create`.
    pub(super) fn new_claim(&self) -> Option<NewClaim> {
        self.create.then(|| NewClaim {
            size: self.size,
            access_mode: match self.access_mode {
                AccessModeOption::Rwo => AccessMode::ReadWriteOnce,
                AccessModeOption::Rwx => AccessMode::ReadWriteMany,
            },
            storage_class: self.storage_class.clone(),
        })
    }

    /// How the content gets to the pod.
    pub(super) fn seed_route(&self) -> SeedRouteChoice {
        SeedRouteChoice { via: self.via.into(), depot: self.from_depot.clone() }
    }
}

impl SeederArgs {
    /// Reads the site file, if one was given.
    pub(super) fn read_site(&self) -> Result<Option<Site>> {
        self.site.as_deref().map(environment::read_site).transpose()
    }

    /// The folder of the site file, to which its paths are relative.
    pub(super) fn site_folder(&self) -> &Path {
        self.site.as_deref().map_or_else(|| Path::new("."), site_folder)
    }

    /// Prepares work with seeder pods. `verb` is the label of the progress bar.
    pub(super) fn seeder_session<'a>(
        &'a self,
        context: &'a CommandContext,
        site: Option<&'a Site>,
        verb: &'static str,
    ) -> Result<SeederSession<'a>> {
        Ok(SeederSession {
            context,
            cluster: &self.cluster,
            site: site.map(|site| (site, self.site_folder())),
            image: self.seeder_image(site)?,
            timeout: self.pod_timeout,
            verb,
        })
    }

    fn seeder_image(&self, site: Option<&Site>) -> Result<SeederImage> {
        let node_selector = self.node_selector.clone();
        let pull_secret = site.and_then(|site| site.registry.pull_secret.clone());
        match (&self.image, site) {
            // Parsed to add the registry and tag that are left out, as docker does.
            (Some(image), _) => {
                let reference = image.parse::<types::Reference>()?.to_string();
                Ok(SeederImage { reference, pull_secret, node_selector })
            }
            (None, Some(site)) => Ok(SeederImage { node_selector, ..SeederImage::at_site(site)? }),
            (None, None) => Err(CommandError::usage_error(
                "the pod needs Gantry's own image, and it is not known where nodes can pull it",
            )
            .with_hint("name the site file with --site FILE, or the image with --image REF")
            .with_hint(
                "the image gets to the registry with tools: [gantry] in gantry.yaml, then lock, fetch, pack and load",
            )),
        }
    }
}

pub(super) fn push_to_claims(
    context: &CommandContext,
    source: &Arc<dyn Source>,
    target: &ModelTarget,
    claims: &[ClaimFolder],
    (claim, seeder): (&ClaimArgs, &SeederArgs),
    mode: PushMode,
) -> Result<()> {
    let site = seeder.read_site()?;
    let seeding = seeder.seeder_session(context, site.as_ref(), "push")?;
    let targets = seeding.push_models(
        source,
        target,
        claims,
        &claim.seed_route(),
        UnfitModelPolicy::Refused,
        mode,
    )?;
    if let Some(report) = targets.first() {
        print_left_out(context, report);
    }
    let pushed = ModelsPushSummary {
        is_dry_run: mode == PushMode::DryRun,
        targets: targets.into_iter().map(Into::into).collect(),
    };
    context.ui.print_result(&pushed, |pushed| {
        pushed
            .targets
            .iter()
            .map(|target| model_targets::format_push_with_target(&target.report))
            .collect::<Vec<_>>()
            .join("\n")
    })
}

pub(super) fn verify_claim(
    context: &CommandContext,
    args: &SeederArgs,
    claim: &ClaimFolder,
) -> Result<()> {
    let event = run_read_task(context, args, claim, SeederTask::Verify, "verify")?;
    let SeederEvent::Checked { checked } = event else {
        return Err(land::claim::Error::UnexpectedEvent.into());
    };
    if checked.models.is_empty() {
        return Err(build_no_models_error(&claim.to_string()));
    }
    let to = claim.to_string();
    print_verified(context, to.clone(), &checked)?;
    require_undamaged(&to, |file| format!("{to}/{}", file.display()), &checked)
}

pub(super) fn list_claim_models(
    context: &CommandContext,
    args: &SeederArgs,
    claim: &ClaimFolder,
) -> Result<()> {
    let event = run_read_task(context, args, claim, SeederTask::List, "ls")?;
    let SeederEvent::Listed { records } = event else {
        return Err(land::claim::Error::UnexpectedEvent.into());
    };
    print_records(context, claim.to_string(), &records)
}

fn run_read_task(
    context: &CommandContext,
    args: &SeederArgs,
    claim: &ClaimFolder,
    task: SeederTask,
    verb: &'static str,
) -> Result<SeederEvent> {
    let site = args.read_site()?;
    let order = SeederOrder { folder: claim.folder.clone(), node_folder: None, task };
    let seeding = args.seeder_session(context, site.as_ref(), verb)?;
    let doing = format!("{verb} the models in {claim}");
    let rights = |_: &cluster::Cluster| {
        Seeder::required_rights(std::slice::from_ref(claim), ClaimCreation::Never)
    };
    seeding.run_with_seeder(&doing, rights, PushMode::Put, async |seeder, cluster| {
        let volume = ClaimVolume::inspect_claim(cluster, claim, 0, None).await?;
        Ok(seeder.run_order(&volume, VolumeUse::Read, &order, None).await?)
    })
}

fn parse_label(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as disktype=ssd")?;
    Ok((key.to_owned(), value.to_owned()))
}
