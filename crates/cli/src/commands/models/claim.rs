//! `gantry models push | verify | ls` with `pvc://…`: volumes of a cluster, worked on by a seeder pod.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::ValueEnum;
use land::claim::{
    AccessMode, ClaimPath, Creates, Event, Image, New, Order, SCHEME, Seeder, Task, Use, Volume, Way,
};
use land::models::{self, Checked, Plan, Put, Record};
use serde::Serialize;
use store::Source;
use types::ByteSize;
use types::site::Site;

use super::{LsArgs, PushArgs, VerifyArgs, choice, judged, nothing, print_checked, print_records};
use crate::clusters::{self, ClusterArgs};
use crate::commands::models::from;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::{ui, world};

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
        default_value = "RWO",
        ignore_case = true,
        help_heading = "Claim options"
    )]
    access_mode: Mode,
    /// Its storage class [default: site.yaml's storageClass, then the cluster's default].
    #[arg(long, value_name = "CLASS", requires = "create", help_heading = "Claim options")]
    storage_class: Option<String>,
    /// Which way the bytes come.
    #[arg(long, value_name = "WAY", default_value = "auto", help_heading = "Claim options")]
    pub(super) via: Via,
    /// A depot (gantry serve) that the pod reaches and that has the models.
    #[arg(long, value_name = "URL", help_heading = "Claim options")]
    pub(super) from_depot: Option<String>,
}

/// What a seeder pod runs from.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SeederArgs {
    /// The site's description: its registry has Gantry's image, and the models for the pod to read.
    #[arg(long, value_name = "FILE", help_heading = "Claim options")]
    pub(super) site: Option<PathBuf>,
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
    pub(super) cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// ReadWriteOnce.
    Rwo,
    /// ReadWriteMany.
    Rwx,
}

/// Which way the bytes come to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// From the depot or the site's registry; over the API server what neither gives.
    Auto,
    /// From the depot alone.
    Depot,
    /// From the site's registry alone.
    Registry,
    /// Over the API server alone.
    Api,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    is_dry_run: bool,
    targets: Vec<PushedTarget>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PushedTarget {
    to: String,
    /// Whether the claim was made (or would be).
    is_made: bool,
    /// Which way the bytes came.
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<Way>,
    models: Vec<PushedModel>,
    /// Older revisions that were taken away.
    collected: Vec<String>,
}

#[derive(Serialize)]
struct PushedModel {
    name: String,
    files: usize,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    put: Option<Put>,
}

/// Whether a target is a volume of a cluster.
pub(super) fn is_claim(target: &Path) -> bool {
    target.to_string_lossy().starts_with(SCHEME)
}

fn claim_path(target: &Path) -> Result<ClaimPath> {
    Ok(target.to_string_lossy().parse()?)
}

