//! `gantry models push`, `verify` and `ls`: models in folders, buckets, a cluster's claims, on nodes'
//! disks, and as images.

mod claim;
mod image;
mod node;
mod pod;
mod report;
mod summary;
mod target;

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use land::models::bucket::{BucketAccess, PlainHttpPolicy};
use land::models::{OpenModelTarget, PushMode, UnfitModelPolicy};
use types::destination::ModelDestination;
use types::site::{CacheFileStyle, ModelLayout, ModelTarget};

use self::report::{
    build_no_models_error, print_push, print_records, print_verified, require_undamaged,
};
pub(crate) use self::summary::{ModelsListing, ModelsPushSummary, ModelsVerifySummary};
use self::target::ModelPushTarget;
use crate::context::{BandwidthArgs, CommandContext};
use crate::environment;
use crate::error::{CommandError, Result};
use crate::model_targets;

/// Write models where programs read them (folders, buckets, claims), verify and list them.
#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    Push(ModelsPushArgs),
    Verify(ModelsVerifyArgs),
    Ls(ModelsListArgs),
    #[command(hide = true)]
    Hold(pod::SeederHoldArgs),
    #[command(hide = true)]
    Receive(pod::SeederReceiveArgs),
}

impl ModelsCommand {
    /// The options for seeder pods, of the commands that have them.
    pub(super) fn seeder_mut(&mut self) -> Option<&mut claim::SeederArgs> {
        match self {
            Self::Push(args) => Some(&mut args.seeder),
            Self::Verify(args) => Some(&mut args.seeder),
            Self::Ls(args) => Some(&mut args.seeder),
            Self::Hold(_) | Self::Receive(_) => None,
        }
    }
}

/// Write models to a folder, a bucket, a claim, nodes' disks or an image, in the layout that a runtime
/// reads.
///
/// Models are read directly from the bundle files, without a second copy. A file becomes visible once
/// its digest was verified, and a model once all of its files are complete: in a folder by a rename, in
/// a bucket by completing all uploads together. After an interruption the same command resumes; files
/// with the right digest are kept. A new revision of a model is stored beside the old one (hf-cache,
/// sie) or replaces it (flat).
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models push /media/disk --to /mnt/models                     # a Hugging Face cache: HF_HUB_CACHE=/mnt/models
  gantry models push /media/disk --to /mnt/models --files plain       # without symbolic links
  gantry models push /media/disk --to /srv/models --layout flat --model BAAI/bge-m3
  gantry models push /media/disk --to ~/.ollama/models --layout ollama --model registry.ollama.ai/library/qwen2.5:3b
  gantry models push /media/disk --to s3://models/sie --layout sie    # SIE: clusterCache.url: s3://models/sie
  gantry models push /media/disk --to s3://models --endpoint https://minio.internal:9000 --ca ca.pem
  gantry models push ~/.local/share/gantry/store --to /mnt/models --dry-run
  gantry models push /media/disk --to pvc://onyx/model-cache --site site.yaml --create --access-mode RWX
  gantry models push /media/disk --to pvc://onyx/index --to pvc://onyx/inference --site site.yaml
  gantry models push /media/disk --to pvc://akko/ollama/models --layout ollama --site site.yaml --via api
  gantry models push /media/disk --to 'node:///var/lib/models?selector=gpu=yes&namespace=seed' --site site.yaml
  gantry models push /media/disk --to image://registry.internal:5000/models/minilm:1 --layout flat

Credentials for buckets are taken from the environment, under the names that the clouds' own tools use:
  s3://  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, or a web identity (IRSA)
  gs://  GOOGLE_APPLICATION_CREDENTIALS, or the workload identity
  az://  AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or the workload identity")]
pub(crate) struct ModelsPushArgs {
    /// Bundle files, folders of bundle files, the .gantry.json beside them, or one store folder.
    #[arg(required = true, value_name = "BUNDLE")]
    sources: Vec<PathBuf>,
    /// The target: a folder; a bucket with a prefix (s3://bucket/prefix, gs://…, az://container/prefix);
    /// a claim (pvc://NAMESPACE/CLAIM[/FOLDER], may be given several times); the nodes' own disks
    /// (node:///FOLDER[?selector=KEY=VALUE&namespace=NAME]); an image (image://HOST/PATH:TAG).
    #[arg(long, value_name = "TARGET", required = true)]
    to: Vec<ModelPushTarget>,
    /// The layout of the files at the target.
    #[arg(long, value_name = "LAYOUT", default_value = "hf-cache")]
    layout: LayoutOption,
    /// How a Hugging Face cache in a folder stores its files [default: links].
    #[arg(long, value_name = "FILES")]
    files: Option<CacheFilesOption>,
    /// Write only this model (an id or a reference); may be given several times [default: all].
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Keep this many revisions of each written model, including the new one, and delete older ones
    /// [default: keep all].
    #[arg(long, value_name = "N")]
    keep: Option<NonZeroU16>,
    #[command(flatten)]
    server: BucketServerArgs,
    /// Print what would be written, without writing it.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    claim: claim::ClaimArgs,
    #[command(flatten)]
    seeder: claim::SeederArgs,
}

