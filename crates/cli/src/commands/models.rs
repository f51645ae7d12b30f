//! `gantry models push`, `verify` and `ls`: models in folders, buckets, a cluster's claims, on nodes'
//! disks, and as images.

mod claim;
mod image;
mod node;
mod pod;
mod target;

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use land::models::bucket::{Access, Http};
use land::models::{Checked, Record, Unfit};
use types::ByteSize;
use types::destination::Destination;
use types::site::{ModelFiles, ModelLayout, ModelTarget};

use self::target::Target;
use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::place::{self, Mode, Opened};
use crate::{ui, world};

/// Write models where programs read them (folders, buckets, claims), verify and list them.
#[derive(Subcommand)]
pub(crate) enum Command {
    Push(PushArgs),
    Verify(VerifyArgs),
    Ls(LsArgs),
    #[command(hide = true)]
    Hold(pod::HoldArgs),
    #[command(hide = true)]
    Receive(pod::ReceiveArgs),
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
pub(crate) struct PushArgs {
    /// Bundle files, folders of bundle files, the .gantry.json beside them, or one store folder.
    #[arg(required = true, value_name = "BUNDLE")]
    sources: Vec<PathBuf>,
    /// The target: a folder; a bucket with a prefix (s3://bucket/prefix, gs://…, az://container/prefix);
    /// a claim (pvc://NAMESPACE/CLAIM[/FOLDER], may be given several times); the nodes' own disks
    /// (node:///FOLDER[?selector=KEY=VALUE&namespace=NAME]); an image (image://HOST/PATH:TAG).
    #[arg(long, value_name = "TARGET", required = true)]
    to: Vec<Target>,
    /// The layout of the files at the target.
    #[arg(long, value_name = "LAYOUT", default_value = "hf-cache")]
    layout: Layout,
    /// How a Hugging Face cache in a folder stores its files [default: links].
    #[arg(long, value_name = "FILES")]
    files: Option<Files>,
    /// Write only this model (an id or a reference); may be given several times [default: all].
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Keep this many revisions of each written model, including the new one, and delete older ones
    /// [default: keep all].
    #[arg(long, value_name = "N")]
    keep: Option<NonZeroU16>,
    #[command(flatten)]
    server: Server,
    /// Print what would be written, without writing it.
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    claim: claim::ClaimArgs,
    #[command(flatten)]
    seeder: claim::SeederArgs,
}

/// How to connect to a bucket's server.
#[derive(clap::Args)]
struct Server {
    /// The bucket's server, https://host[:port] [default: as the environment says, else the cloud's own].
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// A PEM file with the CA certificate of the bucket's server.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Connect to the bucket's server by plain HTTP. Loopback addresses need no option for that.
    #[arg(long)]
    plain_http: bool,
}

impl Server {
    fn access(&self) -> Access {
        Access {
            endpoint: self.endpoint.clone(),
            ca: self.ca.iter().cloned().collect(),
            http: if self.plain_http { Http::Allowed } else { Http::Refused },
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Layout {
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
enum Files {
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
  gantry models verify /mnt/models --output json | jq .bad")]
pub(crate) struct VerifyArgs {
    /// The target: a folder, a bucket with its prefix, a claim, or the nodes' disks, written as for push.
    #[arg(value_name = "TARGET")]
    place: Target,
    #[command(flatten)]
    server: Server,
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
pub(crate) struct LsArgs {
    /// The target: a folder, a bucket with its prefix, or a claim, written as for push.
    #[arg(value_name = "TARGET")]
    place: Target,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    seeder: claim::SeederArgs,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<()> {
    match command {
        Command::Push(args) => push(context, args),
        Command::Verify(args) => verify(context, args),
        Command::Ls(args) => ls(context, args),
        Command::Hold(args) => pod::hold(args),
        Command::Receive(args) => pod::receive(args),
    }
}

fn push(context: &Context, args: &PushArgs) -> Result<()> {
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Put };
    // Several targets are supported for claims only, whose content is chosen once and written to each.
    let (first, others) =
        args.to.split_first().ok_or_else(|| CommandError::usage("give --to TARGET"))?;
    let place = match first {
        Target::Place(place) => place.clone(),
        // Nodes' disks and images have the same layouts as a folder.
        Target::Nodes(_) | Target::Image(_) => Destination::Folder(PathBuf::new()),
    };
    let target = wanted(args, place);
    target.check().map_err(|fault| CommandError::usage(format!("--to {first}: {fault}")))?;
    let source = world::source(&args.sources)?;
    let how = (&args.claim, &args.seeder);
    if let Target::Place(Destination::Claim(_)) = first {
        let mut claims = Vec::new();
        for to in &args.to {
            match to {
                Target::Place(Destination::Claim(claim)) if claims.contains(claim) => {}
                Target::Place(Destination::Claim(claim)) => claims.push(claim.clone()),
                _ => return Err(several()),
            }
        }
        return claim::push(context, &source, &target, &claims, how, mode);
    }
    if !others.is_empty() {
        return Err(several());
    }
    match first {
        Target::Nodes(path) => node::push(context, &source, &target, path, how, mode),
        Target::Image(name) => image::push(context, &source, &target, name, &args.seeder, mode),
        Target::Place(Destination::Depot) => Err(CommandError::usage(
            "nothing can be written to a depot, it serves the models of its bundle or store",
        )
        .hint("serve the models with: gantry serve BUNDLE…")),
        Target::Place(_) => {
            let pushed = place::put(context, &*source, &target, Unfit::Refused, mode)?;
            context.ui.result(&pushed, place::print)
        }
    }
}

fn several() -> CommandError {
    CommandError::usage("only claims (pvc://…) can be given several times with --to")
        .hint("push to one target after the other")
}

/// The target as an entry of site.yaml would describe it.
fn wanted(args: &PushArgs, to: Destination) -> ModelTarget {
    ModelTarget {
        to,
        layout: match args.layout {
            Layout::HfCache => ModelLayout::HfCache,
            Layout::Flat => ModelLayout::Flat,
            Layout::Sie => ModelLayout::Sie,
            Layout::Ollama => ModelLayout::Ollama,
        },
        models: args.models.clone(),
        files: args.files.map(|files| match files {
            Files::Links => ModelFiles::Links,
            Files::Plain => ModelFiles::Plain,
        }),
        endpoint: args.server.endpoint.clone(),
        ca: args.server.ca.clone(),
        plain_http: args.server.plain_http,
        create: args.claim.made(),
        keep: args.keep,
    }
}

fn verify(context: &Context, args: &VerifyArgs) -> Result<()> {
    let place = match &args.place {
        Target::Place(Destination::Claim(claim)) => {
            return claim::verify(context, &args.seeder, claim);
        }
        Target::Nodes(path) => return node::verify(context, &args.seeder, path),
        Target::Image(_) => return Err(no_files(&args.place)),
        Target::Place(place) => place,
    };
    let opened = Opened::new(context, place, args.server.access())?;
    // Without records there is nothing to compare with, and an empty result would look like success.
    if opened.records()?.is_empty() {
        return Err(nothing(&place.to_string()));
    }
    let meter = context.ui.progress("verify");
    let checked = opened.verify(&*meter);
    if checked.is_ok() {
        meter.finish();
    } else {
        meter.clear();
    }
    let checked = checked?;
    context.ui.result(&checked, print_checked)?;
    judged(&place.to_string(), |file| opened.shown(file).display().to_string(), &checked)
}

fn print_checked(checked: &Checked) -> String {
    let is_bad = |name: &str| checked.bad.iter().any(|bad| bad.model == name);
    let rows = checked.models.iter().map(|(name, files)| {
        let state = if is_bad(name) { "damaged" } else { "ok" };
        [name.clone(), files.to_string(), state.to_owned()]
    });
    ui::table(["model", "files", ""], rows.collect())
}

/// Fails if files are damaged. `shown` turns a path in the target into the one to show.
fn judged(to: &str, shown: impl Fn(&Path) -> String, checked: &Checked) -> Result<()> {
    let Some(first) = checked.bad.first() else { return Ok(()) };
    let all: Vec<String> =
        checked.bad.iter().map(|bad| format!("{}: {}", shown(&bad.path), bad.fault)).collect();
    Err(CommandError::new(Kind::Integrity, all.join("\n")).hint(format!(
        "write the model again: gantry models push BUNDLE… --to {to} --model {}",
        first.model.split('@').next().unwrap_or(&first.model)
    )))
}

fn ls(context: &Context, args: &LsArgs) -> Result<()> {
    let place = match &args.place {
        Target::Place(Destination::Claim(claim)) => return claim::ls(context, &args.seeder, claim),
        Target::Nodes(_) | Target::Image(_) => return Err(no_files(&args.place)),
        Target::Place(place) => place,
    };
    let opened = Opened::new(context, place, args.server.access())?;
    let records = opened.records()?;
    context.ui.result(&records, |records| print_records(records))
}

fn print_records(records: &[Record]) -> String {
    let rows = records.iter().map(|record| {
        let size: u64 = record.files.values().map(|file| file.size).sum();
        [record.name.clone(), record.files.len().to_string(), ByteSize(size).to_string()]
    });
    ui::table(["model", "files", "size"], rows.collect())
}

fn nothing(place: &str) -> CommandError {
    CommandError::usage(format!("{place}: no models that Gantry wrote"))
        .hint("write models with: gantry models push BUNDLE… --to TARGET; only those are recorded")
}

fn no_files(place: &Target) -> CommandError {
    CommandError::usage(format!("{place}: this command cannot read files there"))
        .hint("use gantry models verify for nodes' disks; an image is verified by its digest when it is pulled")
}