pub(super) fn push(context: &Context, args: &PushArgs) -> Result<()> {
    let mut paths = Vec::new();
    for target in &args.to {
        let path = claim_path(target)?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let site = site(&args.seeder)?;
    let source = world::source(&args.sources)?;
    let choice = choice(args);
    let plans = models::plan(&*source, &choice)?;
    let registry = from::registry(args, site.as_ref(), &*source, &plans)?;
    let order = |path: &ClaimPath| Order {
        folder: path.folder.clone(),
        task: Task::Put {
            plans: plans.clone(),
            layout: choice.layout,
            keep: args.keep.map(usize::from),
            registry: registry.clone(),
            over_api: matches!(args.claim.via, Via::Auto | Via::Api),
        },
    };
    let bytes = plans.iter().map(Plan::size).sum();
    let new = new(&args.claim, site.as_ref());
    let doing = format!("put models into {}", list(&paths));
    let work = Work::new(context, &args.seeder, site.as_ref(), "push")?;
    let creates = if new.is_some() { Creates::Claims } else { Creates::Nothing };
    let rights = |_: &cluster::Cluster| Seeder::rights(&paths, creates);
    let targets = work.run(&doing, rights, args.dry_run, async |seeder, cluster| {
        let mut volumes = Vec::new();
        for path in &paths {
            // All are looked at before the first is written to.
            volumes.push(Volume::find(cluster, path, bytes, new.as_ref()).await?);
        }
        let mut targets = Vec::new();
        for volume in &volumes {
            let event = match args.dry_run {
                true => None,
                false => {
                    let source: Arc<dyn Source> = Arc::clone(&source);
                    Some(seeder.work(volume, Use::Write, &order(&volume.path), Some(source)).await?)
                }
            };
            targets.push(target(volume, &plans, event)?);
        }
        Ok(targets)
    })?;
    let pushed = Pushed { is_dry_run: args.dry_run, targets };
    context.ui.result(&pushed, print)
}

pub(super) fn verify(context: &Context, args: &VerifyArgs) -> Result<()> {
    let path = claim_path(&args.folder)?;
    let event = read(context, &args.seeder, &path, Task::Verify, "verify")?;
    let Event::Checked { checked } = event else { return Err(unexpected()) };
    if checked.models.is_empty() {
        return Err(nothing(&args.folder));
    }
    let checked: Checked = checked;
    context.ui.result(&checked, print_checked)?;
    judged(&path.to_string(), &checked)
}

pub(super) fn ls(context: &Context, args: &LsArgs) -> Result<()> {
    let path = claim_path(&args.folder)?;
    let event = read(context, &args.seeder, &path, Task::List, "ls")?;
    let Event::Listed { records } = event else { return Err(unexpected()) };
    let records: Vec<Record> = records;
    context.ui.result(&records, print_records)
}

fn read(
    context: &Context,
    args: &SeederArgs,
    path: &ClaimPath,
    task: Task,
    doing: &'static str,
) -> Result<Event> {
    let site = site(args)?;
    let order = Order { folder: path.folder.clone(), task };
    let work = Work::new(context, args, site.as_ref(), doing)?;
    let paths = std::slice::from_ref(path);
    let told = format!("{doing} the models in {path}");
    let rights = |_: &cluster::Cluster| Seeder::rights(paths, Creates::Nothing);
    work.run(&told, rights, false, async |seeder, cluster| {
        let volume = Volume::find(cluster, path, 0, None).await?;
        Ok(seeder.work(&volume, Use::Read, &order, None).await?)
    })
}

/// What every work with seeder pods needs.
pub(super) struct Work<'a> {
    context: &'a Context,
    args: &'a SeederArgs,
    site: Option<&'a Site>,
    image: Image,
    doing: &'static str,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        context: &'a Context,
        args: &'a SeederArgs,
        site: Option<&'a Site>,
        doing: &'static str,
    ) -> Result<Self> {
        Ok(Self { context, args, site, image: image(args, site)?, doing })
    }

    /// Opens the cluster, asks for the rights, works, and takes the pods away in every case.
    pub(super) fn run<T>(
        &self,
        doing: &str,
        rights: impl Fn(&cluster::Cluster) -> Vec<cluster::Right>,
        is_dry: bool,
        work: impl AsyncFnOnce(&Seeder, &cluster::Cluster) -> Result<T>,
    ) -> Result<T> {
        let meter = self.context.ui.progress(self.doing);
        let timeout = Duration::from_secs(self.args.pod_timeout);
        let open: OnceLock<Seeder> = OnceLock::new();
        let working = async {
            let cluster = if is_dry {
                clusters::open(&self.args.cluster, self.site).await?
            } else {
                let (args, site) = (&self.args.cluster, self.site);
                clusters::open_to_write(self.context, args, site, doing).await?
            };
            cluster.need_rights(doing, &rights(&cluster)).await?;
            let progress: Arc<dyn store::progress::Progress> = Arc::clone(&meter) as _;
            let seeder = Seeder::new(cluster.clone(), self.image.clone(), timeout, progress);
            work(open.get_or_init(|| seeder), &cluster).await
        };
        let outcome = world::block_on_then(working, async || match open.get() {
            // The pods are this process's: they go, whatever happened.
            Some(seeder) => Ok(seeder.release().await?),
            None => Ok(()),
        });
        match &outcome {
            Ok(_) if !is_dry => meter.finish(),
            _ => meter.clear(),
        }
        outcome
    }
}