/// How to connect to a bucket's server.
#[derive(clap::Args)]
struct BucketServerArgs {
    /// The bucket's server, https://host[:port] [default: as the environment says, else the cloud's own].
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// A PEM file with the CA certificate of the bucket's server.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Connect to the bucket's server by plain HTTP. Loopback addresses need no option for that.
    #[arg(long)]
    plain_http: bool,
    #[command(flatten)]
    limit: BandwidthArgs,
}

impl BucketServerArgs {
    fn bucket_access(&self, context: &CommandContext) -> BucketAccess {
        BucketAccess {
            endpoint: self.endpoint.clone(),
            ca: self.ca.iter().chain(&context.config.ca).cloned().collect(),
            bandwidth: context.config.bandwidth,
            http: if self.plain_http { PlainHttpPolicy::Allowed } else { PlainHttpPolicy::Refused },
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum LayoutOption {
    /// A Hugging Face cache (HF_HUB_CACHE).
    HfCache,
    /// Plain files under org/name/.
    Flat,
    /// The cluster cache of SIE.
    Sie,
    /// The models folder of Ollama (OLLAMA_MODELS).
    Ollama,
}

#[derive(Clone, Copy, ValueEnum)]
enum CacheFilesOption {
    /// Each content once, with symbolic links to it.
    Links,
    /// Plain files, for file systems without symbolic links.
    Plain,
}

/// Verify models at a target: read every file and compare its digest.
///
/// No bundle is needed, since `gantry models push` left a record of each model in the folder .gantry
/// there. Exit code 3 if a file is missing or damaged.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models verify /mnt/models
  gantry models verify s3://models/sie --endpoint https://minio.internal:9000
  gantry models verify pvc://onyx/model-cache --site site.yaml
  gantry models verify /mnt/models --output json | jq '.targets[].damagedFiles'")]
pub(crate) struct ModelsVerifyArgs {
    /// The target: a folder, a bucket with its prefix, a claim, or the nodes' disks, written as for push.
    #[arg(value_name = "TARGET")]
    place: ModelPushTarget,
    #[command(flatten)]
    server: BucketServerArgs,
    #[command(flatten)]
    seeder: claim::SeederArgs,
}

/// List the models that Gantry wrote to a target.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models ls /mnt/models
  gantry models ls s3://models/sie
  gantry models ls pvc://onyx/model-cache --site site.yaml")]
pub(crate) struct ModelsListArgs {
    /// The target: a folder, a bucket with its prefix, or a claim, written as for push.
    #[arg(value_name = "TARGET")]
    place: ModelPushTarget,
    #[command(flatten)]
    server: BucketServerArgs,
    #[command(flatten)]
    seeder: claim::SeederArgs,
}

pub(crate) fn run(context: &CommandContext, command: &ModelsCommand) -> Result<()> {
    match command {
        ModelsCommand::Push(args) => push_models(&context.with_bandwidth(&args.server.limit), args),
        ModelsCommand::Verify(args) => {
            verify_models(&context.with_bandwidth(&args.server.limit), args)
        }
        ModelsCommand::Ls(args) => list_models(&context.with_bandwidth(&args.server.limit), args),
        ModelsCommand::Hold(args) => pod::hold_pod(args),
        ModelsCommand::Receive(args) => pod::receive_task(args),
    }
}

fn push_models(context: &CommandContext, args: &ModelsPushArgs) -> Result<()> {
    let mode = if args.dry_run { PushMode::DryRun } else { PushMode::Put };
    // Several targets are supported for claims only, whose content is chosen once and written to each.
    let (first, others) =
        args.to.split_first().ok_or_else(|| CommandError::usage_error("give --to TARGET"))?;
    let place = match first {
        ModelPushTarget::Place(place) => place.clone(),
        // Nodes' disks and images have the same layouts as a folder.
        ModelPushTarget::Nodes(_) | ModelPushTarget::Image(_) => {
            ModelDestination::Folder(PathBuf::new())
        }
    };
    let target = build_model_target(args, place);
    target
        .check_keys()
        .map_err(|fault| CommandError::usage_error(format!("--to {first}: {fault}")))?;
    let source = environment::open_source(&args.sources)?;
    let how = (&args.claim, &args.seeder);
    if let ModelPushTarget::Place(ModelDestination::Claim(_)) = first {
        let mut claims = Vec::new();
        for to in &args.to {
            match to {
                ModelPushTarget::Place(ModelDestination::Claim(claim))
                    if claims.contains(claim) => {}
                ModelPushTarget::Place(ModelDestination::Claim(claim)) => {
                    claims.push(claim.clone());
                }
                _ => return Err(build_several_targets_error()),
            }
        }
        return claim::push_to_claims(context, &source, &target, &claims, how, mode);
    }
    if !others.is_empty() {
        return Err(build_several_targets_error());
    }
    match first {
        ModelPushTarget::Nodes(path) => {
            node::push_to_nodes(context, &source, &target, path, how, mode)
        }
        ModelPushTarget::Image(name) => {
            image::push_image(context, &source, &target, name, &args.seeder, mode)
        }
        ModelPushTarget::Place(ModelDestination::Depot) => Err(CommandError::usage_error(
            "nothing can be written to a depot, it serves the models of its bundle or store",
        )
        .with_hint("serve the models with: gantry serve BUNDLE…")),
        ModelPushTarget::Place(_) => {
            let pushed = model_targets::push_models(
                context,
                &*source,
                &target,
                UnfitModelPolicy::Refused,
                mode,
            )?;
            print_push(context, mode, pushed.into(), |pushed| {
                model_targets::format_push(&pushed.report)
            })
        }
    }
}

fn build_several_targets_error() -> CommandError {
    CommandError::usage_error("only claims (pvc://…) can be given several times with --to")
        .with_hint("push to one target after the other")
}

/// The target as an entry of site.yaml would describe it.
fn build_model_target(args: &ModelsPushArgs, to: ModelDestination) -> ModelTarget {
    ModelTarget {
        to,
        layout: match args.layout {
            LayoutOption::HfCache => ModelLayout::HfCache,
            LayoutOption::Flat => ModelLayout::Flat,
            LayoutOption::Sie => ModelLayout::Sie,
            LayoutOption::Ollama => ModelLayout::Ollama,
        },
        models: args.models.clone(),
        files: args.files.map(|files| match files {
            CacheFilesOption::Links => CacheFileStyle::Links,
            CacheFilesOption::Plain => CacheFileStyle::Plain,
        }),
        endpoint: args.server.endpoint.clone(),
        ca: args.server.ca.clone(),
        plain_http: args.server.plain_http,
        create: args.claim.new_claim(),
        keep: args.keep,
        restart: false,
    }
}

fn verify_models(context: &CommandContext, args: &ModelsVerifyArgs) -> Result<()> {
    let place = match &args.place {
        ModelPushTarget::Place(ModelDestination::Claim(claim)) => {
            return claim::verify_claim(context, &args.seeder, claim);
        }
        ModelPushTarget::Nodes(path) => return node::verify_nodes(context, &args.seeder, path),
        ModelPushTarget::Image(_) => return Err(build_no_files_error(&args.place)),
        ModelPushTarget::Place(place) => place,
    };
    let opened = OpenModelTarget::open(place, &args.server.bucket_access(context))?;
    // Without records there is nothing to compare with, and an empty result would look like success.
    if opened.records()?.is_empty() {
        return Err(build_no_models_error(&place.to_string()));
    }
    let meter = context.ui.start_progress("verify");
    let checked = opened.verify(&*meter);
    if checked.is_ok() {
        meter.finish();
    } else {
        meter.clear();
    }
    let checked = checked?;
    print_verified(context, place.to_string(), &checked)?;
    require_undamaged(
        &place.to_string(),
        |file| opened.display_path(file).display().to_string(),
        &checked,
    )
}

fn list_models(context: &CommandContext, args: &ModelsListArgs) -> Result<()> {
    let place = match &args.place {
        ModelPushTarget::Place(ModelDestination::Claim(claim)) => {
            return claim::list_claim_models(context, &args.seeder, claim);
        }
        ModelPushTarget::Nodes(_) | ModelPushTarget::Image(_) => {
            return Err(build_no_files_error(&args.place));
        }
        ModelPushTarget::Place(place) => place,
    };
    let opened = OpenModelTarget::open(place, &args.server.bucket_access(context))?;
    let records = opened.records()?;
    print_records(context, place.to_string(), &records)
}

fn build_no_files_error(place: &ModelPushTarget) -> CommandError {
    CommandError::usage_error(format!("{place}: this command cannot read files there"))
        .with_hint("use gantry models verify for nodes' disks; an image is verified by its digest when it is pulled")
}