pub(super) fn site(args: &SeederArgs) -> Result<Option<Site>> {
    args.site.as_deref().map(world::site).transpose()
}

/// Gantry's own image, as the nodes pull it.
fn image(args: &SeederArgs, site: Option<&Site>) -> Result<Image> {
    let reference = match (&args.image, site) {
        (Some(image), _) => image.parse::<types::Reference>()?.to_string(),
        (None, Some(site)) => {
            let prefix = site.registry.prefix()?;
            prefix.target(site.registry.naming, &types::own_image::reference()?)?.to_string()
        }
        (None, None) => {
            return Err(CommandError::usage("it is not known where nodes pull Gantry's own image from")
                .hint("name the site's description with --site, or the image with --image")
                .hint("tools: [gantry] in gantry.yaml takes it into the bundle, gantry load into the registry"));
        }
    };
    let pull_secret = site.and_then(|site| site.registry.pull_secret.clone());
    Ok(Image { reference, pull_secret, node_selector: args.node_selector.clone() })
}

fn new(args: &ClaimArgs, site: Option<&Site>) -> Option<New> {
    args.create.then(|| New {
        size: args.size.map(|size| size.0),
        access: match args.access_mode {
            Mode::Rwo => AccessMode::ReadWriteOnce,
            Mode::Rwx => AccessMode::ReadWriteMany,
        },
        class: args
            .storage_class
            .clone()
            .or_else(|| site.and_then(|site| site.storage_class.clone())),
    })
}

fn target(volume: &Volume, plans: &[Plan], event: Option<Event>) -> Result<PushedTarget> {
    let (puts, via, collected) = match event {
        None => (None, None, Vec::new()),
        Some(Event::Put { puts, via, collected }) => (Some(puts), Some(via), collected),
        Some(_) => return Err(unexpected()),
    };
    let models = plans.iter().enumerate().map(|(index, plan)| PushedModel {
        name: plan.name.clone(),
        files: plan.files().count(),
        bytes: plan.size(),
        put: puts.as_ref().and_then(|puts| puts.get(index).copied()),
    });
    Ok(PushedTarget {
        to: volume.path.to_string(),
        is_made: volume.to_make.is_some(),
        via,
        models: models.collect(),
        collected,
    })
}

fn print(pushed: &Pushed) -> String {
    let mut rows = Vec::new();
    for target in &pushed.targets {
        for model in &target.models {
            let via = match target.via {
                Some(Way::Registry) => " from the registry",
                Some(Way::Api) => " over the API server",
                Some(Way::Both) => " from the registry and over the API server",
                Some(Way::None) | None => "",
            };
            let put = match (model.put, target.is_made) {
                (Some(Put::Present), _) => "there already".to_owned(),
                (Some(Put::Written), _) => format!("put{via}"),
                (None, true) => "would be put, into a claim that is made".to_owned(),
                (None, false) => "would be put".to_owned(),
            };
            let size = ByteSize(model.bytes).to_string();
            rows.push([target.to.clone(), model.name.clone(), model.files.to_string(), size, put]);
        }
        for name in &target.collected {
            let [files, size] = [String::new(), String::new()];
            rows.push([target.to.clone(), name.clone(), files, size, "taken away".to_owned()]);
        }
    }
    ui::table(["volume", "model", "files", "size", ""], rows)
}

pub(super) fn unexpected() -> CommandError {
    CommandError::failed("the pod did something else than it was told")
        .hint("is its image of this version of Gantry? Name it with --image")
}

fn list(paths: &[ClaimPath]) -> String {
    paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn label(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
